"""Activation checkpointing: only where a patch would otherwise see less than a quarter of the median image."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.stages.planning import make_plan
from autoseg.stages.planning.topology import shrinking
from tests.stages.planning.examples import Step, device, fingerprint, hanseg_like, hippocampus_like, linear_cost, preset


def halved_by_checkpointing(architecture, recipe, patch_shape, batch_size, **more):
    step = linear_cost(architecture, recipe, patch_shape, batch_size, **more)
    fixed = 300 * 2**20
    saved = 0.4 if architecture.checkpointing else 1.0
    return Step(int(fixed + saved * (step.peak_bytes - fixed)), step.parameters, step.flops)


def full(found, memory_gb, **planning):
    plan = make_plan(found, [preset(**planning)], device(memory_gb), cost=halved_by_checkpointing)
    told = {item.what: item.because for item in plan.decisions}
    return plan.configuration("unet_3d"), told


def test_a_patch_that_sees_enough_keeps_its_activations():
    item, told = full(hippocampus_like(), 8)
    assert not item.architecture.checkpointing
    assert "unet_3d.architecture.checkpointing" not in told


def test_a_patch_that_sees_too_little_grows_to_the_quarter_and_no_further():
    item, told = full(hanseg_like(), 6)
    floor = math.prod(item.median_shape) / 4
    assert item.architecture.checkpointing
    assert item.batch_size == 2, "recomputing buys patch, not batch"
    assert math.prod(item.patch_shape) < 1.6 * floor
    assert "a third more time" in told["unet_3d.architecture.checkpointing"]


def test_where_nothing_fits_otherwise_activations_are_recomputed():
    *_, least = shrinking((1, 1, 1), (12, 12, 12))
    between = 300 * 2**20 + 0.7 * 1200 * 2 * least.voxels
    item, told = full(fingerprint(30, (12, 12, 12)), (between / 2**30 + 1) / 0.85)
    assert item.architecture.checkpointing
    assert "leave no room" in told["unet_3d.architecture.checkpointing"]


def test_a_patch_by_hand_too_large_for_kept_activations_is_recomputed():
    item, told = full(hanseg_like(), 6, patch_shape=(96, 192, 192), batch_size=2)
    assert item.architecture.checkpointing
    assert "set by hand" in told["unet_3d.architecture.checkpointing"]


def test_conformance_mode_keeps_activations():
    item, _ = full(hanseg_like(), 8, conformance=(560e6, 85e6))
    assert not item.architecture.checkpointing
    assert item.patch_shape == (96, 128, 128)


sizes = st.integers(30, 300)


@settings(max_examples=15, deadline=None)
@given(st.tuples(sizes, sizes, sizes), st.tuples(st.floats(3, 40), st.floats(3, 40)))
def test_more_memory_never_plans_less_with_recomputing_either(shape, memories):
    less, more = (full(fingerprint(30, shape), memory)[0] for memory in sorted(memories))
    assert math.prod(more.patch_shape) >= math.prod(less.patch_shape)
    if more.patch_shape == less.patch_shape:
        assert more.batch_size >= less.batch_size


def test_a_network_that_recomputing_does_not_shrink_keeps_its_activations():
    plan = make_plan(hanseg_like(), [preset()], device(6), cost=linear_cost)
    assert not plan.configuration("unet_3d").architecture.checkpointing
    assert math.prod(plan.configuration("unet_3d").patch_shape) < math.prod((180, 300, 300)) / 4


@pytest.mark.parametrize("memory_gb", [6, 12])
def test_a_low_resolution_is_planned_where_recomputing_does_not_reach_the_quarter(memory_gb):
    plan = make_plan(fingerprint(30, (500, 500, 500)), [preset()], device(memory_gb), cost=halved_by_checkpointing)
    coarse = plan.configuration("unet_3d_lowres")
    assert not coarse.architecture.checkpointing
