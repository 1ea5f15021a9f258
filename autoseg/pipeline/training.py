"""From preprocessed cases to trained models and the scores of their held-out cases."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from autoseg import upkeep
from autoseg.compute import devices
from autoseg.locks import locked, remove_left_overs
from autoseg.pipeline import Tell, pacing, quiet
from autoseg.pipeline.predicting import options_for
from autoseg.pipeline.preparing import preprocess
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.records.model import ModelId, RunRecord, TrainedModel
from autoseg.records.plan import Plan
from autoseg.records.requests import PredictRequest, TrainRequest
from autoseg.stages import evaluating, predicting, preprocessing, training
from autoseg.stages.evaluating.truths import score_case
from autoseg.stages.training import runs
from autoseg.stages.training.facts import fold_facts
from autoseg.stages.training.pretrained import find
from autoseg.storage import read_record, write_record
from autoseg.workspace import Workspace

log = logging.getLogger("autoseg")

SHOWN = 4


def train(work: Workspace, request: TrainRequest, *, tell: Tell = quiet) -> tuple[Evaluation, ...]:
    """Bring the preprocessed cases up to date, fit each model, predict its held-out cases, and score them."""
    plan = work.plan(request.plan)
    wanted = runs.models(work.dataset(), plan, request)
    # Else a case that has changed, or was damaged, would be trained on as it was.
    preparations = [plan.configuration(model.configuration).preparation for model in wanted]
    preprocess(work, preparations, tell=tell)
    return train_models(work, plan, wanted, request, tell)


def train_models(
    work: Workspace, plan: Plan, wanted: Sequence[ModelId], request: TrainRequest, tell: Tell
) -> tuple[Evaluation, ...]:
    """Fit each model, predict its held-out cases, and score them; the cases are preprocessed already."""
    held_out = pacing.forecast_held_out(work, plan.name)
    budgets = [
        runs.budget_seconds(plan, model.configuration, wanted, request.minutes, held_out_seconds=held_out)
        for model in wanted
    ]
    evaluations: list[Evaluation] = []
    predicting_took: list[float] = []
    for number, (model, budget) in enumerate(zip(wanted, budgets, strict=True)):
        where = f"[{number + 1}/{len(wanted)}] {model.key()}"
        ahead = [(other.configuration, seconds) for other, seconds in zip(wanted, budgets, strict=True)][number:]
        later = ahead[1:]
        pacer = pacing.Pacer(work, model.plan, model.configuration)
        predictions = pacing.held_out_seconds(predicting_took, pacing.expected_held_out(held_out, ahead))

        def progress(
            now: training.Progress,
            where: str = where,
            number: int = number,
            later: Sequence[tuple[str, float | None]] = tuple(later),
            pacer: pacing.Pacer = pacer,
            predictions: float = predictions,
        ) -> None:
            pacer.note(now)
            done = (number + now.step / max(now.steps, 1)) / len(wanted)
            tell(f"{where} {progress_line(now)}", done, now.seconds_left + pacer.to_come(now, later) + predictions)

        fit(work, plan, model, request, budget_seconds=budget, progress=progress)
        _report_overrun(work, model)
        begun, known = time.perf_counter(), (work.model(model) / "evaluation.json").exists()
        evaluations.append(predict_held_out(work, plan, model, device=request.device, where=where, tell=tell))
        if not known:
            predicting_took.append(time.perf_counter() - begun)
        log.info("%s: mean Dice %.4f", model.key(), evaluations[-1].mean_dice())
    return tuple(evaluations)


def progress_line(now: training.Progress) -> str:
    """Return where a run is in a line: loss, Dice (of many classes the four lowest), time, waiting, memory."""
    scored = sorted((item for item in now.dice.items() if item[1] == item[1]), key=lambda item: item[1])
    names = scored if len(scored) <= SHOWN else scored[:SHOWN]
    parts = [f"step {now.step}/{now.steps} loss {now.loss:.3f}"]
    if names:
        lowest = "lowest " if len(scored) > SHOWN else ""
        parts.append(f"Dice {lowest}" + " ".join(f"{name} {value:.2f}" for name, value in names))
    parts.append(f"{now.step_seconds:.2f} s/step")
    if now.wait_fraction >= 0.01:
        parts.append(f"waiting {now.wait_fraction:.0%}")
    if now.memory_gb:
        parts.append(f"{now.memory_gb:.1f} GB")
    return ", ".join(parts)


def _report_overrun(work: Workspace, model: ModelId) -> None:
    """Say so when a run took longer than its budget: its steps were fixed before the first one."""
    seconds = read_record(work.model(model) / "model.json", TrainedModel).seconds
    record = read_record(work.model(model) / "run.json", RunRecord)
    budget = record.budget_seconds
    if budget and not record.extensions and seconds > 1.05 * budget:
        log.warning("%s took %.0f s of the %.0f s that it had: the machine became slower", model.key(), seconds, budget)


def fit(
    work: Workspace,
    plan: Plan,
    model: ModelId,
    request: TrainRequest,
    *,
    budget_seconds: float | None = None,
    progress: Callable[[training.Progress], None] | None = None,
) -> Path:
    """Train one model on its fold's own cases, or return at once when it is trained already."""
    configuration = plan.configuration(model.configuration)
    runs.check_variant(model, request, trained=(work.model(model) / "model.json").exists())
    weights_file = find(request.pretrained, work.folder, model) if request.pretrained else None
    folder = work.preprocessed(configuration.data_key)
    ids = work.dataset().fold(model.fold).training
    measured = work.fingerprint() if work.fingerprint_file.exists() else None
    previous = predicting.write_out_of_fold(work, plan, model, ids)
    regions, windows = predicting.chosen_regions(work, plan, model, ids)
    cases = [preprocessing.open_case(folder, id, previous=previous.get(id), regions=windows.get(id)) for id in ids]
    data = training.TrainingSet(
        cases, preprocessing.cases_digest(folder, ids), fold_facts(work.dataset(), measured, ids), regions
    )
    terms = training.Terms(
        settings=request.settings,
        budget_seconds=budget_seconds,
        device=devices.find(request.device).kind,
        weights_file=weights_file,
        ranks=request.ranks,
        tensorboard=request.tensorboard,
    )
    return training.fit(plan, model, work.model(model), data, terms=terms, on_progress=progress)


def predict_held_out(
    work: Workspace, plan: Plan, model: ModelId, *, device: str | None = None, where: str = "", tell: Tell = quiet
) -> Evaluation:
    """Predict and score the cases that a model never saw, unless that was done with these weights and cases."""
    folder, dataset = work.model(model), work.dataset()
    trained = read_record(folder / "model.json", TrainedModel, missing="Train the model first.")
    if (folder / "evaluation.json").exists():
        known = work.evaluation(model)
        if known.inputs_digest == trained.weights_sha256 and not upkeep.held_out_changed(work, plan, model):
            return known
    options = options_for(folder, PredictRequest(device=device))
    member = predicting.load_member([folder], device=options.device)
    scans = predicting.held_out_scans(work, plan, model)
    count = len(dataset.fold(model.fold).held_out)
    scores: list[CaseScore] = []
    with locked(folder):
        remove_left_overs(folder / "held_out")
        for prediction in predicting.predict_held_out(
            member, scans, labels=plan.labels, folder=folder / "held_out", options=options
        ):
            scores.append(score_case(dataset, dataset.case(prediction.case), prediction.labels))
            tell(f"{where} held-out case {prediction.case}", len(scores) / count, None)
        evaluation = Evaluation(members=(model.key(),), scores=tuple(scores), inputs_digest=trained.weights_sha256)
        evaluating.write_scores(folder / "scores.csv", evaluation)
        write_record(folder / "evaluation.json", evaluation)
    return evaluation
