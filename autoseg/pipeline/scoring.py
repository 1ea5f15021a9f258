"""From label maps to scores."""

from __future__ import annotations

from pathlib import Path

from autoseg.records.dataset import Dataset
from autoseg.records.metrics import Scoring
from autoseg.records.requests import EvaluateRequest
from autoseg.stages import evaluating
from autoseg.stages.evaluating.truths import usual_tolerances

USUAL_EVALUATION = EvaluateRequest()


def evaluate(
    predictions: Path, truths: Path, dataset: Dataset | None = None, request: EvaluateRequest = USUAL_EVALUATION
) -> evaluating.Scores:
    """Score a folder of label maps against another, and keep every score as CSV where the request says so.

    Args:
        predictions: Folder of label maps.
        truths: Folder of label maps; every one of them is a case.
        dataset: Names the structures, and knows patients, attributes and what was annotated; None: values are names.
        request: What is computed and shown.

    Raises:
        UsageError: An attribute is asked for that no case has.
        CasesFailed: Some pairs cannot be scored; none is then.
    """
    parts = {name: evaluating.values_by(dataset, name) for name in request.by}
    families = set(request.families)
    if evaluating.LESIONWISE & set(request.by):
        families.add("lesions")
    usual = usual_tolerances(dataset) if dataset else {}
    own = evaluating.read_tolerances(request.tolerances) if request.tolerances else {}
    evaluation = evaluating.evaluate_folder(
        predictions,
        truths,
        dataset.labels if dataset else None,
        scoring=Scoring(families=frozenset(families), tolerances_mm=usual | own),
        annotated={case.id: case.annotated for case in (*dataset.cases, *dataset.test_cases)} if dataset else None,
        workers=request.workers,
    )
    if request.output is not None:
        evaluating.write_scores(request.output, evaluation)
        if "lesions" in families:
            file = request.output.with_name(f"{request.output.stem}_lesions.csv")
            evaluating.write_table(file, evaluating.lesion_frame(evaluation))
    groups = evaluating.patients_of(dataset) if dataset else {}
    return evaluating.scores_of(evaluation, parts, groups, success_dice=request.success_dice)
