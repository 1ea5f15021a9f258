"""What one preset adds to a plan: its configurations, how they share its time, and which of them are left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from autoseg.records.configuration import Configuration
from autoseg.records.errors import UsageError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Triple
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Decision
from autoseg.records.preset import Preset, ShortBudget
from autoseg.stages.planning import lineup, regions
from autoseg.stages.planning.clock import Clock, run_clock
from autoseg.stages.planning.drafting import Draft, Subject, draft, low_resolution, wanted
from autoseg.stages.planning.fitting import expected
from autoseg.stages.planning.frame import Frame, survey
from autoseg.stages.planning.lineup import Situation
from autoseg.stages.planning.presets import load_preset, preset_names
from autoseg.stages.planning.reasons import Reasoned
from autoseg.stages.planning.wanted import Machine

Pace = Callable[[Configuration], float]
"""Seconds of a configuration's training step, from a calibration."""

# A configuration or preset leaves the line-up when its run has fewer steps than this share of what its recipe for a
# short budget wants, or, where it has no such recipe, than a quarter of what a full one wants.
LEAST_SHARE = 0.5
LEAST_SHARE_WITHOUT_SHORT = 4
STEPS_OF_A_FULL_RECIPE: int = ShortBudget.model_fields["steps_below"].default


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


@dataclass(frozen=True)
class _Ground:
    """What the configurations of a preset are drafted on.

    Attributes:
        short: A run has too few steps for the full recipe.
        coarse: Spacing of a low resolution, None where there is none.
        looks_again: Whether there is a second stage on regions.
        min_steps: That a short recipe wants; None where there is no such recipe, or time enough.
    """

    subject: Subject
    machine: Machine
    budget: Budget
    short: bool
    coarse: Reasoned[Triple | None]
    looks_again: Reasoned[bool]
    min_steps: int | None


def part_of(fingerprint: Fingerprint, preset: Preset, machine: Machine, budget: Budget) -> Part:
    """Return what a preset adds to a plan; configurations that a run has too few steps for are left out one by one.

    Raises:
        UsageError: The preset has no network for these data.
        DataError: The fingerprint holds no case.
        ResourceError: Nothing fits the device.
    """
    full = Subject(survey(fingerprint, preset.planning), fingerprint.labels, preset)
    subject, short, decisions = _for_budget(full, machine, budget)
    ground = _Ground(
        subject,
        machine,
        budget,
        short=short,
        coarse=_coarse(subject, machine),
        looks_again=_regions(subject, machine),
        min_steps=preset.short.min_steps if short and preset.short is not None else None,
    )
    weights = _weights(ground)
    decisions += _second_stages(ground, asked=fingerprint.pieces is not None)
    while True:
        clocks = _clocks(ground, weights)
        drafts = _drafts(ground, clocks)
        steps = {kind: _steps(clocks[kind], drafts[kind]) for kind in weights}
        lacking = _lacking(steps, _main(subject), LEAST_SHARE * (ground.min_steps or 0))
        if lacking is None:
            break
        because = (
            f"its run has time for about {steps[lacking]:.0f} steps, fewer than half of the {ground.min_steps}"
            " that a short recipe wants; the time goes to the other configurations"
        )
        decisions.append(Reasoned("left out", because).decision(f"{subject.name(lacking)}.share"))
        weights.pop(lacking)
    total = sum(weight.value for weight in weights.values())
    return Part(
        drafts=tuple(drafts.values()),
        weighted=tuple((subject.name(kind), weight.value / total) for kind, weight in weights.items()),
        reasons={subject.name(kind): weight.because for kind, weight in weights.items()},
        decisions=tuple(decisions),
        steps=steps[_main(subject)],
        least_steps=_least_steps(preset),
    )


def main_kind(frame: Frame, dimensions: Sequence[str]) -> str:
    """Return the configuration that is never left out: `3d`, or `2d` where data or network know no third axis."""
    return "2d" if frame.flat or "3d" not in dimensions else "3d"


def _main(subject: Subject) -> str:
    return main_kind(subject.frame, subject.preset.network.dimensions)


def _weights(ground: _Ground) -> dict[str, Reasoned[float]]:
    """Return the weight of each configuration worth training."""
    frame, preset = ground.subject.frame, ground.subject.preset
    situation = Situation(
        frame.flat,
        frame.anisotropy,
        ground.coarse.value is not None,
        ground.short,
        regions=ground.looks_again.value,
        by_hand=preset.planning.regions is not None,
    )
    weights = lineup.weights(situation, preset.network.dimensions)
    if not weights:
        raise _not_in_2d(preset)
    return weights


def _not_in_2d(preset: Preset) -> UsageError:
    able = [name for name in preset_names() if "2d" in load_preset(name).network.dimensions]
    return UsageError(
        f"the data are 2D, and 'network.dimensions' is {list(preset.network.dimensions)}",
        fix=f"Choose one that can do 2D (--preset): {', '.join(able)}.",
        code="no_2d_network",
    )


def _second_stages(ground: _Ground, *, asked: bool) -> list[Decision]:
    """Return why there is no low resolution, and why there is a second stage on regions or none."""
    subject, decisions = ground.subject, []
    if ground.coarse.value is None:
        decisions.append(ground.coarse.decision(subject.name("3d_lowres"), "not planned"))
    if ground.looks_again.value or asked or subject.preset.planning.regions is not None:
        value = "planned" if ground.looks_again.value else "not planned"
        decisions.append(ground.looks_again.decision(subject.name("3d_regions"), value))
    return decisions


def _clocks(ground: _Ground, weights: Mapping[str, Reasoned[float]]) -> dict[str, Clock | None]:
    """Return the time of a run of each configuration that is planned."""
    total = sum(weight.value for weight in weights.values())
    clocks = {}
    for kind in _planned(ground):
        # One outside of the line-up is planned for those who train it by name, as if it had all the time.
        share = weights[kind].value / total if kind in weights else 1.0
        speed = _speed(ground.subject, "2d" if kind == "2d" else "3d", ground.machine, ground.budget)
        clocks[kind] = ground.budget.clock(speed, ground.machine.device, share, min_steps=ground.min_steps)
    return clocks


def _drafts(ground: _Ground, clocks: Mapping[str, Clock | None]) -> dict[str, Draft]:
    """Return each configuration, fitted to the memory and to the time of its run."""
    coarse, drafts = ground.coarse, {}
    for kind, clock in clocks.items():
        spacing = Reasoned(coarse.value, coarse.because) if kind == "3d_lowres" and coarse.value else None
        drafts[kind] = draft(ground.subject, kind, replace(ground.machine, clock=clock), spacing_mm=spacing,
                             has_low_resolution=coarse.value is not None)  # fmt: skip
    return drafts


def _planned(ground: _Ground) -> tuple[str, ...]:
    """Return the configurations that are drafted, whether they are worth training or not."""
    if _main(ground.subject) == "2d":
        return ("2d",)
    slices = ("2d",) if "2d" in ground.subject.preset.network.dimensions else ()
    coarse = ("3d_lowres", "3d_cascade") if ground.coarse.value is not None else ()
    return (*slices, "3d", *coarse, *(("3d_regions",) if ground.looks_again.value else ()))


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
