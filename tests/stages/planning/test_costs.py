import math
import subprocess
import sys

import pytest

from autoseg.records.preset import NetworkPreset, Recipe
from autoseg.stages.planning import make_plan
from autoseg.stages.planning.clock import Clock, run_clock
from autoseg.stages.planning.costs import measure_curve, measure_line, meter, precision_of
from autoseg.stages.planning.networks import architecture
from autoseg.stages.planning.topology import design, pyramid
from tests.stages.planning.examples import Step, device, fingerprint, labels, linear_cost, preset


def network(topology):
    return architecture(NetworkPreset(kind="unet"), Recipe(), topology, labels=labels(), channels=1)


def test_four_dry_runs_tell_apart_what_grows_with_batch_patch_and_tokens():
    """Scores of tokens, activations of samples, what is done sample by sample, and the parameters."""
    topology = pyramid((1, 1, 1), (96, 96, 96), halvings=4, least=2)

    def cost(architecture, recipe, patch_shape, batch_size):
        voxels = math.prod(patch_shape)
        peak = 10**9 + 300 * voxels + batch_size * (1000 * voxels + 2e-5 * voxels**2)
        return Step(round(peak), 10**8, batch_size * (1e4 * voxels + 1e-2 * voxels**2))

    line = measure_curve(cost, network, Recipe(), topology)
    assert (line.fixed_bytes, line.once_bytes) == pytest.approx((1e9, 300), rel=1e-6)
    assert (line.voxel_bytes, line.square_bytes) == pytest.approx((1000, 2e-5), rel=1e-6)
    voxels = 192**3
    truth = cost(None, None, (192, 192, 192), 5)
    assert line.flops(voxels, 5) == pytest.approx(truth.flops)
    assert line.largest_batch(voxels, truth.peak_bytes + 1) == 5
    assert line.largest_batch(voxels, truth.peak_bytes - 1e6) == 4
    assert len(line.points) == 4


def test_two_dry_runs_give_the_line():
    topology = design((1, 1, 1), (64, 64, 64))
    line = measure_line(meter(linear_cost, device()), network(topology), Recipe(), topology)
    assert line.fixed_bytes == pytest.approx(300 * 2**20)
    assert line.voxel_bytes == pytest.approx(1200)
    assert line.largest_batch(10**6, 300 * 2**20 + 3.5 * 1200 * 10**6) == 3
    assert line.flops(10) == pytest.approx(1.4e7)


def test_each_step_is_measured_once():
    calls = []

    def counted(*arguments, **more):
        calls.append(arguments)
        return linear_cost(*arguments, **more)

    measure = meter(counted, device())
    topology = design((1, 1, 1), (64, 64, 64))
    for _ in range(3):
        measure_line(measure, network(topology), Recipe(), topology)
    assert len(calls) == 2


def test_a_patch_far_too_large_is_refused_without_a_dry_run():
    stages = set()

    def noted(architecture, *arguments, **more):
        if architecture.dimensions == 3:
            stages.add(len(architecture.arguments["strides"]))
        return linear_cost(architecture, *arguments, **more)

    found = fingerprint(10, (500, 500, 500))
    assert len(design((1, 1, 1), (256, 256, 256)).strides) == 7
    make_plan(found, [preset()], device(4), cost=noted)
    assert 7 not in stages, "the convolutions of 256^3 voxels alone are larger than the memory"


@pytest.mark.parametrize(
    ("wanted", "kind", "fast", "precision"),
    [
        ("auto", "cuda", True, "bfloat16"),
        ("auto", "cuda", False, "float16"),
        ("auto", "cpu", False, "float32"),
        ("float32", "cuda", True, "float32"),
    ],
)
def test_the_step_is_measured_in_the_precision_it_will_have(wanted, kind, fast, precision):
    profile = device(kind=kind).model_copy(update={"fast_bfloat16": fast})
    assert precision_of(Recipe(precision=wanted), profile) == precision


def test_a_run_gets_its_share_of_nine_tenths_of_the_budget():
    clock = run_clock(100, device(flops_per_second=1e9), share=0.5, folds=5)
    assert clock == Clock(seconds=540, flops_per_second=1e9)
    assert clock.longest_step_seconds == 2.7
    assert clock.allows(2.6e9)
    assert not clock.allows(2.8e9)


def test_without_a_measured_speed_time_decides_nothing():
    assert run_clock(100, device(), share=1, folds=5) is None
    assert run_clock(None, device(flops_per_second=1e9), share=1, folds=5) is None


def test_a_batch_shrinks_until_there_are_enough_steps_and_no_further():
    clock = Clock(seconds=100, flops_per_second=100, min_steps=500)

    def shorten(batch, dimensions):
        return clock.shorten(batch, "x", step_flops=lambda size: 4.0 * size, min_batch=2, dimensions=dimensions)[0]

    assert shorten(40, 3) == 5, "20 operations a step, 500 steps"
    assert shorten(40, 2) == 8, "a batch of slices keeps 8"
    assert shorten(4, 2) == 4


def test_planning_loads_no_torch_until_a_step_is_measured():
    code = "import sys, autoseg.stages.planning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_line_holds_for_the_real_network():
    memory = pytest.importorskip("autoseg.networks.memory")
    catalog = pytest.importorskip("autoseg.networks.catalog")
    topology = design((1, 1, 1), (40, 56, 40))
    measure = meter(memory.measure_step, device())
    built = network(topology)
    line = measure_line(measure, built, Recipe(), topology)
    step = measure(built, Recipe(), (80, 112, 80), 3)
    expected = line.fixed_bytes + line.voxel_bytes * 3 * 80 * 112 * 80
    assert step.peak_bytes == pytest.approx(expected, rel=0.02)
    assert catalog.divisor(built) == topology.divisor
