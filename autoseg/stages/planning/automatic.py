"""Which presets a data set, a device and a budget ask for, and why: `--preset auto`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoseg.records.configuration import Configuration
from autoseg.records.errors import ResourceError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Decision, Plan
from autoseg.stages.planning.clock import TRAINING_FRACTION
from autoseg.stages.planning.costs import Cost
from autoseg.stages.planning.forecasting import uncalibrated
from autoseg.stages.planning.making import make_plan
from autoseg.stages.planning.parts import STEPS_OF_A_FULL_RECIPE, Pace
from autoseg.stages.planning.presets import load_preset
from autoseg.stages.planning.reasons import Reasoned

AUTO = "auto"
BASE = "unet"
# From the strongest: what each needs in memory as published (Isensee et al. 2024), in GB.
RESIDUAL = (("residual_unet_l", 24.0), ("residual_unet_m", 8.0))
TRANSFORMERS = {True: "vit_2d", False: "primus"}
CASES_OF_A_TRANSFORMER = 100


@dataclass(frozen=True)
class Situation:
    """What the choice rests on; see `make_plan` for the fields."""

    fingerprint: Fingerprint
    device: DeviceProfile
    minutes: float | None
    folds: int
    cost: Cost | None
    pace: Pace | None


def candidates() -> tuple[str, ...]:
    """Return every preset that the choice may fall on."""
    return (BASE, *(name for name, _ in RESIDUAL), *TRANSFORMERS.values())


def choose_presets(situation: Situation) -> tuple[tuple[str, ...], tuple[Decision, ...]]:
    """Return the presets worth training, the first a convolutional network, and a decision for each candidate.

    A residual network is more accurate than the plain U-Net for 2 to 4 times its operations, so it is taken where its
    run has time for the steps of a full recipe; a transformer beside it adds diversity to the ensemble, on the same
    condition at half of the time, and where there are cases enough for it to learn from.
    """
    decisions: list[Decision] = []

    def note(name: str, taken: bool, because: str) -> None:
        decisions.append(Reasoned(taken, because).decision(f"presets.{name}", "taken" if taken else "left out"))

    convolutional = BASE
    for name, memory_gb in RESIDUAL:
        taken, because = _worthwhile(situation, name, memory_gb, share=1.0)
        note(name, taken, because)
        if taken:
            convolutional = name
            break
    if convolutional == BASE:
        note(BASE, True, "the network that learns most in little time")
    flat = all(min(case.shape) == 1 for case in situation.fingerprint.cases)
    transformer = TRANSFORMERS[flat]
    count = len(situation.fingerprint.cases)
    if count < CASES_OF_A_TRANSFORMER:
        because = f"{count} cases are too few for a transformer (wanted {CASES_OF_A_TRANSFORMER})"
        note(transformer, False, because)
        return (convolutional,), tuple(decisions)
    taken, because = _worthwhile(situation, transformer, 8.0, share=0.5)
    note(transformer, taken, f"for the diversity of the ensemble: {because}" if taken else because)
    return (convolutional, transformer) if taken else (convolutional,), tuple(decisions)


def _worthwhile(situation: Situation, name: str, memory_gb: float, *, share: float) -> tuple[bool, str]:
    device = situation.device
    if device.kind == "cpu" and situation.minutes is None:
        return False, "its full recipe takes weeks on a CPU; give a budget (--hours) that has time for it"
    if device.memory_gb < memory_gb:
        return False, f"it is made for {memory_gb:g} GB or more, and there are {device.memory_gb:g}"
    if situation.minutes is None:
        return True, f"it fits the {device.memory_gb:g} GB, and no budget bounds its time"
    try:
        plan = make_plan(situation.fingerprint, [load_preset(name)], device, cost=situation.cost)
    except ResourceError as error:
        return False, str(error)
    steps = _steps(situation, plan, share)
    told = f"a run of it has time for about {steps:.3g} steps of the {STEPS_OF_A_FULL_RECIPE} that its recipe wants"
    return steps >= STEPS_OF_A_FULL_RECIPE, told


def _steps(situation: Situation, plan: Plan, share: float) -> float:
    entry = plan.lineup[0]
    seconds = (situation.minutes or 0.0) * 60 * TRAINING_FRACTION * share * entry.share / max(situation.folds, 1)
    return seconds / max(_step_seconds(situation, plan.configuration(entry.configuration)), 1e-9)


def _step_seconds(situation: Situation, configuration: Configuration) -> float:
    measured: Callable[[Configuration], float] | None = situation.pace
    if measured is not None:
        return measured(configuration)
    return uncalibrated(configuration, max(situation.device.flops_per_second, 1.0))
