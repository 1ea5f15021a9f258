from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoseg.networks import calibrating, calibrating_samples, calibrating_steps, stopwatch
from autoseg.networks.memory import measure_step
from autoseg.networks.work import WorkCounter, measure_work
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import Recipe
from autoseg.stages.planning.timing import seconds
from tests.networks.architectures import small


def rows(run) -> dict:
    with WorkCounter() as counter:
        run()
    found: Counter = Counter()
    for item in counter.work().amounts:
        found[item.kind, item.dimensions, item.width] += item.amount
    return dict(found)


@pytest.mark.parametrize(
    ("layer", "row", "flops"),
    [
        (nn.Conv3d(16, 32, 3, padding=1, bias=False), ("dense", 3, 16), 2 * 27 * 16 * 32 * 512),
        (nn.Conv3d(16, 8, 3, padding=1, bias=False), ("thin", 3, 0), 2 * 27 * 16 * 8 * 512),
        (nn.Conv3d(16, 16, 1, bias=False), ("pointwise", 3, 16), 2 * 16 * 16 * 512),
        (nn.ConvTranspose3d(16, 16, 2, 2, bias=False), ("transposed", 3, 16), 2 * 8 * 16 * 16 * 512),
    ],
)
def test_a_convolution_is_counted_by_its_kind(layer, row, flops):
    image = torch.zeros(1, 16, 8, 8, 8)
    assert rows(lambda: layer(image))[row] == flops


@pytest.mark.parametrize(
    ("layer", "kind", "taps"),
    [
        (nn.Conv3d(16, 16, 3, padding=1, groups=16, bias=False), "depthwise", 27),
        (nn.Conv3d(16, 16, (1, 5, 5), (1, 2, 2), (0, 2, 2), groups=16, bias=False), "depthwise_strided", 25),
        (nn.ConvTranspose3d(16, 16, 3, 2, 1, groups=16, bias=False), "depthwise_transposed", 27),
    ],
)
def test_channels_by_themselves_are_counted_by_kernel_and_width(layer, kind, taps):
    image = torch.zeros(2, 16, 8, 8, 8, requires_grad=True)
    with WorkCounter() as counter:
        result = layer(image)
        forward = counter.work().amounts
        result.backward(torch.ones_like(result))
    (alone,) = (item for item in forward if item.kind == kind)
    places = 8**3 if "transposed" in kind else result[0, 0].numel()
    assert (alone.width, alone.taps, alone.amount) == (16, taps, 2 * taps * 16 * 2 * places)
    together = sum(item.amount for item in counter.work().amounts if item.kind == kind)
    # Each channel's gradient has to do with that channel alone.
    assert together == 3 * alone.amount


def test_calls_are_those_of_the_step_and_not_of_fake_tensors():
    work = measure_work(small("unet"), Recipe(), (8, 8, 8), 2, precision="float32", device_kind="cpu")
    by_kind = Counter()
    for item in work.amounts:
        by_kind[item.kind] += item.calls
    # 3 stages of 2 convolutions, 2 of the decoder, 2 heads; forward and backward, but the coarsest head is not learned.
    assert by_kind["dense"] + by_kind["thin"] + by_kind["pointwise"] == 2 * (6 + 4 + 2) - 1
    assert by_kind["norm"] == 2 * (6 + 4)
    assert sum(by_kind.values()) < 400


def test_bytes_of_other_operations_are_those_read_and_written():
    x = torch.zeros(1000)
    assert rows(lambda: x.add(x))[("elementwise", 0, 0)] == 3 * 4000
    assert rows(lambda: x.view(10, 100)) == {}, "a view moves nothing"
    image = torch.zeros(1, 8, 4, 4, 4)
    assert ("norm", 0, 0) in rows(lambda: F.group_norm(image, 8))


@pytest.mark.parametrize("kind", ["unet", "residual_unet", "mednext"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_holds_as_many_operations_as_the_memory_s_dry_run(kind, precision):
    architecture = small(kind, 3)
    shape = (32, 32, 32)
    how = {"precision": precision, "device_kind": "cpu"}
    work = measure_work(architecture, Recipe(), shape, 2, **how)
    bytes_of = ("norm", "elementwise", "copy", "exponential", "index", "optimizer")
    counted = sum(item.amount for item in work.amounts if item.kind not in bytes_of)
    assert counted == pytest.approx(measure_step(architecture, Recipe(), shape, 2, **how).flops)
    assert {item.precision for item in work.amounts} == {precision, "float32"}


def test_a_calibration_has_a_speed_of_every_kind(monkeypatch):
    monkeypatch.setattr(stopwatch, "SECONDS_EACH", 0.0)
    monkeypatch.setattr(calibrating, "EDGES", {"cpu": {2: (4, 16), 3: (2, 8)}})
    monkeypatch.setattr(calibrating_steps, "STEPS_OF_A_WHOLE", 1)
    monkeypatch.setattr(calibrating_steps, "WHOLES", {"cpu": ((2, (1, 16, 16)), (3, (16, 16, 16)))})
    monkeypatch.setattr(calibrating_samples, "SAMPLE_EDGES", {2: (8, 16), 3: (4, 8)})
    device = DeviceProfile(kind="cpu", name="example", memory_gb=8, fast_bfloat16=False)
    found = calibrating.calibrate(device)
    conv = {"dense", "thin", "pointwise", "depthwise", "transposed"}
    memory = {"norm", "elementwise", "copy", "exponential", "index", "optimizer"}
    making = {"sample", "place", "blur", "low_resolution", "intensity"}
    conv |= {"depthwise_strided", "depthwise_transposed"}
    assert {rate.kind for rate in found.rates} == conv | memory | making | {"matmul", "attention"}
    assert all(rate.per_second > 0 for rate in found.rates)
    assert {rate.precision for rate in found.rates} == {"float32"}
    assert found.call_seconds > 0
    assert all(len(rate.points) == 2 for rate in found.rates if rate.kind in ("norm", "thin", "sample"))
    apart = [rate for rate in found.rates if rate.kind.startswith("depthwise")]
    assert {(rate.width, rate.taps) for rate in apart if rate.dimensions == 3} == {
        (32, 27),
        (32, 125),
        (256, 27),
        (256, 125),
    }
    assert found.tells_kernels_apart
    steps = list(calibrating_steps.whole_steps(device, "float32"))
    assert all(seconds(work, found, name) > 0 for work, measured in steps for name in measured)
