"""Fingerprint, presets and device to a plan: the rules in their order, every number with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import autoseg
from autoseg.records.configuration import Preparation
from autoseg.records.dataset import Correction
from autoseg.records.errors import ResourceError, UsageError, UserError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Decision, Plan
from autoseg.records.preset import Preset
from autoseg.stages.planning import lineup
from autoseg.stages.planning.costs import Cost, meter
from autoseg.stages.planning.drafting import preparation
from autoseg.stages.planning.frame import survey
from autoseg.stages.planning.parts import Budget, Pace, Part, main_kind, part_of
from autoseg.stages.planning.reasons import Reasoned, listed
from autoseg.stages.planning.wanted import Machine


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
    found = [preparation(frame, main_kind(frame, dimensions)) for frame, dimensions in frames]
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
                parts.append(part_of(fingerprint, preset, on, budget))
            except UserError as error:
                error.file = error.file or f"preset {preset.name}"
                if not isinstance(error, ResourceError) or minutes is None or not parts:
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


def _check(presets: Sequence[Preset], minutes: float | None) -> None:
    if not presets:
        raise UsageError("a plan needs at least one preset", fix="Name one with --preset unet.")
    names = [preset.name for preset in presets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"preset {listed(twice)} is named twice", fix="Name each preset once.")
    if minutes is not None and minutes <= 0:
        raise UsageError(f"a budget of {minutes:g} minutes leaves no time", fix="Give a positive --minutes.")
