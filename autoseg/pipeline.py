"""The method: one short function per command. Every function reads records, calls stages, and writes records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from autoseg import __version__, upkeep
from autoseg.compute import devices
from autoseg.images import files
from autoseg.images.cases import read_image
from autoseg.records.check import CheckReport
from autoseg.records.dataset import Dataset
from autoseg.records.errors import CasesFailed, DataError, UserError
from autoseg.records.forecast import Forecast
from autoseg.records.labels import Labels
from autoseg.records.plan import Configuration, Plan
from autoseg.records.requests import PlanRequest, PredictRequest, TrainRequest
from autoseg.records.results import CaseScore, EnsembleChoice, Evaluation, ModelId, RunRecord, TrainedModel
from autoseg.records.volumes import LabelMap
from autoseg.stages import (
    checking,
    ensembling,
    evaluating,
    importing,
    planning,
    predicting,
    preprocessing,
    reporting,
    training,
)
from autoseg.stages.ensembling.out_of_fold import OutOfFold
from autoseg.stages.evaluating.truths import score_case, truth
from autoseg.stages.importing.scans import find_scans
from autoseg.stages.training import runs
from autoseg.workspace import Workspace, check_writable, locked, read_record, remove_left_overs, write_record

log = logging.getLogger("autoseg")

Tell = Callable[[str, float, float | None], None]
"""Called with what is being done, the fraction that is done, and the seconds left where they are known."""


def quiet(what: str, done: float, seconds_left: float | None) -> None:
    """Tell nobody."""


def import_dataset(
    source: Path, work: Workspace, options: importing.ImportOptions, *, dry_run: bool = False
) -> Dataset:
    """Recognise a folder's layout and remember where everything lies."""
    dataset = importing.import_dataset(source, work.name, options=options)
    if not dry_run:
        write_record(work.dataset_file, dataset)
    return dataset


def check(work: Workspace, *, workers: int | None = None) -> CheckReport:
    """Look at every case and list every problem at once."""
    report = checking.check(work.dataset(), workers=workers)
    write_record(work.check_file, report)
    return report


def make_plan(work: Workspace, request: PlanRequest, *, workers: int | None = None, write: bool = True) -> Plan:
    """Measure the data set and plan; keeps the fingerprint (unless `write` is off), but not the plan."""
    dataset = work.dataset()
    fingerprint = upkeep.fingerprint(work, dataset, workers, write=write)
    device = devices.find(request.device, request.memory_gb, calibrate=request.minutes is not None)
    presets = [planning.load_preset(name) for name in request.presets]
    plan = planning.make_plan(
        fingerprint,
        presets,
        device,
        name=request.plan,
        corrections=dataset.corrections,
        minutes=request.minutes,
        folds=_folds(dataset),
        version=__version__,
    )
    return plan.model_copy(update={"inputs_digest": upkeep.plan_inputs(fingerprint, request)})


def plan_and_preprocess(
    work: Workspace, request: PlanRequest, *, workers: int | None = None, tell: Tell = quiet
) -> Plan:
    """Fingerprint, plan, and preprocess every configuration of the line-up."""
    tell("fingerprint and plan", 0.0, None)
    plan = make_plan(work, request, workers=workers)
    write_record(work.plan_file(plan.name), plan)
    write_record(work.forecast_file(plan.name), forecast(work, plan, request))
    preprocess(work, _lineup(plan), workers=workers, tell=tell)
    return plan


def forecast(work: Workspace, plan: Plan, request: PlanRequest) -> Forecast:
    """Return how long the plan's line-up takes on this device, its speed measured where the plan did not ask for it."""
    speed = plan.device.flops_per_second
    if speed <= 0:
        speed = devices.find(request.device, request.memory_gb, calibrate=True).flops_per_second
    return planning.forecast(plan, speed, folds=_folds(work.dataset()), minutes=request.minutes)


def preprocess(
    work: Workspace, configurations: Sequence[Configuration], *, workers: int | None = None, tell: Tell = quiet
) -> None:
    """Preprocess what configurations need; cases that are done and whole and up to date are left as they are.

    Raises:
        CasesFailed: Some cases could not be preprocessed; the others are done.
    """
    dataset = work.dataset()
    by_key = {configuration.data_key: configuration for configuration in configurations}
    failures: dict[str, UserError] = {}
    for number, (key, configuration) in enumerate(by_key.items()):
        tell(f"preprocess for {configuration.name}", number / len(by_key), None)
        failures |= preprocessing.preprocess(dataset, configuration, work.preprocessed(key), workers=workers)
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(dataset.cases)} cases could not be preprocessed", failures)


def train(work: Workspace, request: TrainRequest, *, tell: Tell = quiet) -> tuple[Evaluation, ...]:
    """Bring the preprocessed cases up to date, fit each model, predict its held-out cases, and score them."""
    plan = work.plan(request.plan)
    wanted = runs.models(work.dataset(), plan, request)
    # Else a case that has changed, or was damaged, would be trained on as it was.
    preprocess(work, [plan.configuration(model.configuration) for model in wanted], tell=tell)
    return _train(work, plan, wanted, request, tell)


def _train(
    work: Workspace, plan: Plan, wanted: Sequence[ModelId], request: TrainRequest, tell: Tell
) -> tuple[Evaluation, ...]:
    budgets = [runs.budget_seconds(plan, model.configuration, wanted, request.minutes) for model in wanted]
    evaluations = []
    for number, (model, budget) in enumerate(zip(wanted, budgets, strict=True)):
        where = f"[{number + 1}/{len(wanted)}] {model.key()}"
        later = [seconds for seconds in budgets[number + 1 :] if seconds is not None]

        def progress(
            now: training.Progress, where: str = where, number: int = number, later: Sequence[float] = tuple(later)
        ) -> None:
            done = (number + now.step / max(now.steps, 1)) / len(wanted)
            # Without a budget the runs to come are taken to be as long as this one.
            to_come = sum(later) if later else (len(wanted) - number - 1) * now.steps * now.step_seconds
            what = f"{where} step {now.step}/{now.steps} loss {now.loss:.3f} {now.step_seconds:.2f} s/step"
            tell(what, done, now.seconds_left + to_come)

        fit(work, plan, model, request, budget_seconds=budget, progress=progress)
        _report_overrun(work, model)
        evaluations.append(predict_held_out(work, plan, model, device=request.device, where=where, tell=tell))
        log.info("%s: mean Dice %.4f", model.key(), evaluations[-1].mean_dice())
    return tuple(evaluations)


def _report_overrun(work: Workspace, model: ModelId) -> None:
    """Say so when a run took longer than its budget: its steps were fixed before the first one."""
    seconds = read_record(work.model(model) / "model.json", TrainedModel).seconds
    budget = read_record(work.model(model) / "run.json", RunRecord).budget_seconds
    if budget and seconds > 1.05 * budget:
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
    folder = work.preprocessed(configuration.data_key)
    ids = work.dataset().fold(model.fold).training
    previous = predicting.write_out_of_fold(work, plan, model, ids)
    cases = [preprocessing.open_case(folder, id, previous=previous.get(id)) for id in ids]
    return training.fit(
        plan,
        model,
        work.model(model),
        cases,
        settings=request.settings,
        budget_seconds=budget_seconds,
        device=devices.find(request.device).kind,
        cases_digest=preprocessing.cases_digest(folder, ids),
        on_progress=progress,
    )


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
    options = _options(folder, PredictRequest(device=device))
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
        files.write_volume(folder / "predictions" / f"{case.id}.nii.gz", values, merged.grid, description=_origin(plan))
    _write_choice(work, plan, choice, scores)
    return choice


def _write_choice(work: Workspace, plan: Plan, choice: EnsembleChoice, scores: Sequence[CaseScore]) -> None:
    folder = work.ensemble(plan.name)
    evaluation = Evaluation(members=choice.members, scores=tuple(scores), inputs_digest=choice.digest())
    evaluating.write_scores(folder / "scores.csv", evaluation)
    write_record(folder / "evaluation.json", evaluation)
    write_record(folder / "choice.json", choice)


def predict(
    work: Workspace, source: Path, output: Path, request: PredictRequest, *, tell: Tell = quiet
) -> dict[str, Path]:
    """Predict every scan in a folder (or one file) and return case -> label map file.

    Raises:
        CasesFailed: Some scans could not be predicted; the others were written.
    """
    plan = work.plan(request.plan)
    scans = find_scans(source, plan.channels)
    choice = None if request.members else work.choice(plan.name)
    check_writable(output)
    shares = dict(zip(choice.members, choice.weights, strict=True)) if choice else dict.fromkeys(request.members, 1.0)
    device = str(devices.torch_device(devices.find(request.device)))
    members, stages = predicting.load_ensemble(work, plan, shares, device=device)
    options = _options(_folder_of(work, members[0]), request)
    written: dict[str, Path] = {}
    failures: dict[str, UserError] = {}
    for number, scan in enumerate(scans):
        tell(f"predict {scan.id}", number / len(scans), None)
        file = output / f"{scan.id}.nii.gz"
        if request.resume and _readable(file):
            written[scan.id] = file
            continue
        try:
            prediction = predicting.predict_scan(
                read_image(scan.images, plan.channels, plan.corrections, case=scan.id),
                members,
                case=scan.id,
                labels=plan.labels,
                postprocessing=choice.postprocessing if choice else (),
                first_stages=stages,
                options=options,
            )
        except UserError as error:
            failures[scan.id] = error.in_case(scan.id)
            continue
        values = predicting.written_values(prediction.labels.array, plan.labels)
        files.write_volume(file, values, prediction.labels.grid, description=_origin(plan, members))
        written[scan.id] = file
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(scans)} scans could not be predicted", failures)
    return written


def scans(work: Workspace, source: Path, plan_name: str) -> list[str]:
    """Return the ids of the scans that a prediction would find."""
    return [scan.id for scan in find_scans(source, work.plan(plan_name).channels)]


def candidates(work: Workspace, plan_name: str) -> dict[str, tuple[str, ...]]:
    """Return what a selection would choose among: candidate -> folds."""
    return OutOfFold.collect(work, work.plan(plan_name)).folds()


def evaluate(
    predictions: Path, truths: Path, labels: Labels | None, output: Path | None, *, lesions: bool = False
) -> tuple[Evaluation, list[evaluating.StructureSummary]]:
    """Score a folder of label maps against another, and keep every score as CSV where `output` says so.

    `lesions` counts the connected pieces of each structure as well.
    """
    evaluation = evaluating.evaluate_folder(predictions, truths, labels, lesions=lesions)
    if output is not None:
        evaluating.write_scores(output, evaluation)
    return evaluation, evaluating.summarise(evaluation)


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


def report(work: Workspace, plan_name: str = "default", *, tell: Tell = quiet) -> Path:
    """Write the report: one HTML file that opens anywhere."""
    tell("write the report", 0.0, None)
    return reporting.write(work, work.plan(plan_name))


def run(work: Workspace, request: PlanRequest, *, workers: int | None = None, tell: Tell = quiet) -> EnsembleChoice:
    """Do all that is not done yet, and again what has changed: check, plan, preprocess, train, choose, report."""
    _checked(work, workers)
    plan = _current_plan(work, request, workers, tell)
    preprocess(work, _lineup(plan), workers=workers, tell=tell)
    training_request = TrainRequest(plan=plan.name, minutes=request.minutes, device=request.device)
    wanted = runs.models(work.dataset(), plan, training_request)
    for model in wanted:
        upkeep.set_stale_aside(work, plan, model)
    _train(work, plan, wanted, training_request, tell)
    choice = ensemble(work, plan.name, tell=tell)
    report(work, plan.name, tell=tell)
    return choice


def steps_left(work: Workspace, request: PlanRequest) -> list[str]:
    """Return what `run` would do now, in words."""
    work.dataset()
    steps = [] if work.check_file.exists() else ["check every case"]
    if not work.plan_file(request.plan).exists():
        return [*steps, "fingerprint and plan", "preprocess", "train the line-up", "choose the ensemble", "report"]
    plan = work.plan(request.plan)
    trained = {model.key() for model in work.trained(plan.name)}
    wanted = runs.models(work.dataset(), plan, TrainRequest(plan=plan.name))
    steps += [f"train {model.key()}" for model in wanted if model.key() not in trained]
    return [*steps, "choose the ensemble", "report"]


def _lineup(plan: Plan) -> list[Configuration]:
    return [plan.configuration(entry.configuration) for entry in plan.lineup]


def _folds(dataset: Dataset) -> int:
    return sum(fold.name != "all" for fold in dataset.folds) or 1


def _current_plan(work: Workspace, request: PlanRequest, workers: int | None, tell: Tell) -> Plan:
    fingerprint = upkeep.fingerprint(work, work.dataset(), workers)
    if work.plan_file(request.plan).exists():
        known = work.plan(request.plan)
        if known.inputs_digest == upkeep.plan_inputs(fingerprint, request):
            return known
        log.warning("The data, a preset or the budget has changed: planning again.")
    tell("fingerprint and plan", 0.0, None)
    plan = make_plan(work, request, workers=workers)
    write_record(work.plan_file(plan.name), plan)
    write_record(work.forecast_file(plan.name), forecast(work, plan, request))
    return plan


def _checked(work: Workspace, workers: int | None) -> None:
    """Check the data unless these very data were checked.

    Raises:
        DataError: There are errors; all of them are in `check.json`.
    """
    dataset = work.dataset()
    report = None
    if work.check_file.exists() and not upkeep.changed_since(dataset, work.check_file):
        known = read_record(work.check_file, CheckReport)
        report = known if known.dataset_digest == dataset.digest() else None
    report = report or check(work, workers=workers)
    errors = report.errors()
    if errors:
        first = errors[0]
        raise DataError(
            f"{len(errors)} problems keep {work.name} from being used; the first: {first.what}",
            case=first.case,
            file=first.file,
            fix=f"{first.fix} `autoseg check -d {work.name}` lists all of them.",
            code="check_failed",
        )


def _options(folder: Path, request: PredictRequest) -> predicting.Options:
    """Return how to predict: as the model was trained, unless this device is slow or unable in that precision."""
    trained = read_record(folder / "run.json", RunRecord).precision
    profile = devices.find(request.device)
    devices.set_threads(profile.threads)
    able = {"float32": True, "bfloat16": profile.fast_bfloat16, "float16": profile.kind == "cuda"}
    return predicting.Options(
        device=str(devices.torch_device(profile)),
        precision=trained if able[trained] else "float32",
        mirror=request.mirror,
        step_fraction=request.step_fraction,
    )


def _folder_of(work: Workspace, member: predicting.Member) -> Path:
    return next(work.model(model) for model in work.trained() if model.key() == member.keys[0])


def _readable(file: Path) -> bool:
    """Whether a prediction of an earlier run is there and whole."""
    try:
        files.read_volume(file)
    except UserError:
        return False
    return True


def _origin(plan: Plan, members: Sequence[predicting.Member] = ()) -> str:
    """Return what an output says of where it came from."""
    model = f" model {members[0].digest[:16]}" if members else ""
    return f"autoseg {__version__} plan {plan.digest()}{model}"
