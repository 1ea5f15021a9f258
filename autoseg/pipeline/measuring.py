"""What a plan asks of torch: functions for the process that has it. The module itself loads little."""

from __future__ import annotations

from autoseg.records.calibration import StepWork
from autoseg.records.configuration import Architecture
from autoseg.records.geometry import Shape
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import Recipe


def load_networks() -> None:
    """Load what the first dry run needs."""
    from autoseg.networks.memory import load

    load()


def find_device(name: str | None, memory_gb: float | None, *, calibrate: bool) -> DeviceProfile:
    """Return the device of this name, or the best of this machine (`autoseg.compute.devices.find`)."""
    from autoseg.compute import devices

    return devices.find(name, memory_gb, calibrate=calibrate)


def measure_step(
    architecture: Architecture, recipe: Recipe, patch_shape: Shape, batch_size: int, **how: str
) -> tuple[int, int, float]:
    """Dry-run a step: (peak bytes, parameters, operations), in types that a process without torch can receive."""
    from autoseg.networks import memory

    step = memory.measure_step(architecture, recipe, patch_shape, batch_size, **how)  # type: ignore[arg-type]
    return step.peak_bytes, step.parameters, step.flops


def measure_work(*arguments: object, **named: str) -> StepWork:
    """Count a step's operations by their kind (`autoseg.networks.work.measure_work`)."""
    from autoseg.networks import work

    return work.measure_work(*arguments, **named)  # type: ignore[arg-type]
