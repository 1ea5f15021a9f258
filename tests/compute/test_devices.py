from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from autoseg.compute import devices
from autoseg.compute.workers import processors
from autoseg.records.errors import UsageError


def test_a_cpu_counts_as_eight_gb_and_names_its_processor() -> None:
    profile = devices.find("cpu")
    assert (profile.kind, profile.memory_gb, profile.flops_per_second) == ("cpu", 8.0, 0.0)
    assert profile.threads == processors() >= 1
    assert profile.name
    assert devices.torch_device(profile) == torch.device("cpu")


def test_memory_can_be_given() -> None:
    assert devices.find("cpu", 3.5).memory_gb == 3.5


@pytest.mark.parametrize("memory_gb", [0.0, -1.0, float("nan"), float("inf")])
def test_memory_is_a_positive_number(memory_gb: float) -> None:
    with pytest.raises(UsageError, match=r"GB of memory is not a positive number. Give for example --memory-gb 8."):
        devices.find("cpu", memory_gb)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "tpu", ""])
def test_an_unknown_device_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError) as error:
        devices.find(name)
    assert str(error.value) == f"there is no device {name!r}. There are: {', '.join(devices.available())}."
    assert error.value.exit_code == 2


def test_the_first_device_there_is_gets_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.available()[:2] == ("cuda:0", "cuda:1")
    assert devices.available()[-1] == "cpu"


def test_the_precision_is_probed_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = devices.find("cpu").fast_bfloat16

    def probe_again(*_: object) -> None:
        raise AssertionError("probed twice")

    monkeypatch.setattr(devices, "_convolve", probe_again)
    assert devices.find("cpu").fast_bfloat16 is first


@pytest.mark.parametrize(("seconds", "fast"), [((1.0, 0.3), True), ((1.0, 0.95), False), ((1.0, 20.0), False)])
def test_bfloat16_is_fast_when_it_beats_float32_clearly(
    seconds: tuple[float, float], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_shortest", lambda *works: seconds)
    assert devices._fast_bfloat16.__wrapped__(torch.device("cpu")) is fast


def test_probing_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    devices._fast_bfloat16.__wrapped__(torch.device("cpu"))
    assert torch.get_num_threads() == before


def test_calibration_gives_two_digits_and_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_shortest", partial(devices._shortest, seconds=0.0))
    monkeypatch.setattr(devices, "_fast_bfloat16", lambda device: False)
    before = torch.random.get_rng_state()
    speed = devices.find("cpu", calibrate=True).flops_per_second
    assert speed > 1e8
    assert float(f"{speed:.1e}") == speed
    assert torch.equal(before, torch.random.get_rng_state())


def test_speed_is_operations_over_the_shortest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Conv3d(1, 2, 1, bias=False)
    monkeypatch.setattr(devices, "_trial", lambda device: (layer, torch.zeros(1, 1, 4, 4, 4)))
    monkeypatch.setattr(devices, "_shortest", lambda step, seconds: (0.5,))
    # 64 voxels x 2 channels x 2 (multiply, add), forward and for the gradient of the weight.
    assert devices._training_speed(torch.device("cpu"), bfloat16=False) == (2 * 64 * 2 * 2) / 0.5


def test_the_shortest_run_counts() -> None:
    waits = iter([0.0, 0.03, 0.01, 0.03])

    def work() -> None:
        devices.time.sleep(next(waits, 0.05))

    (best,) = devices._shortest(work, seconds=0.06)
    assert 0.01 <= best < 0.03


def test_the_processor_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9R14: 96-Core\n")
    assert devices.processor_name(file) == "AMD EPYC 9R14: 96-Core"
    assert devices.processor_name(tmp_path / "none")


def test_threads_are_set_and_never_fewer_than_one() -> None:
    before = torch.get_num_threads()
    try:
        devices.set_threads(0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
