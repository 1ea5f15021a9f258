"""What is still true of what was written before, and what has to be done again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from autoseg import __version__
from autoseg.locks import locked
from autoseg.records.dataset import Dataset
from autoseg.records.errors import DataError
from autoseg.records.exploration import Exploration
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.model import ModelId, RunRecord
from autoseg.records.plan import Plan
from autoseg.records.requests import PlanRequest
from autoseg.stages import exploring, fingerprinting, planning, preprocessing
from autoseg.storage import read_record, write_record
from autoseg.workspace import Workspace

log = logging.getLogger("autoseg")


def fingerprint(work: Workspace, dataset: Dataset, workers: int | None, *, write: bool = True) -> Fingerprint:
    """Return the fingerprint that is kept, measured again where the data set or a file of it has changed."""
    if work.fingerprint_file.exists() and not changed_since(dataset, work.fingerprint_file):
        try:
            known = work.fingerprint()
        except DataError as error:
            log.warning("%s Measuring again.", error)
        else:
            if known.dataset_digest == dataset.digest():
                return known
    measured = fingerprinting.measure(dataset, workers=workers, kept=work.registrations)
    if write:
        write_record(work.fingerprint_file, measured)
    return measured


def exploration(
    work: Workspace, workers: int | None = None, *, tell: Callable[[int, int], None] = lambda done, count: None
) -> Exploration:
    """Return what the cases look like, looked at again where the data set or a file of it has changed."""
    dataset = work.dataset()
    if work.exploration_file.exists() and not changed_since(dataset, work.exploration_file):
        try:
            known = read_record(work.exploration_file, Exploration)
        except DataError as error:
            log.warning("%s Looking again.", error)
        else:
            if known.dataset_digest == dataset.digest():
                return known
    found = exploring.explore(dataset, workers=workers, kept=work.registrations, tell=tell)
    write_record(work.exploration_file, found)
    return found


def plan_inputs(measured: Fingerprint, request: PlanRequest) -> str:
    """Return what a plan follows from, to know when to plan again."""
    names = planning.candidates() if request.presets == (planning.AUTO,) else request.presets
    presets = "+".join(planning.load_preset(name).digest() for name in names)
    by_hand = "".join(f"|{key}={value}" for key, value in sorted(request.settings.items()))
    calibration = f"|{request.calibration}" if request.calibration else ""
    budget = (str(request.memory_gb), str(request.minutes), __version__)
    return "|".join((measured.digest(), presets, *budget)) + by_hand + calibration


def set_stale_aside(work: Workspace, plan: Plan, model: ModelId) -> None:
    """Move a run of another plan or of other cases out of the way, so that nothing trained is ever overwritten."""
    folder, configuration = work.model(model), plan.configuration(model.configuration)
    if not (folder / "run.json").exists():
        return
    record = read_record(folder / "run.json", RunRecord)
    ids = work.dataset().fold(model.fold).training
    cases = preprocessing.cases_digest(work.preprocessed(configuration.data_key), ids)
    from autoseg.stages import predicting  # here: it loads torch, which planning does without

    planned = record.configuration_digest
    if record.configuration.regions is not None:
        planned = record.configuration.as_planned.digest()
    same_plan = planned == configuration.digest()
    same_proposals = not predicting.proposals_changed(work, plan, model)
    if same_plan and record.cases_digest == cases and same_proposals:
        return
    other = "under another plan"
    if same_plan:
        other = "on other proposals" if record.cases_digest == cases else "on other cases"
    aside = folder.with_name(f"stale_{record.digest()}_{folder.name}")
    log.warning("%s was trained %s; kept as %s", model.key(), other, aside)
    with locked(folder):  # a run that is still going on is not moved away under its feet
        folder.rename(aside)
    (aside / "lock").unlink(missing_ok=True)


def changed_since(dataset: Dataset, record: Path) -> bool:
    """Return whether a file of a training case has changed, or come here, after a record about it was written."""
    written = record.stat().st_mtime_ns
    paths = {path for case in dataset.cases for path in case.files()}
    # The time of the inode's change sees a file that was replaced by an older one as well.
    times = (max(found.st_mtime_ns, found.st_ctime_ns) for path in paths if (found := _status(Path(path))))
    return any(time > written for time in times)


def held_out_changed(work: Workspace, plan: Plan, model: ModelId) -> bool:
    """Return whether a held-out case was preprocessed again after the model's scores were written."""
    written = (work.model(model) / "evaluation.json").stat().st_mtime_ns
    folder = work.preprocessed(plan.configuration(model.configuration).data_key)
    markers = (_status(folder / f"{id}.json") for id in work.dataset().fold(model.fold).held_out)
    return any(marker.st_mtime_ns > written for marker in markers if marker)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # whoever reads the file says so
