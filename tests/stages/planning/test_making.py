import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.records.errors import ResourceError, UsageError
from autoseg.records.plan import Plan
from autoseg.records.preset import NetworkPreset, Preset
from autoseg.stages.planning import Situation, choose_presets, make_plan
from tests.stages.planning.examples import (
    Step,
    device,
    fingerprint,
    hanseg_like,
    hippocampus_like,
    linear_cost,
    preset,
)


def plan_of(found, memory_gb=8.0, **more):
    return make_plan(found, [preset()], device(memory_gb), cost=linear_cost, **more)


def test_same_records_give_the_same_bytes():
    assert plan_of(hanseg_like()).to_json() == plan_of(hanseg_like()).to_json()


def test_a_plan_survives_its_file():
    plan = plan_of(hanseg_like())
    assert Plan.parse(plan.to_json(), file="plan.json") == plan


def test_every_step_that_was_planned_fits_the_memory():
    plan = plan_of(hanseg_like(), 6.0)
    for item in plan.configurations:
        assert item.memory.peak_bytes <= plan.device.budget_bytes()
        *patch, batch, peak = item.memory.points[-1]
        assert (tuple(patch), batch, peak) == (item.patch_shape, item.batch_size, item.memory.peak_bytes)


sizes = st.integers(8, 300)
spacings = st.floats(0.4, 5)
gigabytes = st.floats(3, 40)


@settings(max_examples=40, deadline=None)
@given(st.tuples(sizes, sizes, sizes), st.tuples(spacings, spacings, spacings), st.tuples(gigabytes, gigabytes))
def test_more_memory_never_plans_a_smaller_patch_or_batch(shape, spacing, memories):
    found = fingerprint(30, shape, spacing)
    little, much = (plan_of(found, memory) for memory in sorted(memories))
    for name in ("unet_2d", "unet_3d"):
        less, more = little.configuration(name), much.configuration(name)
        assert math.prod(more.patch_shape) >= math.prod(less.patch_shape)
        if more.patch_shape == less.patch_shape:
            assert more.batch_size >= less.batch_size


def test_every_number_says_why():
    plan = plan_of(hanseg_like())
    told = {item.what for item in plan.decisions}
    for configuration in plan.configurations:
        for field in ("axis_order", "spacing_mm", "patch_shape", "batch_size", "normalizations", "mirror_axes"):
            assert f"{configuration.name}.{field}" in told
    assert all(item.because for item in plan.decisions)
    assert len(told) == len(plan.decisions), "nothing is decided twice"


def test_two_and_three_dimensions_share_their_preprocessed_cases_where_spacings_agree():
    plan = plan_of(hippocampus_like())
    assert plan.configuration("unet_2d").data_key == plan.configuration("unet_3d").data_key
    mixed = fingerprint(facts=[((30, 60, 60), (float(z), 1.0, 1.0)) for z in (2, 2, 3)])
    plan = plan_of(mixed)
    assert plan.configuration("unet_2d").spacing_mm == (None, 1.0, 1.0)
    assert plan.configuration("unet_2d").data_key != plan.configuration("unet_3d").data_key


def test_2d_data_get_a_2d_network_only():
    plan = plan_of(fingerprint(20, (1, 256, 256), (1, 0.5, 0.5)))
    assert [item.name for item in plan.configurations] == ["unet_2d"]
    assert plan.configurations[0].patch_shape[0] == 1


def test_a_cascade_follows_its_first_stage_and_takes_one_channel_a_structure():
    plan = plan_of(hanseg_like(), 4.0)
    order = [entry.configuration for entry in plan.lineup]
    assert order.index("unet_3d_cascade") > order.index("unet_3d_lowres")
    assert plan.configuration("unet_3d_cascade").architecture.input_channels == 1 + 30
    assert sum(entry.share for entry in plan.lineup) == pytest.approx(1)


def test_a_short_budget_takes_a_narrow_network_and_a_small_batch():
    quick = device(8, kind="cpu", flops_per_second=2e11)
    plan = make_plan(hippocampus_like(200), [preset()], quick, cost=linear_cost, minutes=30)
    full, flat = plan.configuration("unet_3d"), plan.configuration("unet_2d")
    assert full.architecture.arguments["features"][0] == 16
    assert full.recipe.optimizer == "adamw"
    assert full.batch_size == 2
    assert full.patch_shape == (40, 56, 40), "the patch stays: one step is far below 1/200 of the run"
    assert flat.batch_size >= 8
    told = {item.what: item.because for item in plan.decisions}
    assert "a narrow network that sees more samples" in told["unet.features"]
    assert "in a run of 4.32 minutes a batch of 7" in told["unet_3d.batch_size"]


def test_no_step_takes_more_than_a_two_hundredth_of_a_run():
    slow = device(8, kind="cpu", flops_per_second=2e11)
    plan = make_plan(hanseg_like(), [preset()], slow, cost=linear_cost, minutes=60)
    for entry in plan.lineup:
        seconds = 60 * 60 * 0.9 * entry.share / 5
        step_seconds = plan.configuration(entry.configuration).memory.step_flops / 2e11
        assert step_seconds <= seconds / 200
    assert "unet_3d_cascade" not in [entry.configuration for entry in plan.lineup]


def test_a_long_budget_changes_nothing():
    fast = device(8, flops_per_second=1e14)
    long = make_plan(hippocampus_like(), [preset()], fast, cost=linear_cost, minutes=60 * 24 * 7)
    free = make_plan(hippocampus_like(), [preset()], fast, cost=linear_cost)
    assert long.configurations == free.configurations


def test_a_dry_run_that_asks_for_more_than_the_line_shrinks_the_batch():
    def jumps(architecture, recipe, patch_shape, batch_size, **more):
        step = linear_cost(architecture, recipe, patch_shape, batch_size, **more)
        surprise = 2**30 if tuple(patch_shape) == (64, 64, 64) else 0
        return Step(step.peak_bytes + surprise, step.parameters, step.flops)

    found = fingerprint(1000, (64, 64, 64))
    calm, surprised = (make_plan(found, [preset()], device(4), cost=cost) for cost in (linear_cost, jumps))
    assert surprised.configuration("unet_3d").batch_size < calm.configuration("unet_3d").batch_size
    assert surprised.configuration("unet_3d").memory.peak_bytes <= surprised.device.budget_bytes()


def test_numbers_by_hand_are_taken_and_named_so():
    chosen = preset(patch_shape=(30, 40, 50), batch_size=3, spacing_mm=(1.0, 1.0, 2.0))
    plan = make_plan(fingerprint(), [chosen], device(), cost=linear_cost)
    full = plan.configuration("unet_3d")
    assert full.axis_order == (2, 0, 1), "x is the coarsest now"
    assert full.batch_size == 3
    assert all(size >= wanted for size, wanted in zip(full.patch_shape, (50, 30, 40), strict=True))
    told = {item.what: item.because for item in plan.decisions}
    assert told["unet_3d.patch_shape"].startswith("set by hand")


def test_a_preset_may_plan_for_less_memory_than_there_is():
    small = make_plan(hanseg_like(), [preset(memory_gb=8)], device(80), cost=linear_cost)
    assert small.configurations == plan_of(hanseg_like(), 8).configurations
    assert small.device.memory_gb == 80


def test_two_presets_share_the_budget():
    plan = make_plan(hippocampus_like(), [preset("a"), preset("b")], device(), cost=linear_cost)
    assert sum(entry.share for entry in plan.lineup if entry.configuration.startswith("a_")) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_too_little_memory_says_what_is_needed_and_that_is_enough(kind):
    def planned(memory_gb):
        return make_plan(hippocampus_like(), [preset()], device(memory_gb, kind=kind), cost=linear_cost)

    with pytest.raises(
        ResourceError, match=r"preset unet: not even a patch of .* with batch 2 fits the .* GB"
    ) as caught:
        planned(0.2)
    needed = float(re.search(r"Give ([\d.]+) GB or more \(--memory-gb\)", str(caught.value))[1])
    assert needed > 0.2
    assert planned(needed).configurations
    with pytest.raises(ResourceError):
        planned(needed - 0.11)


def test_too_little_time_asks_for_no_memory():
    slowest = device(80, flops_per_second=1e3)
    with pytest.raises(ResourceError, match=r"in a step of .* seconds\. Give more time \(--hours\)"):
        make_plan(hippocampus_like(), [preset()], slowest, cost=linear_cost, minutes=1)


def test_a_network_that_cannot_do_2d_is_answered_with_those_that_can():
    deep = preset("deep")
    deep = deep.model_copy(update={"network": deep.network.model_copy(update={"dimensions": ("3d",)})})
    with pytest.raises(
        UsageError, match=r"^preset deep: the data are 2D, and 'network.dimensions' is \['3d'\].*: .*unet, .*vit_2d"
    ) as caught:
        make_plan(fingerprint(20, (1, 256, 256), (1, 0.5, 0.5)), [deep], device(), cost=linear_cost)
    assert "primus" not in str(caught.value)


def test_a_misspelt_argument_names_its_preset_and_the_nearest():
    wrong = preset("mine")
    network = wrong.network.model_copy(update={"kind": "mednext", "arguments": {"kernal": 5}})
    with pytest.raises(UsageError) as caught:
        make_plan(hippocampus_like(), [wrong.model_copy(update={"network": network})], device())
    sentence = "preset mine: network mednext: argument 'kernal' is unknown. Did you mean 'kernel'?"
    assert str(caught.value) == sentence


def test_what_was_tried_and_did_not_fit_is_said_with_its_memory():
    plan = plan_of(hanseg_like(), 8)
    told = {item.what: item.because for item in plan.decisions}
    assert plan.configuration("unet_3d").patch_shape == (96, 160, 160)
    # 300 MiB and two patches of 1200 bytes a voxel, where 5.8 GB are free.
    taken = (300 * 2**20 + 2 * 1200 * 112 * 160 * 160) / 2**30
    assert told["unet_3d.patch_shape"].endswith(f"; the next larger, (112, 160, 160), would take {taken:.3g} GB")
    assert (
        "a step takes 0.293 GB and 1.17 KB for each voxel of the batch (from 2 dry runs)"
        in told["unet_3d.memory.peak_bytes"]
    )
    whole = {item.what: item.because for item in plan_of(hippocampus_like(), 40).decisions}
    assert "next larger" not in whole["unet_3d.patch_shape"], "nothing larger was wanted"


def test_a_dry_run_that_refutes_the_line_is_what_is_said_of_the_larger_patch():
    def jumps(architecture, recipe, patch_shape, batch_size, **more):
        step = linear_cost(architecture, recipe, patch_shape, batch_size, **more)
        surprise = 9 * 2**30 if tuple(patch_shape) == (64, 64, 64) else 0
        return Step(step.peak_bytes + surprise, step.parameters, step.flops)

    plan = make_plan(fingerprint(1000, (64, 64, 64)), [preset()], device(8), cost=jumps)
    told = {item.what: item.because for item in plan.decisions}
    assert "the next larger, (64, 64, 64), would take 9." in told["unet_3d.patch_shape"]


def test_a_network_without_a_rule_of_shape_is_refused_with_those_that_have_one():
    other = Preset(name="x", about="", network=NetworkPreset(kind="perceptron"))
    with pytest.raises(UsageError, match="There are: attention_unet, deeplab_v3plus"):
        make_plan(hippocampus_like(), [other], device(), cost=linear_cost)


@pytest.mark.parametrize(("presets", "minutes"), [([], None), ([preset(), preset()], None), ([preset()], 0)])
def test_requests_without_meaning_are_refused(presets, minutes):
    with pytest.raises(UsageError):
        make_plan(hippocampus_like(), presets, device(), cost=linear_cost, minutes=minutes)


def slow(factor: float):
    """A calibration by which every step takes so much longer than its operations say at 1e12 a second."""
    return lambda configuration: factor * configuration.memory.step_flops / 1e12


def test_a_calibration_changes_a_plan_only_where_a_budget_is_given():
    free, calibrated = (
        make_plan(hippocampus_like(), [preset()], device(), cost=linear_cost, pace=pace) for pace in (None, slow(9))
    )
    assert free.to_json() == calibrated.to_json()
    fast = device(8, flops_per_second=1e12)
    quick, late = (
        make_plan(hippocampus_like(), [preset()], fast, cost=linear_cost, minutes=600, pace=slow(factor))
        for factor in (0.01, 10)
    )
    assert quick.configuration("unet_3d").architecture.arguments["features"][0] == 32
    assert late.configuration("unet_3d").architecture.arguments["features"][0] == 16


def test_a_preset_without_time_leaves_the_line_up_and_says_why():
    patient = preset("patient").model_copy(update={"short": None})
    quick = device(8, kind="cpu", flops_per_second=2e11)
    plan = make_plan(hippocampus_like(), [preset(), patient], quick, cost=linear_cost, minutes=60)
    assert plan.presets == ("unet",)
    assert sum(entry.share for entry in plan.lineup) == pytest.approx(1)
    told = {item.what: item for item in plan.decisions}
    assert told["patient.preset"].value == "left out"
    assert "too few for it to learn from (wanted 5000)" in told["patient.preset"].because
    rich = device(8, flops_per_second=1e14)
    both = make_plan(hippocampus_like(), [preset(), patient], rich, cost=linear_cost, minutes=6000)
    assert both.presets == ("unet", "patient")


def test_2d_networks_see_the_next_slices_where_slices_are_thick():
    thick = plan_of(fingerprint(20, (144, 266, 266), (3.0, 1.5, 1.5))).configuration("unet_2d")
    assert (thick.context_slices, thick.architecture.input_channels, thick.patch_shape[0]) == (1, 3, 1)
    even = plan_of(hippocampus_like()).configuration("unet_2d")
    assert (even.context_slices, even.architecture.input_channels) == (0, 1)
    told = {item.what: item for item in plan_of(hippocampus_like()).decisions}
    assert "1 x the finest spacing" in told["unet_2d.context_slices"].because


def test_what_was_set_by_hand_is_said():
    plan = make_plan(hippocampus_like(), [preset()], device(), cost=linear_cost, by_hand={"planning.batch_size": "3"})
    assert (plan.decisions[0].what, plan.decisions[0].value) == ("planning.batch_size", "3")
    assert plan.decisions[0].because == "set by hand"


@pytest.mark.parametrize(
    ("cases", "memory_gb", "kind", "minutes", "expected"),
    [
        (42, 24, "cuda", None, ("residual_unet_l",)),
        (260, 12, "cuda", None, ("residual_unet_m", "primus")),
        (260, 8, "cpu", None, ("unet",)),
        (260, 24, "cuda", 60, ("unet",)),
        (260, 24, "cuda", 60_000_000, ("residual_unet_l", "primus")),
    ],
)
def test_presets_are_chosen_by_data_device_and_budget(cases, memory_gb, kind, minutes, expected):
    def cost(architecture, recipe, patch_shape, batch_size, **more):
        voxels = math.prod(patch_shape) * batch_size
        return Step(int(2**28 + 1200 * voxels), 10**6, 1.4e6 * voxels)

    chosen_for = device(memory_gb, kind=kind, flops_per_second=1e12)
    names, decisions = choose_presets(Situation(hippocampus_like(cases), chosen_for, minutes, 5, cost, None))
    assert names == expected
    told = {item.what.removeprefix("presets."): item for item in decisions}
    assert all(told[name].value == "taken" for name in names)
    assert all(item.because for item in decisions)
