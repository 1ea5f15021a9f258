"""Scores of many cases: the folds of one candidate together, and a folder against a folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.compute import workers as processes
from autoseg.records.errors import BAD_DATA, CasesFailed, DataError, UsageError, UserError
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.records.labels import Labels, Structure
from autoseg.records.metrics import Scoring
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating.names import check_names
from autoseg.stages.evaluating.scoring import USUAL, missing, score
from autoseg.stages.evaluating.tolerances import check_tolerances

LOG = logging.getLogger(__name__)

# A label map with more values than this is most likely an image.
MOST_STRUCTURES = 1000


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluations of the folds of one candidate as one; its cases in the order of their ids.

    Raises:
        DataError: A case was scored twice: folds that hold out the same case are no cross-validation.
    """
    seen: dict[str, str] = {}
    scores: list[CaseScore] = []
    for evaluation in evaluations:
        name = ", ".join(evaluation.members)
        for item in evaluation.scores:
            if item.case in seen:
                raise DataError(
                    f"was scored by {seen[item.case]} and by {name}",
                    case=item.case,
                    fix="Pool folds of one candidate only; each case is held out by one fold.",
                    code="case_twice",
                )
            seen[item.case] = name
            scores.append(item)
    members = dict.fromkeys(member for evaluation in evaluations for member in evaluation.members)
    return Evaluation(members=tuple(members), scores=tuple(sorted(scores, key=lambda item: item.case)))


def evaluate_folder(
    predictions: Path,
    truths: Path,
    labels: Labels | None = None,
    *,
    scoring: Scoring = USUAL,
    annotated: Mapping[str, tuple[str, ...] | None] | None = None,
    workers: int | None = None,
) -> Evaluation:
    """Return the scores of a folder of label maps against a folder of truths, matched by file name.

    A truth without a prediction counts as a failure. Predictions without a truth are named in the log and left out.

    Args:
        predictions: Folder of label files.
        truths: Folder of label files; every one of them is a case.
        labels: What the values in the files mean; None: every value found in the truths is a structure named by it.
        scoring: What is computed.
        annotated: Case -> names of the structures that were annotated in it; None (or a case that is not named) means
            all of them.
        workers: Processes; None: one where the files are small, else what processors and memory admit.

    Raises:
        UsageError: A folder is missing or holds no label file.
        DataError: A file is damaged, a value has no name in `labels`, the two folders name a value differently, or the
            geometry of a pair differs.
        CasesFailed: That holds for several cases; all of them are named, and none is scored.
    """
    asked, there = _label_files(truths), _label_files(predictions)
    check_names(predictions, truths, labels)
    _tell_unpaired(predictions, asked, there)
    meaning = labels or _labels_found(list(asked.values()))
    check_tolerances(scoring.tolerances_mm, meaning)
    known, strict = annotated or {}, labels is not None
    tasks = [
        (case, _Pair(case, file, there.get(case), meaning, scoring, annotated=known.get(case), strict=strict))
        for case, file in asked.items()
    ]
    count = processes.suited(workers, [*asked.values(), *(there[case] for case in asked if case in there)])
    outcomes = dict(processes.map_cases(_score_pair, tasks, workers=count, label="evaluate"))
    _refuse_failures({case: item for case, item in outcomes.items() if isinstance(item, UserError)}, len(asked))
    scores = []
    for case in asked:
        found, unknown = outcomes[case]  # type: ignore[misc]
        if unknown:
            LOG.warning("%s: the values %s are in no truth; counted as background", there[case], unknown)
        scores.append(found)
    return Evaluation(members=(str(predictions),), scores=tuple(scores))


@dataclass(frozen=True)
class _Pair:
    """A truth and its prediction (or None), and how they are read and scored.

    Attributes:
        strict: Whether a value of the prediction that has no name is refused.
    """

    case: str
    truth: Path
    prediction: Path | None
    labels: Labels
    scoring: Scoring
    annotated: tuple[str, ...] | None
    strict: bool


def _score_pair(pair: _Pair) -> tuple[CaseScore, list[int]]:
    # -> the score, and the values of the prediction that no truth has
    truth, _ = _read(pair.truth, pair.labels, case=pair.case)
    if pair.prediction is None:
        return missing(pair.case, pair.labels, truth, annotated=pair.annotated, scoring=pair.scoring), []
    prediction, unknown = _read(pair.prediction, pair.labels, case=pair.case, unknown_allowed=not pair.strict)
    return score(pair.case, pair.labels, truth, prediction, annotated=pair.annotated, scoring=pair.scoring), unknown


def _tell_unpaired(predictions: Path, asked: Mapping[str, Path], there: Mapping[str, Path]) -> None:
    extra = sorted(set(there) - set(asked))
    if extra:
        LOG.warning("%s: %d predictions without a truth left out: %s", predictions, len(extra), ", ".join(extra))
    absent = sorted(set(asked) - set(there))
    if absent:
        LOG.warning("%s: no prediction for %s; counted as failed", predictions, ", ".join(absent))


def _refuse_failures(failures: Mapping[str, UserError], cases: int) -> None:
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        error = CasesFailed(f"{len(failures)} of {cases} cases cannot be scored, so none was", failures)
        error.exit_code = BAD_DATA  # unlike elsewhere, the others were not finished: a mean without these would mislead
        raise error


def _label_files(folder: Path) -> dict[str, Path]:
    # -> case -> file, in the order of the cases
    from autoseg.images.files import is_image, strip_suffix

    if not folder.is_dir():
        raise UsageError("there is no such folder", file=folder, fix="Name a folder of label files.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if not (file.is_file() and is_image(file)):
            continue
        case = strip_suffix(file.name)
        if case in found:
            raise DataError(
                f"two files for one case: {found[case].name} and {file.name}",
                file=folder,
                fix="Keep one of them.",
                code="duplicate_case",
            )
        found[case] = file
    if not found:
        raise UsageError("holds no label file", file=folder, fix="Name a folder with .nii.gz, .mha or .nrrd files.")
    return found


def _values(file: Path, array: np.ndarray) -> list[int]:
    values = np.unique(array)
    if len(values) > MOST_STRUCTURES or not np.array_equal(values, np.round(values)):
        raise DataError(
            f"is no label map: {len(values)} different values from {values[0]:g} to {values[-1]:g}, "
            "expected a few whole numbers",
            file=file,
            fix="Check that images and labels were not mixed up.",
            code="not_labels",
        )
    return [int(value) for value in values]


def _labels_found(files: Sequence[Path]) -> Labels:
    from autoseg.images.files import read_volume

    found: set[int] = set()
    for file in files:
        array, _ = read_volume(file)
        found.update(_values(file, array))
    found.discard(0)
    if not found:
        raise UsageError(
            "every truth is empty", file=files[0].parent, fix="Name a folder whose label maps hold structures."
        )
    rows = [Structure(name=str(value), value=i, original=value) for i, value in enumerate(sorted(found), start=1)]
    return Labels(structures=tuple(rows))


def _read(file: Path, labels: Labels, *, case: str, unknown_allowed: bool = False) -> tuple[LabelMap, list[int]]:
    # -> inside values, and the values of the file that have no name (they are background)
    from autoseg.images.files import read_volume

    array, grid = read_volume(file)
    table = labels.remap()
    inside = np.zeros(array.shape, dtype=np.uint8 if len(table) <= 250 else np.int16)
    unknown = []
    for value in _values(file, array):
        if value in table:
            inside[array == value] = table[value]
        else:
            unknown.append(value)
    if unknown and not unknown_allowed:
        raise DataError(
            f"has the value {unknown[0]}, which is none of {sorted(table)}",
            case=case,
            file=file,
            fix="Predictions and truths must use the values of the data set.",
            code="unknown_label",
        )
    return LabelMap(inside, grid), unknown
