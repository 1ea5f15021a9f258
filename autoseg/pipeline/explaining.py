"""What a trained model looks at in a case that it never saw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from autoseg.images import files
from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.predicting import options_for, origin
from autoseg.records.errors import UsageError
from autoseg.records.model import ModelId
from autoseg.records.requests import ExplainRequest, PredictRequest
from autoseg.stages import predicting, reporting
from autoseg.stages.ensembling.out_of_fold import OutOfFold
from autoseg.stages.predicting.cascade import stored_label_map
from autoseg.workspace import Workspace


def explain_case(work: Workspace, request: ExplainRequest, *, tell: Tell = quiet) -> Path:
    """Write maps of what the fold looks at that holds a case out, as NIfTI, as PNG and as one page; return the page.

    Raises:
        UsageError: There is no such case, model or structure, no fold that holds the case out was trained, or
            attention is wanted of a network without it.
    """
    plan, dataset = work.plan(request.plan), work.dataset()
    dataset.case(request.case)
    model = _model(work, OutOfFold.collect(work, plan), request)
    folder = work.model(model)
    options = options_for(folder, PredictRequest(device=request.device))
    member = predicting.load_member([folder], device=options.device)
    method = predicting.method_for(member, request.method)
    targets = predicting.targets_of(request.structures, plan.labels, member.configuration)
    image, previous = predicting.held_out_scan(work, plan, model, request.case)
    maps = predicting.explain(
        image,
        member,
        case=request.case,
        targets=targets,
        method=method,
        channels=[item.name for item in dataset.channels],
        previous=previous,
        device=options.device,
        tell=lambda done: tell(f"{method} of {request.case}", done, None),
    )
    output = request.output or work.explained(plan.name, request.case) / f"{model.key().replace('/', '_')}_{method}"
    stems = _stems(method, [item.target for item in maps])
    for item, stem in zip(maps, stems, strict=True):
        files.write_volume(output / f"{stem}.nii.gz", item.field, image.grid, description=origin(plan))
    prediction = stored_label_map(folder / "held_out", request.case, plan.labels)
    found = reporting.Explained(dataset.name, request.case, model.key(), method, image, prediction, maps, stems)
    return reporting.write_explained(found, output)


def _model(work: Workspace, there: OutOfFold, request: ExplainRequest) -> ModelId:
    """Return the fold of the candidate asked for that holds the case out."""
    name = request.model or _first(work, there, request.plan)
    if name not in there.candidates:
        fix = f"There are: {', '.join(there.candidates)}."
        raise UsageError(f"no model {name!r} was trained", fix=fix, code="no_model")
    for model in there.candidates[name]:
        if request.case in work.dataset().fold(model.fold).held_out:
            return model
    folds = ", ".join(model.fold for model in there.candidates[name])
    raise UsageError(
        f"no trained fold of {name} holds out case {request.case}; folds {folds} were trained",
        fix="Name a case that one of them holds out, or train the fold that does.",
        code="not_held_out",
    )


def _first(work: Workspace, there: OutOfFold, plan: str) -> str:
    """Return the ensemble's heaviest member, or the only candidate."""
    if (work.ensemble(plan) / "choice.json").exists():
        choice = work.choice(plan)
        return max(zip(choice.weights, choice.members, strict=True), key=lambda pair: pair[0])[1]
    names = list(there.candidates)
    if len(names) == 1:
        return names[0]
    fix = f"Name one with --model. There are: {', '.join(names)}."
    raise UsageError("several models were trained and none was chosen", fix=fix, code="no_model")


def _stems(method: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a safe file name of each map; a number tells apart those that would be the same."""
    stems: list[str] = []
    for number, name in enumerate(names):
        stem = f"{method}_{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}"
        stems.append(stem if stem not in stems else f"{stem}_{number}")
    return tuple(stems)
