import math

import numpy as np
import pytest

from autoseg.stages.evaluating.ranking import Ranking, Scheme, rank

NAN = math.nan


def ranked(*tables: list[float], patients: list[str] | None = None, scheme: Scheme = "mean_then_rank") -> Ranking:
    """A ranking of models a, b, ... from one figure a case each."""
    figures = np.array(tables, float)[:, :, None]
    names = "abcdef"[: len(tables)]
    cases = patients or [str(i) for i in range(figures.shape[1])]
    return rank(figures, names, cases, metric="dice", scheme=scheme)


def order(found: Ranking) -> list[tuple[str, int]]:
    return [(model.name, model.rank) for model in found.models]


def test_the_two_ways_may_disagree():
    # b loses a little in four of five patients, and wins a lot in the fifth.
    a, b = [0.9, 0.9, 0.9, 0.9, 0.1], [0.8, 0.8, 0.8, 0.8, 0.9]
    means = ranked(a, b)
    assert order(means) == [("b", 1), ("a", 2)]
    assert [model.value for model in means.models] == pytest.approx([0.82, 0.74])
    ranks = ranked(a, b, scheme="rank_then_mean")
    assert order(ranks) == [("a", 1), ("b", 2)]
    assert [model.value for model in ranks.models] == pytest.approx([1.2, 1.8])


def test_who_always_wins_is_first_in_every_resample():
    found = ranked([0.9] * 6, [0.8] * 6, [0.7] * 6)
    assert [model.shares for model in found.models] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert found.agreement == 1


def test_shares_are_those_of_the_draws():
    # Five patients; b wins in one by so much that it is first whenever that one is drawn: 1 - (4/5)^5 = 67 %.
    found = ranked([0.5] * 5, [0.49, 0.49, 0.49, 0.49, 1.0])
    assert order(found) == [("b", 1), ("a", 2)]
    assert found.models[0].shares[0] == pytest.approx(1 - 0.8**5, abs=0.05)
    assert found.agreement == pytest.approx(2 * found.models[0].shares[0] - 1)


def test_equal_models_share_the_better_rank():
    found = ranked([0.5] * 5, [0.5] * 5, [0.4] * 5)
    assert order(found) == [("a", 1), ("b", 1), ("c", 3)]
    assert [model.shares for model in found.models] == [(1, 0, 0), (1, 0, 0), (0, 0, 1)]


def test_a_patient_with_many_scans_weighs_as_one():
    a, b = [0.9, 0.9, 0.9, 0.1], [0.6, 0.6, 0.6, 0.6]
    assert order(ranked(a, b))[0][0] == "a"
    assert order(ranked(a, b, patients=["p", "p", "p", "q"]))[0][0] == "b"


def test_what_one_model_has_no_figure_for_counts_for_none():
    found = ranked([NAN, 0.5, 0.5], [0.1, 0.6, 0.6])
    assert (found.patients, order(found)) == (2, [("b", 1), ("a", 2)])


def test_four_patients_give_no_shares():
    found = ranked([0.9] * 4, [0.8] * 4)
    assert [model.shares for model in found.models] == [(), ()]
    assert math.isnan(found.agreement)
    assert Ranking.parse(found.to_json(), file="").to_json() == found.to_json()
