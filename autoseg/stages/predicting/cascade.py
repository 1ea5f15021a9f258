"""What the second stage of a cascade sees of the first: its label map, on the second stage's network grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.images import store
from autoseg.images.home import home
from autoseg.records.configuration import Configuration
from autoseg.records.dataset import Dataset
from autoseg.records.errors import DataError, UsageError
from autoseg.records.labels import Labels
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.volumes import LabelMap
from autoseg.stages import preprocessing
from autoseg.stages.predicting.fields import follow
from autoseg.stages.predicting.held_out import stored_field
from autoseg.workspace import Workspace


def stored_label_map(folder: Path, case: str, labels: Labels) -> LabelMap:
    """Return what a first stage said of a case that it never saw, in the scan's geometry."""
    field = stored_field(folder, case, labels.output)
    array = home([field], output=labels.output, region_values=labels.region_values)
    return LabelMap(array, field.passage.original)


def fold_folder(work: Workspace, dataset: Dataset, model: ModelId, case: str) -> Path:
    """Return the training folder of the model's fold in which `case` was held out.

    Raises:
        DataError: The case was held out in no fold.
    """
    for fold in dataset.folds:
        if case in fold.held_out:
            return work.model(model.model_copy(update={"fold": fold.name}))
    raise DataError("was held out in no fold", case=case, fix="Import the data set again.", code="no_fold")


def first_stage(model: ModelId, configuration: Configuration) -> ModelId | None:
    """Return the model whose predictions a second stage takes, or None where it is no second stage."""
    if configuration.first_stage is None:
        return None
    return model.model_copy(update={"configuration": configuration.first_stage})


def write_out_of_fold(work: Workspace, plan: Plan, model: ModelId, cases: Sequence[str]) -> dict[str, Path]:
    """Keep the first stage's out-of-fold label maps on the second stage's grid; return case -> file.

    A second stage trains only on what the first predicts of cases that it never saw: otherwise it learns to trust a
    first stage that is better in training than it will ever be again.

    Raises:
        UsageError: The first stage has not predicted a case yet.
    """
    configuration = plan.configuration(model.configuration)
    stage = first_stage(model, configuration)
    if stage is None or configuration.previous is None:
        return {}
    folder, dataset = work.preprocessed(configuration.data_key), work.dataset()
    written = {}
    for case in cases:
        source = fold_folder(work, dataset, stage, case) / "held_out"
        marker = source / f"{case}.json"
        if not marker.exists():
            raise UsageError(
                f"{configuration.name} trains on what {stage.configuration} predicts out of fold, and {case} has none",
                fix=f"Train {stage.configuration} in every fold first.",
                code="missing_stage",
            )
        target = folder / f"previous_{stage.configuration}_{stage.variant}_s{stage.seed}" / f"{case}.b2nd"
        if not target.exists() or target.stat().st_mtime_ns < marker.stat().st_mtime_ns:
            passage = preprocessing.open_case(folder, case).passage
            store.write_array(target, follow(stored_label_map(source, case, plan.labels), passage))
        written[case] = target
    return written
