"""Fingerprint, presets and device to a plan: the rules in their order, every number with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import autoseg
from autoseg.records.dataset import Correction
from autoseg.records.errors import ResourceError, UsageError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Triple
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Configuration, Decision, Plan, Preparation, Preset, ShortBudget
from autoseg.stages.planning import lineup, regions
from autoseg.stages.planning.clock import Clock, run_clock
from autoseg.stages.planning.costs import Cost, meter
from autoseg.stages.planning.drafting import Draft, Subject, draft, low_resolution, preparation, wanted
from autoseg.stages.planning.fitting import expected
from autoseg.stages.planning.frame import Frame, survey
from autoseg.stages.planning.lineup import Situation
from autoseg.stages.planning.reasons import Reasoned, listed
from autoseg.stages.planning.wanted import Machine

Pace = Callable[[Configuration], float]
"""Seconds of a configuration's training step, from a calibration."""

# A configuration or preset leaves the line-up when its run has fewer steps than this share of what its recipe for a
# short budget wants, or, where it has no such recipe, than a quarter of what a full one wants.
LEAST_SHARE = 0.5
LEAST_SHARE_WITHOUT_SHORT = 4
STEPS_OF_A_FULL_RECIPE: int = ShortBudget.model_fields["steps_below"].default


def make_plan(
    fingerprint: Fingerprint,
    presets: Sequence[Preset],
    device: DeviceProfile,
    *,
    name: str = "default",
    corrections: Sequence[Correction] = (),
    minutes: float | None = None,
    folds: int = 5,
    cost: Cost | None = None,
    pace: Pace | None = None,
    by_hand: Mapping[str, str] | None = None,
    version: str = autoseg.__version__,
) -> Plan:
    """Return the plan for a data set on a device: a pure function, the same records give the same bytes.

    Args:
        fingerprint: What was measured of the training cases.
        presets: Each gives configurations of its own; they share the budget equally.
        device: Memory that a step must fit, and speed.
        name: Of the plan.
        corrections: What every scan gets first; they travel with the plan.
        minutes: Budget of the whole training, or None for full recipes.
        folds: Runs of each configuration that the budget must hold.
        cost: Measures one training step, as `autoseg.networks.memory.measure_step`, which is the default.
        pace: Configuration -> seconds of its step, from a calibration; only a budget asks for it.
        by_hand: Keys of the presets that were set by hand -> value, for the decisions.
        version: Of autoseg, written into the plan.

    Raises:
        UsageError: No preset, two of one name, or a budget that is not positive.
        DataError: The fingerprint holds no case.
        ResourceError: Nothing fits the device.
    """
    _check(presets, minutes)
    measure = meter(cost, device)
    presets, parts, left_out = _within_budget(fingerprint, presets, Machine(device, measure), (minutes, folds, pace))
    entries = lineup.shares([entry for part in parts for entry in part.weighted])
    drafts = [item for part in parts for item in part.drafts]
    decisions = [Decision(what=key, value=value, because="set by hand") for key, value in (by_hand or {}).items()]
    decisions += left_out
    decisions += [decision for part in parts for decision in part.decisions]
    decisions += [decision for item in drafts for decision in item.decisions]
    reasons = {name: reason for part in parts for name, reason in part.reasons.items()}
    decisions += [
        Decision(what=f"{entry.configuration}.share", value=f"{entry.share:.2f}", because=reasons[entry.configuration])
        for entry in entries
    ]
    return Plan(
        name=name,
        dataset=fingerprint.dataset,
        presets=tuple(preset.name for preset in presets),
        device=device,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        corrections=tuple(corrections),
        configurations=tuple(item.configuration for item in drafts),
        lineup=entries,
        decisions=tuple(decisions),
        fingerprint_digest=fingerprint.digest(),
        version=version,
    )


def preparations(fingerprint: Fingerprint, presets: Sequence[Preset]) -> tuple[Preparation, ...]:
    """Return what every plan with these presets preprocesses, whatever fits the device: the full resolution.

    Raises:
        DataError: The fingerprint holds no case.
    """
    frames = ((survey(fingerprint, preset.planning), preset.network.dimensions) for preset in presets)
    found = [preparation(frame, _main_kind(frame, dimensions)) for frame, dimensions in frames]
    return tuple({item.data_key: item for item in found}.values())


def _within_budget(
    fingerprint: Fingerprint,
    presets: Sequence[Preset],
    machine: Machine,
    time: tuple[float | None, int, Pace | None],
) -> tuple[Sequence[Preset], list[Part], list[Decision]]:
    """Return the presets that a budget has time for, what each adds to the plan, and why others were left out.

    As long as a run of one would have too few steps, the one with the fewest leaves, never the first.
    """
    minutes, folds, pace = time
    kept, left_out = list(presets), []
    while True:
        budget = Budget(minutes, folds, len(kept), pace)
        parts: list[Part] = []
        for preset in kept:
            on = replace(machine, device=_device_for(preset, machine.device))
            try:
                parts.append(_part(fingerprint, preset, on, budget))
            except ResourceError as error:
                if minutes is None or not parts:
                    raise
                left_out.append(Reasoned("left out", str(error)).decision(f"{preset.name}.preset"))
                kept.remove(preset)
                break
        if len(parts) < len(kept) or len(kept) < budget.presets:
            continue
        lacking = [(part.steps, index) for index, part in enumerate(parts) if index and part.steps < part.least_steps]
        if not lacking:
            return kept, parts, left_out
        steps, index = min(lacking)
        because = (
            f"among {len(kept)} presets its run has time for about {steps:.0f} steps, too few for it to learn from"
            f" (wanted {parts[index].least_steps}); the time goes to the others"
        )
        left_out.append(Reasoned("left out", because).decision(f"{kept.pop(index).name}.preset"))


def _device_for(preset: Preset, device: DeviceProfile) -> DeviceProfile:
    wanted = preset.planning.memory_gb
    return device if wanted is None else device.model_copy(update={"memory_gb": min(wanted, device.memory_gb)})


@dataclass(frozen=True)
class Budget:
    """Minutes of the whole training (None: no bound), and among how many runs they are shared."""

    minutes: float | None
    folds: int
    presets: int
    pace: Pace | None = None

    def clock(self, speed: float, device: DeviceProfile, share: float, *, min_steps: int | None = None) -> Clock | None:
        """Return the clock of one run of a configuration that has this share of its preset's time.

        Args:
            speed: Operations a second that its network reaches.
            device: Otherwise.
            share: Of its preset's time.
            min_steps: As in `run_clock`.
        """
        device = device.model_copy(update={"flops_per_second": speed})
        return run_clock(self.minutes, device, share=share / self.presets, folds=self.folds, min_steps=min_steps)


@dataclass(frozen=True)
class Part:
    """What one preset adds to a plan; the weights of a preset's configurations add up to 1.

    Attributes:
        steps: That a run of its first configuration has time for.
        least_steps: Fewer are not worth a run.
    """

    drafts: tuple[Draft, ...]
    weighted: tuple[tuple[str, float], ...]
    reasons: dict[str, str]
    decisions: tuple[Decision, ...]
    steps: float = math.inf
    least_steps: int = 0


def _part(fingerprint: Fingerprint, preset: Preset, machine: Machine, budget: Budget) -> Part:
    full = Subject(survey(fingerprint, preset.planning), fingerprint.labels, preset)
    subject, short, decisions = _for_budget(full, machine, budget)
    coarse = _coarse(subject, machine)
    looks_again = _regions(subject, machine)
    situation = Situation(
        subject.frame.flat,
        subject.frame.anisotropy,
        coarse.value is not None,
        short,
        regions=looks_again.value,
        by_hand=preset.planning.regions is not None,
    )
    weights = lineup.weights(situation, preset.network.dimensions)
    if not weights:
        raise UsageError(f"preset {preset.name} has no network for 2D data", fix="Choose another with --preset.")
    if coarse.value is None:
        decisions.append(coarse.decision(subject.name("3d_lowres"), "not planned"))
    if looks_again.value or fingerprint.pieces is not None or preset.planning.regions is not None:
        value = "planned" if looks_again.value else "not planned"
        decisions.append(looks_again.decision(subject.name("3d_regions"), value))
    has_low_resolution = coarse.value is not None
    while True:
        total = sum(weight.value for weight in weights.values())
        clocks = {}
        for kind in _planned(subject, has_low_resolution, looks_again.value):
            # One outside of the line-up is planned for those who train it by name, as if it had all the time.
            share = weights[kind].value / total if kind in weights else 1.0
            speed = _speed(subject, _kind_of_speed(kind), machine, budget)
            clocks[kind] = budget.clock(speed, machine.device, share, min_steps=_min_steps(preset, short))
        drafts = {}
        for kind, clock in clocks.items():
            spacing = Reasoned(coarse.value, coarse.because) if kind == "3d_lowres" and coarse.value else None
            timed = replace(machine, clock=clock)
            drafts[kind] = draft(subject, kind, timed, spacing_mm=spacing, has_low_resolution=has_low_resolution)
        steps = {kind: _steps(clocks[kind], drafts[kind]) for kind in weights}
        lacking = _lacking(
            steps,
            _main(subject),
            LEAST_SHARE * (_min_steps(preset, short) or 0),
        )
        if lacking is None:
            break
        because = (
            f"its run has time for about {steps[lacking]:.0f} steps, fewer than half of the {_min_steps(preset, short)}"
            " that a short recipe wants; the time goes to the other configurations"
        )
        decisions.append(Reasoned("left out", because).decision(f"{subject.name(lacking)}.share"))
        weights.pop(lacking)
    return Part(
        drafts=tuple(drafts.values()),
        weighted=tuple((subject.name(kind), weight.value / total) for kind, weight in weights.items()),
        reasons={subject.name(kind): weight.because for kind, weight in weights.items()},
        decisions=tuple(decisions),
        steps=steps[_main(subject)],
        least_steps=_least_steps(preset),
    )


def _main(subject: Subject) -> str:
    return _main_kind(subject.frame, subject.preset.network.dimensions)


def _main_kind(frame: Frame, dimensions: Sequence[str]) -> str:
    return "2d" if frame.flat or "3d" not in dimensions else "3d"


def _steps(clock: Clock | None, drafted: Draft) -> float:
    return math.inf if clock is None else clock.steps(drafted.configuration.memory.step_flops)


def _lacking(steps: Mapping[str, float], main: str, least: float) -> str | None:
    """Return the configuration of fewest steps below the least; the main one stays, and a low resolution's cascade."""
    few = [(count, kind) for kind, count in steps.items() if kind != main and count < least]
    few = [item for item in few if not (item[1] == "3d_lowres" and "3d_cascade" in steps)]
    return min(few)[1] if few else None


def _least_steps(preset: Preset) -> int:
    """Return the steps below which a preset's run is worth nothing beside another preset's."""
    if preset.short is not None:
        return int(LEAST_SHARE * preset.short.min_steps)
    return STEPS_OF_A_FULL_RECIPE // LEAST_SHARE_WITHOUT_SHORT


def _coarse(subject: Subject, machine: Machine) -> Reasoned[Triple | None]:
    if _main(subject) == "2d":
        return Reasoned(None, "only a 3D network sees more of an image at a low resolution")
    # By memory alone: a budget of minutes shrinks the patch as well, but no second stage makes up for lost time.
    return low_resolution(subject, machine)


def _regions(subject: Subject, machine: Machine) -> Reasoned[bool]:
    if _main(subject) == "2d":
        return Reasoned(False, "the first stage is a 3D network")

    def patch_voxels() -> float:
        return expected(wanted(subject, subject.frame.spacing_mm.value, flat=False), machine).voxels

    return regions.wanted(subject.frame, subject.preset.planning, patch_voxels)


def _planned(subject: Subject, has_low_resolution: bool, looks_again: bool) -> tuple[str, ...]:
    if _main(subject) == "2d":
        return ("2d",)
    slices = ("2d",) if "2d" in subject.preset.network.dimensions else ()
    coarse = ("3d_lowres", "3d_cascade") if has_low_resolution else ()
    return (*slices, "3d", *coarse, *(("3d_regions",) if looks_again else ()))


def _min_steps(preset: Preset, short: bool) -> int | None:
    return preset.short.min_steps if preset.short is not None and short else None


def _kind_of_speed(kind: str) -> str:
    return "2d" if kind == "2d" else "3d"


def _speed(subject: Subject, kind: str, machine: Machine, budget: Budget) -> float:
    """Return the operations a second that a network reaches: as calibrated, or as dense convolutions do."""
    if budget.minutes is None or budget.pace is None:
        return machine.device.flops_per_second
    trial = draft(subject, kind, machine).configuration
    return trial.memory.step_flops / max(budget.pace(trial), 1e-9)


def _for_budget(subject: Subject, machine: Machine, budget: Budget) -> tuple[Subject, bool, list[Decision]]:
    """Return the subject with its short-budget network and recipe where a run has too few steps for the full ones."""
    preset = subject.preset
    speed = _speed(subject, _main(subject), machine, budget)
    clock = budget.clock(speed, machine.device, 1.0)
    if clock is None:
        return subject, False, []
    trial = draft(subject, _main(subject), machine).configuration
    steps = clock.steps(trial.memory.step_flops)
    needed = STEPS_OF_A_FULL_RECIPE if preset.short is None else preset.short.steps_below
    if steps >= needed:
        return subject, False, []
    if preset.short is None:
        return subject, True, []
    network = preset.network.model_copy(update={"features": preset.short.features})
    changed = preset.model_copy(update={"network": network, "recipe": preset.short.recipe})
    because = (
        f"a run of {clock.seconds / 60:.3g} minutes has time for about {steps:.3g} steps of the full network"
        f" ({trial.memory.step_flops / 1e9:.3g} GFLOP each, the preset's full recipe wants {needed}): a narrow network"
        " that sees more samples learns more"
    )
    recipe = preset.short.recipe
    told = f"{recipe.optimizer}, learning rate {recipe.learning_rate:g}, {recipe.schedule}"
    decisions = [
        Reasoned(preset.short.features, because).decision(f"{preset.name}.features"),
        Reasoned(told, because).decision(f"{preset.name}.recipe"),
    ]
    return replace(subject, preset=changed), True, decisions


def _check(presets: Sequence[Preset], minutes: float | None) -> None:
    if not presets:
        raise UsageError("a plan needs at least one preset", fix="Name one with --preset unet.")
    names = [preset.name for preset in presets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"preset {listed(twice)} is named twice", fix="Name each preset once.")
    if minutes is not None and minutes <= 0:
        raise UsageError(f"a budget of {minutes:g} minutes leaves no time", fix="Give a positive --minutes.")
