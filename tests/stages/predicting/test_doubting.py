from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from autoseg.stages import predicting
from autoseg.stages.predicting.doubting import doubt_of, predict_folds, together
from autoseg.stages.predicting.fields import Member, Options, predict_fields
from tests.stages.predicting.test_fields import LABELS, Position, Threshold, image, member

PLAIN = Options(mirror=False)


def of_folds(*networks: torch.nn.Module) -> Member:
    first = member(networks[0])
    return replace(first, networks=networks, keys=tuple(f"{first.name}/fold_{k}" for k in range(len(networks))))


def test_the_folds_together_are_what_predicts_without_doubt() -> None:
    both = of_folds(Threshold(), Position())
    folds = predict_folds(image(), [both], case="a", options=PLAIN)
    (whole,) = predict_fields(image(), [both], case="a", options=PLAIN)
    assert len(folds[0]) == 2
    np.testing.assert_allclose(together(folds)[0].array, whole.array, atol=1e-5)


def test_doubt_does_not_change_the_labels() -> None:
    both = of_folds(Threshold(), Threshold())
    plain = predicting.predict_scan(image(), [both], case="a", labels=LABELS)
    doubted = predicting.predict_scan(image(), [both], case="a", labels=LABELS, temperature=1.0)
    np.testing.assert_array_equal(plain.labels.array, doubted.labels.array)
    assert plain.doubt is None
    assert doubted.doubt is not None
    assert doubted.doubt.entropy.shape == doubted.labels.array.shape
    np.testing.assert_allclose(doubted.doubt.disagreement, 0, atol=1e-6)


def test_folds_that_differ_disagree_and_a_higher_temperature_doubts_more() -> None:
    folds = predict_folds(image(), [of_folds(Threshold(), Position())], case="a", options=PLAIN)
    cool, warm = (doubt_of(folds, temperature=value, output="softmax") for value in (1.0, 3.0))
    assert cool.disagreement.max() > 0.05
    assert warm.entropy.mean() > cool.entropy.mean()
    assert (cool.disagreement <= cool.entropy + 1e-6).all()


def test_a_member_with_fewer_folds_speaks_in_every_voice() -> None:
    members = [of_folds(Threshold(), Position()), member(Threshold())]
    folds = predict_folds(image(), members, case="a", options=PLAIN)
    assert [len(fields) for fields in folds] == [2, 1]
    assert doubt_of(folds, temperature=1.0, output="softmax").disagreement.max() > 0
