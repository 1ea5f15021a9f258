"""Two plans side by side: what was decided differently, and why on each side."""

from __future__ import annotations

from dataclasses import dataclass

from autoseg.records.plan import Decision, Plan


@dataclass(frozen=True)
class Difference:
    """One decision on which two plans differ; None where a plan did not decide it."""

    what: str
    first: Decision | None
    second: Decision | None

    def as_row(self) -> dict[str, str]:
        """Return what was decided, and both values with their reasons; `-` where a plan did not decide it."""
        sides = {"first": self.first, "second": self.second}
        told = {name: "-" if side is None else f"{side.value}: {side.because}" for name, side in sides.items()}
        return {"what": self.what, **told}


def compare(first: Plan, second: Plan) -> tuple[Difference, ...]:
    """Return the decisions whose values differ, in the order of the first plan, then those of the second alone.

    Where each plan has one preset, and not the same, configurations are matched by what follows the preset's name:
    `unet_3d.patch_shape` stands beside `mednext_3d.patch_shape` as `3d.patch_shape`.
    """
    matched = len(first.presets) == len(second.presets) == 1 and first.presets != second.presets
    ours, theirs = (_decisions(plan, shorten=matched) for plan in (first, second))
    found = (Difference(what, ours.get(what), theirs.get(what)) for what in dict.fromkeys((*ours, *theirs)))
    return tuple(item for item in found if _value(item.first) != _value(item.second))


def _decisions(plan: Plan, *, shorten: bool) -> dict[str, Decision]:
    return {_what(item, plan.presets[0] if shorten else ""): item for item in plan.decisions}


def _what(decision: Decision, preset: str) -> str:
    if not preset:
        return decision.what
    rest = decision.what.removeprefix(preset)
    return rest[1:] if rest != decision.what else rest


def _value(decision: Decision | None) -> str | None:
    return None if decision is None else decision.value
