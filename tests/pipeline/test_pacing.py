"""What is shown as left of a training, from steps of invented lengths."""

from pathlib import Path

import pytest

from autoseg.pipeline import pacing
from autoseg.records.forecast import ConfigurationForecast, Forecast
from autoseg.records.model import ModelId
from autoseg.stages.training import Progress
from autoseg.storage import write_record
from autoseg.workspace import Workspace

EXPECTED = {"unet_2d": 0.1, "unet_3d": 0.4}
MODEL = ModelId(dataset="toy", plan="default", configuration="unet_2d", fold="0")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    work = Workspace.locate("toy", tmp_path)
    rows = tuple(
        ConfigurationForecast(configuration=name, step_seconds=seconds, steps=3600, fold_hours=seconds, folds=5)
        for name, seconds in EXPECTED.items()
    )
    found = Forecast(plan="default", device="cpu", flops_per_second=1e11, configurations=rows, lineup_hours=2.5)
    work.forecast_file("default").parent.mkdir(parents=True)
    write_record(work.forecast_file("default"), found)
    return work


def now(step: int, step_seconds: float, measured_steps: int | None = None) -> Progress:
    return Progress(
        model=MODEL,
        step=step,
        steps=1000,
        loss=1.0,
        step_seconds=step_seconds,
        wait_fraction=0.0,
        seconds_left=(1000 - step) * step_seconds,
        measured_steps=step if measured_steps is None else measured_steps,
    )


def rows(work: Workspace) -> dict[str, ConfigurationForecast]:
    return {item.configuration: item for item in work.forecast("default").configurations}


def test_the_forecast_follows_the_pace_after_twenty_steps_and_after_two_hundred(work):
    pacer, untouched = pacing.Pacer(work, "default", "unet_2d"), work.forecast("default")
    for step in range(1, 20):
        pacer.note(now(step, 9.0))
    assert work.forecast("default") == untouched
    for step in range(20, 200):
        pacer.note(now(step, 0.5 if step == 20 else 99.0))
    row = rows(work)["unet_2d"]
    assert (row.step_seconds, row.steps, row.expected_step_seconds, row.fold_hours) == (0.5, 1000, 0.1, 0.14)
    pacer.note(now(200, 0.6))
    row = rows(work)["unet_2d"]
    assert (row.step_seconds, row.expected_step_seconds) == (0.6, 0.1), "what was expected first is kept"


def test_steps_that_the_device_was_not_waited_for_correct_nothing(work):
    pacer, untouched = pacing.Pacer(work, "default", "unet_2d"), work.forecast("default")
    for step in range(1, 60):
        pacer.note(now(step, 0.001, measured_steps=0))
    assert work.forecast("default") == untouched
    pacer.note(now(60, 0.5, measured_steps=60))
    assert rows(work)["unet_2d"].step_seconds == 0.5


def test_runs_to_come_are_as_much_slower_than_expected_as_this_one(work):
    pacer = pacing.Pacer(work, "default", "unet_2d")
    later = [("unet_2d", None), ("unet_3d", None)]
    assert pacer.to_come(now(1, 0.2), later) == pytest.approx(1000 * (0.2 + 0.4)), "nothing is measured yet"
    pacer.note(now(20, 0.3))
    assert pacer.to_come(now(20, 0.3), later) == pytest.approx(1000 * (0.3 + 3 * 0.4))
    assert pacer.to_come(now(20, 0.3), [("unet_3d", 7.0), ("unheard_of", None)]) == pytest.approx(7 + 300)


def test_a_configuration_that_was_measured_keeps_its_own_pace(work):
    pacing.Pacer(work, "default", "unet_3d").note(now(20, 0.8))
    pacer = pacing.Pacer(work, "default", "unet_2d")
    pacer.note(now(20, 0.1))
    assert pacer.to_come(now(20, 0.1), [("unet_3d", None)]) == pytest.approx(800)


def test_without_a_forecast_all_runs_are_as_long_as_this_one(tmp_path):
    pacer = pacing.Pacer(Workspace.locate("toy", tmp_path), "default", "unet_2d")
    pacer.note(now(20, 0.3))
    assert pacer.to_come(now(20, 0.3), [("unet_3d", None)] * 2) == pytest.approx(600)


def test_predicting_takes_what_it_took_and_before_that_what_was_expected():
    assert pacing.held_out_seconds([10.0, 20.0], [1.0, 1.0, 1.0]) == 45
    assert pacing.held_out_seconds([], [1.0, 2.0]) == 3


def test_held_out_cases_are_expected_to_take_what_is_forecast_else_what_a_budget_keeps(work):
    runs = [("unet_2d", 90.0), ("unet_3d", 180.0), ("unet_3d", None)]
    older = pacing.forecast_held_out(work, "default")
    assert pacing.expected_held_out(older, runs) == pytest.approx([10, 20, 0])
    found = work.forecast("default")
    first, second = found.configurations
    known = first.model_copy(update={"held_out_hours": 0.01})
    write_record(work.forecast_file("default"), found.model_copy(update={"configurations": (known, second)}))
    assert pacing.expected_held_out(pacing.forecast_held_out(work, "default"), runs) == pytest.approx([36, 20, 0])
    assert pacing.forecast_held_out(work, "other") == {}
