"""From the scores of all that was trained to the ensemble that predicts."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.images import files
from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.predicting import origin
from autoseg.records.plan import Plan
from autoseg.records.results import CaseScore, EnsembleChoice, Evaluation
from autoseg.records.volumes import LabelMap
from autoseg.stages import ensembling, evaluating, predicting
from autoseg.stages.ensembling.out_of_fold import OutOfFold
from autoseg.stages.evaluating.truths import score_case, truth
from autoseg.workspace import Workspace, write_record


def ensemble(work: Workspace, plan_name: str = "default", *, tell: Tell = quiet) -> EnsembleChoice:
    """Choose what predicts: over all that was trained, judged on cases that no member saw."""
    plan, dataset = work.plan(plan_name), work.dataset()
    if all(fold.name == "all" for fold in dataset.folds):
        choice = ensembling.take_first(plan, work.trained(plan.name))
        _write_choice(work, plan, choice, ())
        return choice
    there = OutOfFold.collect(work, plan)

    def drawn(case: str) -> LabelMap:
        return truth(dataset, dataset.case(case))

    tell("choose the ensemble", 0.0, None)
    choice = ensembling.choose(
        there.folds(),
        ensembling.held_out_cases(dataset),
        plan.labels,
        probabilities=there.probabilities,
        truth=drawn,
        plan=plan.name,
    )
    shared = there.shared_cases(choice.members)
    choice = ensembling.choose_postprocessing(
        choice, shared, plan.labels, predictions=lambda case: there.merged(choice, case), truth=drawn
    )
    folder = work.ensemble(plan.name)
    scores = []
    for number, case in enumerate(shared):
        tell(f"score the ensemble on held-out case {case.id}", number / len(shared), None)
        merged = there.merged(choice, case.id)
        scores.append(score_case(dataset, case, merged))
        values = predicting.written_values(merged.array, plan.labels)
        files.write_volume(folder / "predictions" / f"{case.id}.nii.gz", values, merged.grid, description=origin(plan))
    _write_choice(work, plan, choice, scores)
    return choice


def _write_choice(work: Workspace, plan: Plan, choice: EnsembleChoice, scores: Sequence[CaseScore]) -> None:
    folder = work.ensemble(plan.name)
    evaluation = Evaluation(members=choice.members, scores=tuple(scores), inputs_digest=choice.digest())
    evaluating.write_scores(folder / "scores.csv", evaluation)
    write_record(folder / "evaluation.json", evaluation)
    write_record(folder / "choice.json", choice)


def candidates(work: Workspace, plan_name: str) -> dict[str, tuple[str, ...]]:
    """Return what a selection would choose among: candidate -> folds."""
    return OutOfFold.collect(work, work.plan(plan_name)).folds()


def compare(work: Workspace, plan_name: str | None = None) -> evaluating.CandidateTable:
    """Put every trained candidate side by side, of one plan or of all, on the folds that they share.

    Raises:
        UsageError: There are fewer than two candidates, or no two of them share a fold.
    """
    dataset = work.dataset()
    if plan_name is not None:
        work.plan(plan_name)  # else a slip of the pen would look like a plan without models
    candidates = evaluating.read_candidates(work, plan_name)
    return evaluating.compare_candidates(candidates, evaluating.patients_of(dataset))
