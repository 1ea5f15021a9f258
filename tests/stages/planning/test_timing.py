import math

import pytest

from autoseg.records.calibration import Amount, Calibration, Rate, StepWork
from autoseg.records.errors import DataError
from autoseg.stages.planning import make_plan
from autoseg.stages.planning.timing import making_seconds, seconds, step_factors, step_seconds
from tests.stages.planning.examples import device, hippocampus_like, linear_cost, preset


def rate(kind, per_second, *, width=0, dimensions=0, layout="", precision="float32", points=(), taps=0):
    return Rate(
        kind=kind,
        dimensions=dimensions,
        width=width,
        precision=precision,
        memory_format=layout,
        per_second=per_second,
        points=points,
        taps=taps,
    )


RATES = (
    rate("dense", 1e9, width=16, dimensions=3, layout="contiguous"),
    rate("dense", 4e9, width=64, dimensions=3, layout="contiguous"),
    rate("dense", 8e9, width=64, dimensions=3, layout="channels_last"),
    rate("elementwise", 1e9),
    *(rate(kind, 1e6, dimensions=3) for kind in ("sample", "place", "blur", "low_resolution", "intensity")),
)
CALIBRATION = Calibration(device=device(), torch_version="0", call_seconds=1e-3, rates=RATES)


def work(width=64, flops=4e9, moved=1e9, calls=10):
    # One convolution and `calls` - 1 others.
    dense = Amount(kind="dense", dimensions=3, width=width, precision="float32", amount=flops)
    plain = Amount(kind="elementwise", dimensions=0, width=0, precision="float32", amount=moved, calls=calls - 1)
    return StepWork(amounts=(dense, plain), calls=calls)


def test_seconds_add_up_by_kind():
    assert seconds(work(), CALIBRATION, "contiguous") == pytest.approx(1 + 1 + 0.01)
    assert seconds(work(), CALIBRATION, "channels_last") == pytest.approx(0.5 + 1 + 0.01)


@pytest.mark.parametrize(("width", "speed"), [(8, 1e9), (16, 1e9), (32, 2e9), (64, 4e9), (320, 4e9)])
def test_speed_is_interpolated_between_widths(width, speed):
    found = seconds(work(width=width, flops=1e9, moved=0, calls=2), CALIBRATION, "contiguous")
    assert found == pytest.approx(1e9 / speed + 2e-3, rel=1e-3)


def test_a_small_call_costs_what_being_called_costs_and_a_large_one_its_share():
    curve = rate("copy", 1e9).model_copy(update={"points": ((1e3, 1e-5), (1e5, 1e-4), (1e6, 1e-3))})
    calibration = CALIBRATION.model_copy(update={"rates": (curve,)})

    def taken(amount, calls):
        item = Amount(kind="copy", dimensions=0, width=0, precision="float32", amount=amount * calls, calls=calls)
        return seconds(StepWork(amounts=(item,), calls=calls), calibration, "contiguous")

    assert taken(1, 100) == pytest.approx(100 * 1e-5), "however little it does"
    assert taken(1e4, 3) == pytest.approx(3 * (1e-5 * 1e-4) ** 0.5), "between two points by powers"
    assert taken(1e8, 1) == pytest.approx(1e-1), "in proportion above the largest"


def apart(kind, taps, voxels, *, width=32):
    amount = Amount(kind=kind, dimensions=3, width=width, precision="float32", amount=2 * taps * voxels, taps=taps)
    return StepWork(amounts=(amount,), calls=1)


def test_a_kernel_costs_what_its_voxels_and_what_its_taps_cost():
    # A second for a million voxels, and a hundredth of a second for each tap of them.
    curves = (
        rate("depthwise", 1, width=32, dimensions=3, taps=taps, points=((2e6 * taps, 1 + 0.01 * taps),))
        for taps in (27, 125)
    )
    calibration = CALIBRATION.model_copy(update={"rates": tuple(curves)})

    def taken(taps, voxels):
        return seconds(apart("depthwise", taps, voxels), calibration, "contiguous")

    for taps in (9, 27, 75, 125, 343):
        assert taken(taps, 1e6) == pytest.approx(1 + 0.01 * taps)
    assert taken(27, 3e6) == pytest.approx(3 * 1.27), "in proportion above the largest"


def test_a_larger_kernel_that_was_timed_as_faster_is_taken_to_be_as_fast():
    curves = (
        rate("depthwise", 1, width=32, dimensions=3, taps=taps, points=((2e6 * taps, taken),))
        for taps, taken in ((27, 1.0), (125, 0.9))
    )
    calibration = CALIBRATION.model_copy(update={"rates": tuple(curves)})
    assert seconds(apart("depthwise", 125, 1e6), calibration, "contiguous") == pytest.approx(1.0)
    assert seconds(apart("depthwise", 9, 1e6), calibration, "contiguous") == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["depthwise", "depthwise_strided", "depthwise_transposed"])
def test_an_older_calibration_has_one_kernel_in_the_operations_of_its_time(kind):
    # Forward and backward of 32 channels, 1000 voxels each: half of (1 + 1 + 32) passes was said to be one call's.
    one_pass = 2 * 27 * 32 * 1000
    old = rate("depthwise", 1, dimensions=3, points=((17 * one_pass, 0.5),))
    calibration = CALIBRATION.model_copy(update={"rates": (old,)})
    assert not calibration.tells_kernels_apart
    assert seconds(apart(kind, 27, 1.5 * 32_000), calibration, "contiguous") == pytest.approx(0.5)
    assert seconds(apart(kind, 125, 1.5 * 32_000), calibration, "contiguous") == pytest.approx(0.5)


def test_a_kind_that_was_not_measured_is_named():
    strange = StepWork(
        amounts=(Amount(kind="attention", dimensions=0, width=0, precision="float32", amount=1),), calls=1
    )
    with pytest.raises(DataError, match=r"no speed of attention operations in float32.*autoseg calibrate"):
        seconds(strange, CALIBRATION, "contiguous")


def test_the_fastest_format_counts_and_whole_steps_correct_the_sum():
    configuration = make_plan(hippocampus_like(), [preset()], device(), cost=linear_cost).configuration("unet_3d")
    # Parts of 2.01 s and of 1.51 s; the second whole step took 4 times as much as the first in one format.
    wholes = [
        (work(), {"contiguous": 2.01, "channels_last": 3.02}),
        (work(), {"contiguous": 8.04, "channels_last": 3.02}),
    ]
    factors = step_factors(wholes, CALIBRATION)
    assert factors == {"contiguous": 2.0, "channels_last": 2.0}
    corrected = CALIBRATION.model_copy(update={"step_factors": {f"float32 {name}": 2.0 for name in factors}})
    older = CALIBRATION.model_copy(update={"step_factors": {"float32": 2.0}})
    assert step_seconds(configuration, [work()], older) == step_seconds(configuration, [work()], corrected)
    making = making_seconds(configuration, CALIBRATION)
    assert step_seconds(configuration, [work()], CALIBRATION) == pytest.approx(1.51 + making)
    assert step_seconds(configuration, [work()], corrected) == pytest.approx(3.02 + making)


def test_augmentation_costs_as_often_as_it_strikes():
    configuration = make_plan(hippocampus_like(), [preset()], device(), cost=linear_cost).configuration("unet_3d")
    calm = configuration.recipe.augmentation.model_copy(
        update={
            name: 0.0 for name in type(configuration.recipe.augmentation).model_fields if name.endswith("_probability")
        }
    )
    still = configuration.model_copy(update={"recipe": configuration.recipe.model_copy(update={"augmentation": calm})})
    # A bare sample alone is left, drawn and cut out: a millionth of a second a voxel, and a millisecond a call.
    voxels = math.prod(configuration.patch_shape)
    assert making_seconds(still, CALIBRATION) == pytest.approx(configuration.batch_size * (voxels / 1e6 + 1e-3))
    assert making_seconds(configuration, CALIBRATION) > making_seconds(still, CALIBRATION)


def test_a_calibration_of_before_counts_what_it_did_not_tell_apart_as_elementwise():
    copied = Amount(kind="copy", dimensions=0, width=0, precision="float32", amount=1e9)
    assert seconds(StepWork(amounts=(copied,), calls=1), CALIBRATION, "contiguous") == pytest.approx(1.001)
