"""Curves of every fold, and the reliability curve."""

from __future__ import annotations

import numpy as np

from autoseg.records.temperature import ReliabilityBin, TemperatureFit
from autoseg.stages.reporting import curves, figures
from autoseg.stages.training.history import Epoch
from tests.stages.reporting.test_figures import opened


def epoch(step: int, loss: float, dice: float) -> Epoch:
    return Epoch(epoch=step, step=step, loss=loss, rate=0.01, seconds=36.0, wait_fraction=0.0, samples=step, dice=dice)


def test_time_adds_up_over_the_epochs() -> None:
    *_, hours = curves._lines([epoch(1, 2.0, 0.1), epoch(2, 1.0, 0.2)])
    assert hours == ([1.0, 2.0], [0.01, 0.02])


def test_each_candidate_has_its_row_and_each_fold_its_line() -> None:
    run = (epoch(1, 2.0, 0.1), epoch(2, 1.0, float("nan")))
    one = opened(curves.training({"a": {"0": run}}))
    two = opened(curves.training({"a": {"0": run}, "b<script>$": {"0": run, "1": ()}}))
    assert two.shape[0] > 1.7 * one.shape[0]
    assert opened(curves.training({})).size


def test_the_reliability_curve_draws_both_states() -> None:
    def bins(off: float) -> tuple[ReliabilityBin, ...]:
        return tuple(ReliabilityBin(confidence=c, accuracy=c - off, voxels=100) for c in (0.5, 0.7, 0.9))

    fit = TemperatureFit(
        temperature=1.5, nll_before=1, nll_after=1, error_before=0.2, error_after=0.0, cases=3, voxels=300,
        bins_before=bins(0.2), bins_after=bins(0.0),
    )  # fmt: skip
    drawn = opened(curves.reliability(fit))
    for colour in (figures.colour(0), figures.INTERVAL):
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert ((drawn.astype(int) - wanted).__abs__().sum(-1) < 40).any()
    assert np.ptp(drawn) > 0
