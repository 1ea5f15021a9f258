"""How long a plan takes on a device: its calibration, and what the steps of a plan compute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.measuring import measure_work
from autoseg.records.calibration import Calibration, StepWork
from autoseg.records.configuration import Configuration
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Decision, Plan
from autoseg.records.preset import Preset
from autoseg.records.requests import PlanRequest
from autoseg.stages import planning
from autoseg.stages.planning.remembered import remembering_work
from autoseg.stages.planning.timing import step_factors, step_seconds
from autoseg.storage import read_record, write_record
from autoseg.workspace import Workspace

log = logging.getLogger("autoseg")

# A whole step is no faster than its parts, unless they were timed on a busy machine.
DISTURBED_BELOW = 0.6


def calibrate(file: Path, device: str | None = None, *, tell: Tell = quiet) -> Calibration:
    """Measure the device at hand, about a minute, and keep what was found."""
    from autoseg.compute import devices
    from autoseg.compute.workers import processors
    from autoseg.networks import calibrating, calibrating_steps

    profile = devices.find(device)
    devices.set_threads(profile.threads or processors())
    found = calibrating.calibrate(profile, tell=lambda what, done: tell(what, done, None))
    factors = {
        f"{precision} {layout}": factor
        for precision in calibrating.precisions(profile)
        for layout, factor in step_factors(calibrating_steps.whole_steps(profile, precision), found).items()
    }
    if min(factors.values()) < DISTURBED_BELOW:
        log.warning("Something else computed meanwhile: the parts took longer than the whole. Calibrate again.")
    found = found.model_copy(update={"step_factors": factors})
    write_record(file, found)
    return found


def calibration(work: Workspace, request: PlanRequest, device: DeviceProfile) -> Calibration | None:
    """Return the calibration that a plan's times follow from, or None where there is none of this device.

    Raises:
        UserError: The file that was named is not there or damaged.
    """
    if request.calibration:
        file = Path(request.calibration).expanduser()
        return _told(read_record(file, Calibration, missing="Write it: autoseg calibrate -o."), file)
    if not work.calibration_file.exists():
        return None
    found = read_record(work.calibration_file, Calibration)
    if (found.device.kind, found.device.name, found.device.threads) != (device.kind, device.name, device.threads):
        log.info("%s is of %s, not of this device", work.calibration_file, found.device.name)
        return None
    return _told(found, work.calibration_file)


def _told(found: Calibration, file: Path) -> Calibration:
    if not found.tells_kernels_apart:
        log.info(
            "%s is of an older version, which timed one kernel of convolutions of one channel each: the time of MedNeXt"
            " is rough. Measure it again: autoseg calibrate.",
            file,
        )
    return found


def planned_for(device: DeviceProfile, found: Calibration | None, request: PlanRequest) -> DeviceProfile:
    """Return the device that a plan is made for: that of a calibration file where one was named.

    Of the calibration that lies in the workspace only what a card holds besides is taken: speeds change no plan.
    """
    if found is None:
        return device
    if not request.calibration:
        return device.model_copy(update={"overhead": found.device.overhead})
    update = {} if request.memory_gb is None else {"memory_gb": request.memory_gb}
    return found.device.model_copy(update=update)


def lineup_seconds(
    work: Workspace, plan: Plan, found: Calibration | None, *, call: Callable[..., StepWork] | None = None,
    write: bool = True,
) -> dict[str, float]:  # fmt: skip
    """Return the seconds of a step of each configuration of the line-up; empty without a calibration."""
    if found is None:
        return {}
    timer = pace(work, found, call=call, write=write)
    return {entry.configuration: timer(plan.configuration(entry.configuration)) for entry in plan.lineup}


def pace(
    work: Workspace, found: Calibration, *, call: Callable[..., StepWork] | None = None, write: bool = True
) -> Callable[[Configuration], float]:
    """Return a function that gives the seconds of a configuration's step on a calibrated device."""
    measure = remembering_work(call or measure_work, work.dry_runs, write=write)
    device = found.device

    def seconds(configuration: Configuration) -> float:
        recipe = configuration.recipe
        works = [
            measure(
                configuration.architecture,
                recipe,
                configuration.patch_shape,
                configuration.batch_size,
                precision=precision,
                device_kind=device.kind,
            )
            for precision in _precisions(recipe.precision, found)
        ]
        return step_seconds(configuration, works, found)

    return seconds


def _precisions(wanted: str, found: Calibration) -> tuple[str, ...]:
    there = tuple(dict.fromkeys(rate.precision for rate in found.rates))
    return (wanted,) if wanted in there else there


def dense_speed(found: Calibration) -> float:
    """Return the fastest dense convolutions of a calibration, operations a second."""
    return max(rate.per_second for rate in found.rates if rate.kind == "dense")


def presets(request: PlanRequest, situation: planning.Situation) -> tuple[list[Preset], tuple[Decision, ...]]:
    """Return the presets that were asked for, with what was set by hand, and why they were chosen where they were."""
    names = request.presets
    choice: tuple[Decision, ...] = ()
    if names == (planning.AUTO,):
        names, choice = planning.choose_presets(situation)
    found = [planning.change_preset(planning.load_preset(name), request.settings) for name in names]
    labels = situation.fingerprint.labels
    return [planning.with_class_vectors(preset, labels) for preset in found], choice
