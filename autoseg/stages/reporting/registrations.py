"""How well registered channels fit, in numbers and in pictures before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.images import orientation
from autoseg.images.cases import read_image
from autoseg.records.dataset import Correction, Dataset
from autoseg.records.errors import UserError
from autoseg.records.registration import Motion
from autoseg.stages.reporting import figures
from autoseg.storage import read_record
from autoseg.workspace import Workspace

MOST_PICTURES = 3


@dataclass(frozen=True)
class Registered:
    """One registered channel in the report.

    Attributes:
        motions: Of each case, worst fit first.
        pictures: Case -> inline image of the channel's outlines on the first one, before and after.
    """

    channel: str
    onto: str
    motions: tuple[Motion, ...]
    pictures: dict[str, str]

    @property
    def undone(self) -> int:
        """Of how many cases the registration was undone."""
        return sum(not motion.accepted for motion in self.motions)


def registrations(work: Workspace) -> list[Registered]:
    """Return what is kept of each channel that was registered, with pictures of the least and the most moved case."""
    dataset = work.dataset()
    wanted = [item.channel for item in dataset.corrections if item.kind == "register_to_first" and item.channel]
    kept = _kept(work, dataset) if wanted else []
    found = []
    for channel in wanted:
        motions = sorted((item for item in kept if item.channel == channel), key=lambda item: item.metric_after)[::-1]
        if not motions:
            continue
        pictures = {id: picture for id in _shown(motions) if (picture := _picture(work, dataset, id, channel))}
        found.append(Registered(channel, dataset.channels[0].name, tuple(motions), pictures))
    return found


def _kept(work: Workspace, dataset: Dataset) -> list[Motion]:
    """Return the latest motion of each case and channel; a file whose images changed left an older one."""
    ids = {case.id for case in (*dataset.cases, *dataset.test_cases)}
    files = sorted(work.registrations.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    latest: dict[tuple[str, str], Motion] = {}
    for file in files:
        try:
            motion = read_record(file, Motion)
        except UserError:
            continue  # damaged: it is searched for again when the case is read
        if motion.case in ids:
            latest[motion.case, motion.channel] = motion
    return list(latest.values())


def _shown(motions: Sequence[Motion]) -> list[str]:
    """Return the worst fit, the one that moved most, and the median."""
    order = [motions[0], max(motions, key=lambda item: item.corner_mm), motions[len(motions) // 2]]
    return list(dict.fromkeys(item.case for item in order))[:MOST_PICTURES]


def _picture(work: Workspace, dataset: Dataset, id: str, channel: str) -> str:
    case = dataset.case(id)
    names = [item.name for item in dataset.channels if item.name in case.images]
    if channel not in names:
        return ""
    index = next(n for n, item in enumerate(dataset.channels) if item.name == channel)
    first = next(n for n, item in enumerate(dataset.channels) if item.name == names[0])
    moved = (dataset.corrections, _by_headers(dataset.corrections))
    try:
        after, before = (
            read_image(case.images, dataset.channels, chain, case=id, kept=work.registrations) for chain in moved
        )
    except UserError:
        return ""
    fixed, grid = orientation.orient(after.array[first], after.grid)
    layers = [orientation.orient(image.array[index], image.grid)[0] for image in (before, after)]
    return figures.outlines(fixed, layers, grid.spacing_mm, titles=("before", "after"))


def _by_headers(corrections: Sequence[Correction]) -> tuple[Correction, ...]:
    """Return the chain that resamples where it would register."""
    return tuple(
        item.model_copy(update={"kind": "resample_to_first"}) if item.kind == "register_to_first" else item
        for item in corrections
    )


def fit(value: float) -> str:
    """Return a metric for people, as mutual information (higher is better)."""
    return "none" if math.isinf(value) else f"{-value:.3f}"
