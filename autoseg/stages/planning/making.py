"""Fingerprint, presets and device to a plan: the rules in their order, every number with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import autoseg
from autoseg.records.dataset import Correction
from autoseg.records.errors import UsageError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Triple
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Decision, Plan, Preparation, Preset, ShortBudget
from autoseg.stages.planning import lineup
from autoseg.stages.planning.clock import Clock, run_clock
from autoseg.stages.planning.costs import Cost, meter
from autoseg.stages.planning.drafting import Draft, Subject, draft, low_resolution, preparation
from autoseg.stages.planning.frame import Frame, survey
from autoseg.stages.planning.lineup import Situation
from autoseg.stages.planning.reasons import Reasoned, listed
from autoseg.stages.planning.wanted import Machine

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
        version: Of autoseg, written into the plan.

    Raises:
        UsageError: No preset, two of one name, or a budget that is not positive.
        DataError: The fingerprint holds no case.
        ResourceError: Nothing fits the device.
    """
    _check(presets, minutes)
    measure = meter(cost, device)
    budget = Budget(minutes, folds, presets=len(presets))
    parts = [_part(fingerprint, preset, Machine(_device_for(preset, device), measure), budget) for preset in presets]
    entries = lineup.shares([entry for part in parts for entry in part.weighted])
    drafts = [item for part in parts for item in part.drafts]
    decisions = [decision for part in parts for decision in part.decisions]
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
    found = [preparation(frame, _main(frame, dimensions)) for frame, dimensions in frames]
    return tuple({item.data_key: item for item in found}.values())


def _device_for(preset: Preset, device: DeviceProfile) -> DeviceProfile:
    wanted = preset.planning.memory_gb
    return device if wanted is None else device.model_copy(update={"memory_gb": min(wanted, device.memory_gb)})


@dataclass(frozen=True)
class Budget:
    """Minutes of the whole training (None: no bound), and among how many runs they are shared."""

    minutes: float | None
    folds: int
    presets: int

    def clock(self, device: DeviceProfile, share: float, *, min_steps: int | None = None) -> Clock | None:
        """Return the clock of one run of a configuration that has this share of its preset's time."""
        return run_clock(self.minutes, device, share=share / self.presets, folds=self.folds, min_steps=min_steps)


@dataclass(frozen=True)
class Part:
    """What one preset adds to a plan; the weights of a preset's configurations add up to 1."""

    drafts: tuple[Draft, ...]
    weighted: tuple[tuple[str, float], ...]
    reasons: dict[str, str]
    decisions: tuple[Decision, ...]


def _part(fingerprint: Fingerprint, preset: Preset, machine: Machine, budget: Budget) -> Part:
    full = Subject(survey(fingerprint, preset.planning), fingerprint.labels, preset)
    subject, short, decisions = _for_budget(full, machine, budget)
    coarse = _coarse(subject, machine)
    situation = Situation(subject.frame.flat, subject.frame.anisotropy, coarse.value is not None, short)
    weights = lineup.weights(situation, preset.network.dimensions)
    if not weights:
        raise UsageError(f"preset {preset.name} has no network for 2D data", fix="Choose another with --preset.")
    if coarse.value is None:
        decisions.append(coarse.decision(subject.name("3d_lowres"), "not planned"))
    total = sum(weight.value for weight in weights.values())
    drafts = []
    for kind in _planned(subject, coarse.value is not None):
        # A configuration outside of the line-up is planned for those who train it by name, as if it had all the time.
        share = weights[kind].value / total if kind in weights else 1.0
        timed = replace(machine, clock=budget.clock(machine.device, share, min_steps=_min_steps(preset, short)))
        spacing = Reasoned(coarse.value, coarse.because) if kind == "3d_lowres" and coarse.value else None
        drafts.append(draft(subject, kind, timed, spacing_mm=spacing, has_low_resolution=coarse.value is not None))
    return Part(
        drafts=tuple(drafts),
        weighted=tuple((subject.name(kind), weight.value / total) for kind, weight in weights.items()),
        reasons={subject.name(kind): weight.because for kind, weight in weights.items()},
        decisions=tuple(decisions),
    )


def _main(frame: Frame, dimensions: Sequence[str]) -> str:
    return "2d" if frame.flat or "3d" not in dimensions else "3d"


def _coarse(subject: Subject, machine: Machine) -> Reasoned[Triple | None]:
    if _main(subject.frame, subject.preset.network.dimensions) == "2d":
        return Reasoned(None, "only a 3D network sees more of an image at a low resolution")
    # By memory alone: a budget of minutes shrinks the patch as well, but no second stage makes up for lost time.
    return low_resolution(subject, machine)


def _planned(subject: Subject, has_low_resolution: bool) -> tuple[str, ...]:
    if _main(subject.frame, subject.preset.network.dimensions) == "2d":
        return ("2d",)
    slices = ("2d",) if "2d" in subject.preset.network.dimensions else ()
    return (*slices, "3d", *(("3d_lowres", "3d_cascade") if has_low_resolution else ()))


def _min_steps(preset: Preset, short: bool) -> int | None:
    return preset.short.min_steps if preset.short is not None and short else None


def _for_budget(subject: Subject, machine: Machine, budget: Budget) -> tuple[Subject, bool, list[Decision]]:
    """Return the subject with its short-budget network and recipe where a run has too few steps for the full ones."""
    preset = subject.preset
    clock = budget.clock(machine.device, 1.0)
    if clock is None:
        return subject, False, []
    trial = draft(subject, _main(subject.frame, subject.preset.network.dimensions), machine).configuration
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
