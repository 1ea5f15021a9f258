"""From the scores of all that was trained to the ensemble that predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autoseg.images import files
from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.predicting import origin
from autoseg.records.choice import EnsembleChoice, Share
from autoseg.records.dataset import Case
from autoseg.records.errors import UsageError
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.records.plan import Plan
from autoseg.records.requests import FrocRequest, SelectRequest
from autoseg.records.volumes import LabelMap
from autoseg.stages import ensembling, evaluating, predicting
from autoseg.stages.ensembling.out_of_fold import OutOfFold
from autoseg.stages.evaluating.scoring import annotated_targets
from autoseg.stages.evaluating.truths import score_case, truth
from autoseg.storage import write_record
from autoseg.workspace import Workspace

NO_ESTIMATE = "There is no honest estimate: all cases are of one patient, and none can be judged without it."


def ensemble(
    work: Workspace, plan_name: str = "default", request: SelectRequest | None = None, *, tell: Tell = quiet
) -> EnsembleChoice:
    """Choose what predicts: over all that was trained, judged on cases that no member saw.

    Args:
        work: Where the models lie.
        plan_name: Whose models.
        request: Metric and budget; its `plan` is not read.
        tell: Told how far it is.
    """
    request = request or SelectRequest()
    plan, dataset = work.plan(plan_name), work.dataset()
    if all(fold.name == "all" for fold in dataset.folds):
        choice = ensembling.take_first(plan, work.trained(plan.name))
        choice = with_likeness(choice, work, plan, {}, tell=tell)
        _write_choice(work, plan, choice, ())
        return choice
    maker = _Maker.prepare(OutOfFold.collect(work, plan), request)
    tell("choose the ensemble", 0.0, None)
    choice = maker.choose()
    shared = maker.there.shared_cases(choice.members)
    folder = work.ensemble(plan.name)
    scores = []
    for number, case in enumerate(shared):
        tell(f"score the ensemble on held-out case {case.id}", number / len(shared), None)
        merged = maker.there.merged(choice, case.id)
        scores.append(maker.score(case, merged))
        values = predicting.written_values(merged.array, plan.labels)
        files.write_volume(folder / "predictions" / f"{case.id}.nii.gz", values, merged.grid, description=origin(plan))
    tell("judge the choice by cases that had no say in it", 0.9, None)
    choice = maker.calibrated(maker.with_estimates(choice, scores))
    choice, signs = maker.with_quality(choice, scores)
    choice = with_likeness(choice, work, plan, signs, tell=tell)
    _write_choice(work, plan, choice, scores)
    return choice


@dataclass(frozen=True)
class _Maker:
    """Makes choices from all shared cases, or from some of them for the honest estimate."""

    there: OutOfFold
    question: ensembling.Question
    budget: ensembling.Budget
    per_class: bool = False
    known: ensembling.FigureRows = field(default_factory=dict)

    @classmethod
    def prepare(cls, there: OutOfFold, request: SelectRequest) -> _Maker:
        """Return what makes the choices that a request asks for."""
        question = ensembling.ask(
            there.folds(),
            ensembling.held_out_cases(there.dataset),
            there.plan.labels,
            probabilities=there.probabilities,
            truth=there.truth,
            metric=request.metric,
        )
        budget = ensembling.Budget(there.seconds(), request.seconds_per_case)
        return cls(there, question, budget, per_class=request.per_class)

    def choose(self, rows: Sequence[int] | None = None) -> EnsembleChoice:
        """Return the ensemble and its post-processing, chosen from the cases in these places (None: from all)."""
        choice = ensembling.choose(self.question, plan=self.there.plan.name, budget=self.budget, rows=rows)
        if self.per_class:
            choice = ensembling.choose_by_class(self.question, choice, budget=self.budget, rows=rows)
        known = {self.question.cases[row].id for row in rows} if rows is not None else None
        cases = [case for case in self.there.shared_cases(choice.members) if known is None or case.id in known]
        return ensembling.choose_postprocessing(
            choice,
            cases,
            self.there.plan.labels,
            predictions=lambda case: self.there.merged(choice, case),
            truth=self.there.truth,
            known=self.known,
        )

    def score(self, case: Case, prediction: LabelMap) -> CaseScore:
        """Return the score of a prediction, lesions counted where they were chosen by."""
        return score_case(self.there.dataset, case, prediction, lesions=self.question.metric == "lesion_f1")

    def calibrated(self, choice: EnsembleChoice) -> EnsembleChoice:
        """Return the choice with what its probabilities are worth."""
        found = ensembling.calibrate(
            choice,
            self.question.cases,
            self.there.plan.labels,
            probabilities=self.there.probabilities,
            truth=self.there.truth,
        )
        return choice.model_copy(update={"calibration": found})

    def with_quality(
        self, choice: EnsembleChoice, scores: Sequence[CaseScore]
    ) -> tuple[EnsembleChoice, dict[str, np.ndarray]]:
        """Return the choice with what predicts the Dice of new cases, and case -> its signs against the usual.

        `scores` are the choice's own, out of fold.
        """
        known = {case.id: case for case in ensembling.held_out_cases(self.there.dataset)}
        cases = [known[score.case] for score in scores]
        names = [name for name, _ in self.there.plan.labels.targets]
        if not cases:
            return choice, {}
        signs = self.there.signs(choice, [case.id for case in cases])
        voices = ensembling.hear_voices(cases, signs)
        rows = [
            predicting.against_usual(row[None], (case.fold,), voices) for row, case in zip(signs, cases, strict=True)
        ]
        found = tuple(
            model
            for figure in ensembling.PREDICTED
            for model in ensembling.fit_quality(
                names, cases, np.array(rows), ensembling.figure_table(scores, figure), figure=figure
            )
        )
        told = {case.id: row for case, row in zip(cases, rows, strict=True)}
        return choice.model_copy(update={"quality": found, "voices": voices}), told

    def with_estimates(self, choice: EnsembleChoice, scores: Sequence[CaseScore]) -> EnsembleChoice:
        """Return the choice with an honest estimate beside the optimistic one that `scores` give."""
        dataset = self.there.dataset
        fits, honest = ensembling.cross_fit(
            self.question,
            self.choose,
            lambda made, case: self.score(dataset.case(case.id), self.there.merged(made, case.id)),
        )
        groups = {case.id: case.group for case in dataset.cases}
        notes = choice.notes if fits else (*choice.notes, NO_ESTIMATE)
        found = ensembling.estimates(self.question.metric, scores, honest, groups)
        return choice.model_copy(update={"estimates": found, "cross_fits": fits, "notes": notes})


def with_likeness(
    choice: EnsembleChoice, work: Workspace, plan: Plan, signs: Mapping[str, np.ndarray], *, tell: Tell = quiet
) -> EnsembleChoice:
    """Return the choice with what tells scans that are unlike those of the training.

    Args:
        choice: What predicts.
        work: Where the data set lies.
        plan: Whose channels and corrections.
        signs: Case -> the signs of its prediction out of fold, against the usual; what is missing is not told by.
        tell: Told how far it is.
    """
    dataset = work.dataset()
    tell("measure what the training scans look like", 0.95, None)
    found = ensembling.measure_traits(dataset.cases, plan, kept=work.registrations)
    for case, rows in signs.items():
        if case in found:
            found[case] |= predicting.told_by(rows)
    groups = {case.id: case.group for case in dataset.cases}
    likeness = ensembling.fit_likeness([groups[case] for case in found], list(found.values()))
    return choice.model_copy(update={"likeness": likeness})


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


def write_comparison(file: Path, found: evaluating.CandidateTable) -> None:
    """Write a comparison as CSV: candidates in `file`, structures and ranks in `<name>_structures` and `<name>_ranks`.

    Raises:
        ResourceError: A file cannot be written.
    """
    tables = evaluating.comparison_frames(found)
    for name, table in tables.items():
        evaluating.write_table(file.with_name(f"{file.stem}{name}{file.suffix}"), table)


def froc(work: Workspace, plan_name: str, request: FrocRequest, *, tell: Tell = quiet) -> tuple[evaluating.Froc, ...]:
    """Return free-response curves of the structures on the cases that a model never saw.

    Raises:
        UsageError: There is no such model or structure, no lesion, or fewer than two folds.
    """
    plan, dataset = work.plan(plan_name), work.dataset()
    there = OutOfFold.collect(work, plan)
    shares = _shares(work, there, plan, request.model)
    names = [name for name, _ in plan.labels.targets]
    wanted = request.structures or tuple(names)
    for name in wanted:
        if name not in names:
            raise UsageError(f"no structure {name!r} is predicted", fix=f"There are: {', '.join(names)}.")
    fold_of = {case: fold.name for fold in dataset.folds for case in fold.held_out}
    counts: dict[str, list[evaluating.HeldOutLesions]] = {name: [] for name in wanted}
    cases = there.shared_cases(tuple(shares))
    evaluating.check_folds(sorted({fold_of[case.id] for case in cases}))
    for number, case in enumerate(cases):
        tell(f"count lesions of held-out case {case.id}", number / len(cases), None)
        drawn = truth(dataset, case)
        probabilities = there.merged_probabilities(shares, case.id)
        known = annotated_targets(plan.labels, case.annotated)
        for name in (name for name in wanted if name in known):
            mask, probability = _of_target(drawn, probabilities, plan, name)
            counts[name].append(
                evaluating.count_at_thresholds(
                    case.id, mask, probability, fold=fold_of[case.id], spacing_mm=drawn.grid.spacing_mm
                )
            )
    return tuple(
        evaluating.froc(name, rows, most_false_positives=request.most_false_positives) for name, rows in counts.items()
    )


def _shares(work: Workspace, there: OutOfFold, plan: Plan, model: str | None) -> dict[str, Share]:
    """Return candidate -> share: the model asked for, else the chosen ensemble, else the only candidate."""
    if model is None and (work.ensemble(plan.name) / "choice.json").exists():
        choice = work.choice(plan.name)
        return choice.shares
    names = list(there.candidates)
    if model is None and len(names) == 1:
        return {names[0]: 1.0}
    if model not in names:
        asked = f"no model {model!r} was trained" if model else "several models were trained and none was chosen"
        raise UsageError(asked, fix=f"Name one with --model. There are: {', '.join(names)}.", code="no_model")
    return {model: 1.0}


def _of_target(drawn: LabelMap, probabilities: np.ndarray, plan: Plan, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth's mask of one structure or region, and its probability; what is ignored is in neither."""
    index = [target for target, _ in plan.labels.targets].index(name)
    values = plan.labels.targets[index][1]
    channel = probabilities[index + (plan.labels.output == "softmax")]
    if plan.labels.ignore_value is not None:
        channel = np.where(drawn.array == plan.labels.ignore_value, 0.0, channel)
    return np.isin(drawn.array, values), channel
