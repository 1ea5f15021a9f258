"""What is known of a fold's training cases beside their arrays: whose they are, and how large the classes."""

from __future__ import annotations

import math
from collections.abc import Collection

from autoseg.records.dataset import Dataset
from autoseg.records.fingerprint import Fingerprint
from autoseg.stages.training.request import FoldFacts


def fold_facts(dataset: Dataset, fingerprint: Fingerprint | None, ids: Collection[str]) -> FoldFacts:
    """Return the facts of the cases `ids`; the voxels are those of the fingerprint, as the scans were taken."""
    wanted = set(ids)
    groups = {case.id: case.group for case in dataset.cases if case.id in wanted}
    measured = [case for case in fingerprint.cases if case.id in wanted] if fingerprint else []
    if not measured:
        return FoldFacts(groups)
    structures = [sum(counts) / len(measured) for counts in zip(*(case.voxels for case in measured), strict=True)]
    everything = sum(math.prod(case.shape) for case in measured) / len(measured)
    return FoldFacts(groups, (everything - sum(structures), *structures))
