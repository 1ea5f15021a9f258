"""What every training scan looks like: read as prediction reads a new one, in worker processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.compute.workers import map_cases, suited
from autoseg.images.cases import read_image
from autoseg.images.traits import Traits, traits
from autoseg.records.dataset import Case, Channel, Correction
from autoseg.records.errors import UserError
from autoseg.records.plan import Plan
from autoseg.stages.predicting.predictor import seen_by

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Order:
    """What one process needs to measure one case."""

    case: Case
    channels: tuple[Channel, ...]
    corrections: tuple[Correction, ...]
    kept: Path | None


def measure_traits(cases: Sequence[Case], plan: Plan, *, kept: Path | None = None) -> dict[str, Traits]:
    """Return case id -> its traits, in the order of the cases; a case that cannot be read any more is left out.

    Args:
        cases: Of the training.
        plan: Whose channels and corrections.
        kept: Folder in which registrations are kept.
    """
    orders = [(case.id, _Order(case, plan.channels, plan.corrections, kept)) for case in cases]
    workers = suited(None, (path for case in cases for path in case.files()))
    found = dict(map_cases(_traits_of, orders, workers=workers, label="appearance"))
    for case, item in found.items():
        if isinstance(item, UserError):
            log.warning("%s is left out of what training scans look like: %s", case, item)
    return {case.id: item for case in cases if not isinstance(item := found[case.id], UserError)}


def _traits_of(order: _Order) -> Traits:
    image = read_image(order.case.images, order.channels, order.corrections, case=order.case.id, kept=order.kept)
    return traits(seen_by(image, order.corrections), [channel.kind for channel in order.channels])
