from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.images.signs import ALL_SIGNS, SIGNS
from autoseg.images.steadiness import STEADINESS
from autoseg.records.configuration import Previous
from autoseg.records.markers import StoredField
from autoseg.records.volumes import LabelMap
from autoseg.stages import predicting
from autoseg.stages.predicting.fields import Member, Options
from autoseg.stages.predicting.steadying import steadiness
from autoseg.storage import read_record
from tests.stages.predicting.test_doubting import of_folds
from tests.stages.predicting.test_fields import GRID, LABELS, Position, Second, Threshold, drawn, image, member

PLAIN = Options(mirror=False)


def found(*members: Member) -> np.ndarray:
    return steadiness(image(), members, case="a", output="softmax", options=PLAIN)


def test_each_fold_is_a_voice_and_fewer_folds_start_again() -> None:
    alone, other = found(member(Threshold())), found(member(Position()))
    both = found(of_folds(Threshold(), Position()))
    assert both.shape == (2, 2, 6)
    np.testing.assert_array_equal(both, np.concatenate([alone, other]))
    mixed = found(replace(of_folds(Threshold(), Position()), weight=0.75), replace(member(Threshold()), weight=0.25))
    np.testing.assert_allclose(mixed[0], alone[0])
    np.testing.assert_allclose(mixed[1], 0.75 * other[0] + 0.25 * alone[0])


def test_a_held_out_case_keeps_what_a_new_scan_is_asked(tmp_path: Path) -> None:
    list(predicting.predict_held_out(member(Threshold()), [("a", image(), {})], labels=LABELS, folder=tmp_path,
                                     options=PLAIN))  # fmt: skip
    kept = read_record(tmp_path / "a.json", StoredField).steadiness
    prediction = predicting.predict_scan(
        image(), [member(Threshold())], case="other", labels=LABELS, options=PLAIN, temperature=1.0, steady=True
    )
    assert prediction.doubt is not None
    assert prediction.doubt.signs.shape == (1, 2, len(ALL_SIGNS))
    np.testing.assert_array_equal(prediction.doubt.signs[0, :, len(SIGNS) :], kept)
    assert np.abs(kept).min() > 0
    plain = predicting.predict_scan(image(), [member(Threshold())], case="a", labels=LABELS, temperature=1.0)
    assert plain.doubt is not None
    assert plain.doubt.signs.shape == (1, 2, len(SIGNS))


def test_an_older_record_of_a_held_out_case_has_none(tmp_path: Path) -> None:
    list(predicting.predict_held_out(member(Threshold()), [("a", image(), {})], labels=LABELS, folder=tmp_path,
                                     options=PLAIN))  # fmt: skip
    marker = read_record(tmp_path / "a.json", StoredField)
    assert marker.signs == STEADINESS
    text = StoredField.model_validate(marker.model_dump(exclude={"steadiness", "signs"})).to_json()
    older = StoredField.parse(text, file="")
    assert (older.steadiness, older.signs) == ((), ())


def test_a_second_stage_looks_again_at_the_scan_with_the_same_first_stage() -> None:
    second = member(Second())
    architecture = second.configuration.architecture.model_copy(update={"input_channels": 3})
    changes = {"previous": Previous(configuration="low"), "architecture": architecture}
    second = replace(second, configuration=second.configuration.model_copy(update=changes))
    previous = {"low": LabelMap(drawn(), GRID)}
    rows = steadiness(image(), [second], case="a", output="softmax", options=PLAIN, previous=previous)
    assert rows.shape == (1, 2, 6)
    assert (rows[0, 1, :3] == 0).all(), "structure 2 is never predicted"
    assert rows[0, 0, 2] > 0, "what the first stage called 2 is brighter than what is around it"
