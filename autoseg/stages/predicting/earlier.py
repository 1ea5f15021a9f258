"""What earlier stages said of the cases that a fold holds out."""

from __future__ import annotations

from collections.abc import Iterator

from autoseg.images.cases import read_image
from autoseg.images.proposals import Foreground
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.volumes import Image, LabelMap
from autoseg.stages.predicting.cascade import first_stage, fold_folder, stored_label_map
from autoseg.stages.predicting.fields import Earlier
from autoseg.stages.predicting.proposing import stored_foreground
from autoseg.workspace import Workspace


def held_out_scans(work: Workspace, plan: Plan, model: ModelId) -> Iterator[tuple[str, Image, Earlier]]:
    """Yield each held-out case of a model's fold: id, corrected image, what its first stage's same fold said."""
    for case in work.dataset().fold(model.fold).held_out:
        yield case, *held_out_scan(work, plan, model, case)


def held_out_scan(work: Workspace, plan: Plan, model: ModelId, case: str) -> tuple[Image, Earlier]:
    """Return a case that a model's fold holds out: the corrected image, what its first stage's same fold said."""
    dataset, configuration = work.dataset(), plan.configuration(model.configuration)
    stage = first_stage(model, configuration)
    image = read_image(dataset.case(case).images, dataset.channels, dataset.corrections, case=case,
                       kept=work.registrations)  # fmt: skip
    earlier: dict[str, LabelMap | Foreground] = {}
    if stage is not None:
        source = fold_folder(work, dataset, stage, case) / "held_out"
        said = stored_foreground(source, case, plan.labels.output) if configuration.regions else None
        earlier[stage.configuration] = said or stored_label_map(source, case, plan.labels)
    return image, earlier
