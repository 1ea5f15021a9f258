"""Cases that took no part in training or selection: what every fold and every candidate says of them, kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from autoseg.images import home, postprocess, store
from autoseg.images.cases import read_image
from autoseg.images.fields import Field
from autoseg.pipeline.predicting import options_for
from autoseg.records.choice import PostprocessingStep
from autoseg.records.dataset import Case
from autoseg.records.evaluation import Evaluation
from autoseg.records.markers import StoredField
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.requests import PredictRequest
from autoseg.records.volumes import Image, LabelMap
from autoseg.stages import predicting
from autoseg.stages.evaluating.truths import score_case
from autoseg.stages.predicting.held_out import stored_field
from autoseg.stages.predicting.probabilities import to_probabilities
from autoseg.storage import write_record
from autoseg.workspace import Workspace

MEAN = "mean_of_folds"


def predict(work: Workspace, plan: Plan, candidates: dict[str, list[ModelId]], folder: Path) -> None:
    """Keep the probabilities of each fold, and of the mean of its folds' logits, for every locked case.

    What was predicted with these weights already is left as it is, so that a stopped run goes on.
    """
    dataset = work.dataset()
    images = [(case, read_image(case.images, dataset.channels, dataset.corrections, case=case.id))
              for case in dataset.test_cases]  # fmt: skip
    for models in candidates.values():
        members = [predicting.load_member([work.model(model)]) for model in models]
        options = options_for(work.model(models[0]), PredictRequest())
        for case, image in images:
            _predict_case(case, image, members, options, folder=folder)


def _predict_case(
    case: Case, image: Image, members: Sequence[predicting.Member], options: predicting.Options, *, folder: Path
) -> None:
    target = folder / members[0].name
    digest = "+".join(member.digest for member in members)
    marker = target / MEAN / f"{case.id}.json"
    if marker.exists() and StoredField.parse(marker.read_bytes(), file=str(marker)).inputs_digest == digest:
        return
    fields = []
    for member in members:
        (field,) = predicting.predict_fields(image, [member], case=case.id, options=options)
        _keep(target / member.keys[0].rsplit("/", 1)[1], case.id, field, member.name, member.digest)
        fields.append(field)
    mean = Field(np.mean([field.array for field in fields], axis=0), fields[0].passage)
    _keep(target / MEAN, case.id, mean, members[0].name, digest)


def _keep(folder: Path, case: str, field: Field, name: str, digest: str) -> None:
    store.write_probabilities(folder / f"{case}.b2nd", to_probabilities(field.array, "softmax"))
    marker = StoredField(case=case, member=name, passage=field.passage, inputs_digest=digest, seconds=0.0)
    write_record(folder / f"{case}.json", marker)


def label_maps(
    work: Workspace,
    plan: Plan,
    shares: dict[str, float],
    folder: Path,
    *,
    postprocessing: Sequence[PostprocessingStep] = (),
    which: str = MEAN,
) -> Iterator[tuple[Case, LabelMap]]:
    """Yield each locked case with the label map of an ensemble of candidates (candidate -> share)."""
    for case in work.dataset().test_cases:
        fields = []
        for name, share in shares.items():
            kept = stored_field(folder / name / which, case.id, plan.labels.output)
            fields.append(Field(kept.array, kept.passage, share))
        array = home.home(fields, output=plan.labels.output, region_values=plan.labels.region_values)
        grid = fields[0].passage.original
        yield case, LabelMap(postprocess.apply(array, postprocessing, plan.labels, grid.spacing_mm), grid)


def evaluate(
    work: Workspace, plan: Plan, shares: dict[str, float], folder: Path, *, postprocessing: Sequence = ()
) -> Evaluation:
    """Return the scores of an ensemble of candidates on the locked cases."""
    dataset = work.dataset()
    scores = [
        score_case(dataset, case, label_map)
        for case, label_map in label_maps(work, plan, shares, folder, postprocessing=postprocessing)
    ]
    return Evaluation(members=tuple(shares), scores=tuple(scores))
