import math

import pytest

from autoseg.networks.patches import window_starts
from autoseg.records.configuration import MemoryEstimate
from autoseg.stages.planning import compare, forecast, make_plan
from autoseg.stages.planning.forecasting import corrected, count_passes, rough
from tests.stages.planning.examples import device, hanseg_like, hippocampus_like, linear_cost, preset

PLAN = make_plan(hippocampus_like(), [preset()], device(), cost=linear_cost)


def test_seconds_and_hours_follow_from_operations_and_speed():
    found = forecast(PLAN, 1e13, folds=5)
    item, entry = PLAN.configuration("unet_3d"), found.configurations[0]
    assert entry.configuration == "unet_3d"
    assert entry.step_seconds == pytest.approx(rough(item, 1e13, "cuda"), rel=0.05)
    assert entry.step_seconds >= item.memory.step_flops / 1e13
    assert entry.steps == 250_000
    assert entry.fold_hours == pytest.approx(entry.step_seconds * 250_000 / 3600, rel=0.1)
    assert found.lineup_hours == pytest.approx(5 * sum(one.fold_hours for one in found.configurations), rel=0.1)


def test_a_budget_bounds_the_steps():
    found = forecast(PLAN, 1e12, folds=5, minutes=60)
    assert found.lineup_hours == pytest.approx(0.9, rel=0.1)


def test_held_out_cases_are_predicted_too():
    before, after = forecast(PLAN, 1e12, folds=5), forecast(PLAN, 1e12, folds=5, cases=200)
    item, entry = PLAN.configuration("unet_3d"), after.configurations[0]
    each = count_passes(item) * entry.step_seconds / item.batch_size / 3
    assert entry.held_out_hours == pytest.approx(40 * each / 3600, rel=0.1)
    hours = sum(5 * (one.fold_hours + one.held_out_hours) for one in after.configurations)
    assert after.lineup_hours == pytest.approx(hours, rel=0.1)
    assert [one.held_out_hours for one in before.configurations] == [0, 0]
    faster = corrected(after, "unet_3d", entry.step_seconds / 2, steps=entry.steps).configurations[0]
    assert faster.held_out_hours == pytest.approx(entry.held_out_hours / 2, rel=0.1)


def test_passes_are_counted_as_windows_are_laid():
    shape, patch = (50, 100, 37), (32, 32, 40)
    flat = {"mirror_axes": (), "median_shape": shape, "patch_shape": patch}
    item = PLAN.configuration("unet_3d").model_copy(update=flat)
    starts = [
        math.prod(len(window_starts(max(size, edge), edge, step)) for size, edge in zip(seen, patch, strict=True))
        for seen, step in [(shape, 0.5), *[(shape, 1.0)] * 7, ((44, 88, 33), 1.0), ((56, 112, 41), 1.0)]
    ]
    assert count_passes(item) == sum(starts)
    flipped = count_passes(item.model_copy(update={"mirror_axes": (1, 2)}))
    assert flipped == sum(starts) + 3 * starts[0]


def test_a_step_that_computes_nothing_still_moves_bytes_calls_operators_and_makes_a_batch():
    item = PLAN.configuration("unet_3d")

    def taken(flops=0.0, activations=0, **more):
        memory = MemoryEstimate(peak_bytes=12 * 1000 + activations, parameters=1000, step_flops=flops)
        return rough(item.model_copy(update={"memory": memory, **more}), 1e11, "cpu")

    least = taken()
    layers = sum(item.architecture.arguments["blocks"]) + sum(item.architecture.arguments["decoder_blocks"])
    making = item.batch_size * (5e-4 + 8e-8 * math.prod(item.patch_shape))
    updating = 12 * 1000 * 30 / 1e11
    assert least == pytest.approx(5e-5 * (150 + 20 * layers) + making + updating)
    assert taken(flops=1e11) - least == pytest.approx(1)
    assert taken(activations=2 * 10**8) - least == pytest.approx(1)
    assert taken(flops=1e11, activations=10**8) - least == pytest.approx(1), "the slower of the two counts"
    assert taken(batch_size=2 * item.batch_size) - least == pytest.approx(making)


def test_the_forecast_is_no_part_of_the_plan():
    assert forecast(PLAN, 1e12) != forecast(PLAN, 2e12)
    assert "step_seconds" not in PLAN.to_json()


def test_equal_plans_differ_in_nothing():
    assert compare(PLAN, PLAN) == ()


def test_only_what_differs_is_shown_with_both_reasons():
    more = make_plan(hanseg_like(), [preset()], device(24), cost=linear_cost)
    less = make_plan(hanseg_like(), [preset()], device(8), cost=linear_cost)
    found = {item.what: item for item in compare(less, more)}
    assert "unet_3d.patch_shape" in found
    assert "unet_3d.axis_order" not in found
    row = found["unet_3d.patch_shape"].as_row()
    assert row["first"] != row["second"]
    assert row["first"].startswith(f"{found['unet_3d.patch_shape'].first.value}: ")


def test_two_presets_are_matched_by_configuration():
    other = make_plan(hippocampus_like(), [preset("wide")], device(24), cost=linear_cost)
    for item in compare(PLAN, other):
        assert not item.what.startswith(("unet", "wide"))
    assert compare(PLAN, make_plan(hippocampus_like(), [preset("wide")], device(), cost=linear_cost)) == ()


def test_a_decision_of_one_plan_alone_is_shown():
    cascade = make_plan(hanseg_like(), [preset()], device(4), cost=linear_cost)
    found = {item.what: item for item in compare(PLAN, cascade)}
    assert found["unet_3d_cascade.patch_shape"].first is None
    assert found["unet_3d_cascade.patch_shape"].as_row()["first"] == "-"


def test_a_calibration_gives_the_seconds_of_a_step():
    found = forecast(PLAN, 1e12, step_seconds={"unet_3d": 0.5})
    entries = {item.configuration: item for item in found.configurations}
    assert entries["unet_3d"].step_seconds == 0.5
    assert entries["unet_2d"].step_seconds == forecast(PLAN, 1e12).configurations[1].step_seconds
    assert found.calibrated
    assert not forecast(PLAN, 1e12).calibrated


def test_a_measured_pace_corrects_its_own_configuration_and_the_hours_of_the_others():
    before = forecast(PLAN, 1e12, step_seconds={"unet_3d": 0.5, "unet_2d": 0.1})
    after = corrected(before, "unet_3d", 1.0, steps=250_000)
    mine, other = after.configurations
    assert (mine.step_seconds, mine.expected_step_seconds) == (1.0, 0.5)
    assert other == before.configurations[1]
    assert after.lineup_hours == pytest.approx(2 * before.lineup_hours, rel=0.1), "all are twice as slow as expected"
    again = corrected(after, "unet_3d", 0.8, steps=250_000)
    assert again.configurations[0].expected_step_seconds == 0.5, "what was expected first is kept"
    assert corrected(before, "other_3d", 9.0, steps=1) == before
