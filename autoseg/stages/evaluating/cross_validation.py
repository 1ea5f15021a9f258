"""Scores of many cases: the folds of one candidate together, and a folder against a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.records.errors import DataError, UsageError
from autoseg.records.labels import Labels, Structure
from autoseg.records.results import CaseScore, Evaluation
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating.scoring import missing, score

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
    predictions: Path, truths: Path, labels: Labels | None = None, *, tolerance_mm: float = 2.0, lesions: bool = False
) -> Evaluation:
    """Return the scores of a folder of label maps against a folder of truths, matched by file name.

    A truth without a prediction counts as a failure. Predictions without a truth are named in the log and left out.

    Args:
        predictions: Folder of label files.
        truths: Folder of label files; every one of them is a case.
        labels: What the values in the files mean; None: every value found in the truths is a structure named by it.
        tolerance_mm: For the surface Dice, in mm.
        lesions: Whether lesions are counted too.

    Raises:
        UsageError: A folder is missing or holds no label file.
        DataError: A file is damaged, a value has no name in `labels`, or the geometry of a pair differs.
    """
    asked = _label_files(truths)
    there = _label_files(predictions)
    extra = sorted(set(there) - set(asked))
    if extra:
        LOG.warning("%s: %d predictions without a truth left out: %s", predictions, len(extra), ", ".join(extra))
    absent = sorted(set(asked) - set(there))
    if absent:
        LOG.warning("%s: no prediction for %s; counted as failed", predictions, ", ".join(absent))
    meaning = labels or _labels_found(list(asked.values()))
    scores = []
    for case, file in asked.items():
        truth = _read(file, meaning, case=case)
        if case in there:
            prediction = _read(there[case], meaning, case=case, unknown_allowed=labels is None)
            scores.append(score(case, meaning, truth, prediction, tolerance_mm=tolerance_mm, lesions=lesions))
        else:
            scores.append(missing(case, meaning, truth, tolerance_mm=tolerance_mm, lesions=lesions))
    return Evaluation(members=(str(predictions),), scores=tuple(scores))


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


def _read(file: Path, labels: Labels, *, case: str, unknown_allowed: bool = False) -> LabelMap:
    # -> inside values
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
    if unknown:
        LOG.warning("%s: the values %s are in no truth; counted as background", file, unknown)
    return LabelMap(inside, grid)
