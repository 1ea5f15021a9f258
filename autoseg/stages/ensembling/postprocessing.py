"""Which cleaning steps help: each is tried on the chosen ensemble's own out-of-fold label maps.

A step is taken for a structure when its mean rises in what the ensemble was chosen by (for `mean_rank` the mean of Dice
and surface Dice), when 97.5 % of 1000 resamples of patients agree that it does,
and when no other structure loses. First pieces (keep the largest, or drop those under a volume taken from the pieces
of the truth), then holes, so that holes are judged on what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import find_objects

from autoseg.images.boxes import box_around
from autoseg.images.postprocess import apply, piece_volumes_mm3
from autoseg.records.choice import EnsembleChoice, Metric, PostprocessingStep
from autoseg.records.labels import Labels
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling.counting import Counts, Judged, TruthReader, count_labels, without_unannotated
from autoseg.stages.ensembling.question import FIGURES, figure_row, nan_mean
from autoseg.stages.evaluating.scoring import annotated_targets, check_geometry
from autoseg.stages.evaluating.statistics import (
    FEWEST_GROUPS,
    mean_over_targets,
    resample_groups,
    target_means,
)

# Percentiles of the volumes of the truth's pieces; below such a volume a predicted piece is dropped.
PIECE_PERCENTILES = (1.0, 5.0, 25.0)
# The means of other structures may differ by rounding.
ROUNDING = 1e-9


# (figure and targets that were asked for, case, SHA-256 of a label map) -> that figure of every target.
FigureRows = dict[tuple[str, str, bytes], np.ndarray]


@dataclass(frozen=True)
class _Cases:
    """The label maps to clean, read one at a time."""

    cases: Sequence[Judged]
    labels: Labels
    predictions: Callable[[str], LabelMap]
    truth: TruthReader
    metric: Metric = "dice"
    known: FigureRows = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Judged, LabelMap, LabelMap]]:
        for case in self.cases:
            truth, prediction = self.truth(case.id), self.predictions(case.id)
            check_geometry(case.id, truth, prediction)
            yield case, truth, prediction


def choose_postprocessing(
    choice: EnsembleChoice,
    cases: Sequence[Judged],
    labels: Labels,
    *,
    predictions: Callable[[str], LabelMap],
    truth: TruthReader,
    known: FigureRows | None = None,
    seed: int = 0,
) -> EnsembleChoice:
    """Return the choice with the cleaning steps that help, and with its mean Dice after them.

    Args:
        choice: The ensemble that predicted; its `metric` decides.
        cases: The cases that it predicted out of fold.
        labels: What is segmented.
        predictions: Case -> the ensemble's out-of-fold label map (inside values, no cleaning done).
        truth: Case -> its truth on the same grid.
        known: Figures that earlier calls computed on these cases; added to, so that choices from parts of the cases
            (as cross-fitting makes them) do not compute them again.
        seed: Of the resampling.

    Raises:
        DataError: A prediction lies on another grid than its truth.
    """
    reader = _Cases(cases, labels, predictions, truth, choice.metric, {} if known is None else known)
    taken: tuple[PostprocessingStep, ...] = ()
    notes = list(choice.notes)
    if len({case.group for case in cases}) < FEWEST_GROUPS:
        notes.append(f"No post-processing was tried: fewer than {FEWEST_GROUPS} patients cannot tell help from noise.")
    else:
        for trials in (_piece_trials(reader), _hole_trials(labels)):
            taken = (*taken, *_helpful(reader, taken, trials, seed=seed))
    base, _ = _tables(replace(reader, metric="dice"), taken, [])
    mean = float(mean_over_targets(target_means(base))[0])
    return choice.model_copy(update={"postprocessing": taken, "mean_dice": mean, "notes": tuple(notes)})


def _piece_trials(reader: _Cases) -> list[PostprocessingStep]:
    volumes: dict[str, list[np.ndarray]] = {name: [] for name, _ in reader.labels.targets}
    for case in reader.cases:
        truth = reader.truth(case.id)
        known = annotated_targets(reader.labels, case.annotated)
        boxes = find_objects(truth.array, len(reader.labels.structures))
        for name, values in reader.labels.targets:
            box = box_around(boxes, values)
            if name in known and box is not None:
                mask = np.isin(truth.array[box], values)
                volumes[name].append(piece_volumes_mm3(mask, spacing_mm=truth.grid.spacing_mm))
    steps = []
    for name, found in volumes.items():
        steps.append(PostprocessingStep(structure=name, kind="keep_largest"))
        limits = np.unique(np.round(np.percentile(np.concatenate(found), PIECE_PERCENTILES), 3)) if found else ()
        steps += [PostprocessingStep(structure=name, kind="drop_below", value=float(limit)) for limit in limits]
    return steps


def _hole_trials(labels: Labels) -> list[PostprocessingStep]:
    return [PostprocessingStep(structure=name, kind="fill_holes") for name, _ in labels.targets]


def _helpful(
    reader: _Cases, taken: Sequence[PostprocessingStep], trials: Sequence[PostprocessingStep], *, seed: int
) -> list[PostprocessingStep]:
    # -> at most one step a structure: the one with the largest gain among those that help beyond noise
    base, changed = _tables(reader, taken, trials)
    groups = [case.group for case in reader.cases]
    weights = resample_groups(groups, seed=seed, key=f"post-processing {trials[0].kind}")
    names = [name for name, _ in reader.labels.targets]
    best: dict[str, tuple[float, PostprocessingStep]] = {}
    for step, table in zip(trials, changed, strict=True):
        gain = _gain(base, table, names.index(step.structure), weights)
        if gain > best.get(step.structure, (0.0, step))[0]:
            best[step.structure] = gain, step
    return [step for _, step in best.values()]


def _gain(base: np.ndarray, table: np.ndarray, target: int, weights: np.ndarray) -> float:
    # -> gain of the target's mean Dice, or 0 where it may be noise or where another target loses
    gains = (target_means(table) - target_means(base))[0]
    others = np.delete(gains, target)
    resampled = (target_means(table, weights) - target_means(base, weights))[:, target]
    resampled = resampled[np.isfinite(resampled)]
    if not resampled.size or np.any(others < -ROUNDING) or np.percentile(resampled, 2.5) <= 0:
        return 0.0
    return float(gains[target])


def _tables(
    reader: _Cases, taken: Sequence[PostprocessingStep], trials: Sequence[PostprocessingStep]
) -> tuple[np.ndarray, np.ndarray]:
    # -> the metric (cases, targets) after the steps taken, and (trials, cases, targets) with each trial added
    shape = (len(reader.cases), len(reader.labels.targets))
    base, changed = np.full(shape, np.nan), np.full((len(trials), *shape), np.nan)
    for row, (case, truth, prediction) in enumerate(reader):
        array = apply(prediction.array, taken, reader.labels, truth.grid.spacing_mm)
        if reader.metric != "dice":
            base[row] = _figures(reader, case, truth, array)
            for index, step in enumerate(trials):
                cleaned = apply(array, [step], reader.labels, truth.grid.spacing_mm)
                changed[index, row] = _figures_after(reader, case, truth, array, cleaned=cleaned, base=base[row])
            continue
        counts = count_labels(truth.array, array, reader.labels)
        base[row] = without_unannotated(counts.dice(), case, reader.labels)
        boxes = find_objects(array, len(reader.labels.structures))
        for index, step in enumerate(trials):
            after = _counts_after(step, counts, boxes, reader.labels, truth=truth, array=array)
            changed[index, row] = without_unannotated(after.dice(), case, reader.labels)
    return base, changed


def _figures_after(
    reader: _Cases, case: Judged, truth: LabelMap, array: np.ndarray, *, cleaned: np.ndarray, base: np.ndarray
) -> np.ndarray:
    # A step changes the figures of those targets alone whose values it takes or gives.
    different = array != cleaned
    touched = set(np.unique(array[different])) | set(np.unique(cleaned[different]))
    concerned = [not touched.isdisjoint(values) for _, values in reader.labels.targets]
    if not any(concerned):
        return base
    targets = frozenset(name for (name, _), yes in zip(reader.labels.targets, concerned, strict=True) if yes)
    return np.where(concerned, _figures(reader, case, truth, cleaned, targets=targets), base)


def _figures(
    reader: _Cases, case: Judged, truth: LabelMap, array: np.ndarray, *, targets: frozenset[str] | None = None
) -> np.ndarray:
    names = FIGURES["mean_rank"] if reader.metric == "mean_rank" else FIGURES[reader.metric][-1:]
    digest = hashlib.sha256(array.tobytes()).digest()
    rows = [
        _row(reader, name, case, truth, LabelMap(array, truth.grid), digest=digest, targets=targets) for name in names
    ]
    return nan_mean(np.array(rows), axis=0)


def _row(
    reader: _Cases,
    figure: str,
    case: Judged,
    truth: LabelMap,
    prediction: LabelMap,
    *,
    digest: bytes,
    targets: frozenset[str] | None,
) -> np.ndarray:
    # A label map that was changed by one step for the same targets is the same wherever it comes from.
    key = (f"{figure} {sorted(targets) if targets is not None else 'all'}", case.id, digest)
    if key not in reader.known:
        found = figure_row(figure, case, reader.labels, truth=truth, prediction=prediction, targets=targets)
        reader.known[key] = np.array(found)
    return reader.known[key]


def _counts_after(
    step: PostprocessingStep, counts: Counts, boxes: Sequence, labels: Labels, *, truth: LabelMap, array: np.ndarray
) -> Counts:
    # A step changes nothing outside the box of its structure, so that only the box is counted again.
    values = dict(labels.targets)[step.structure]
    box = box_around(boxes, values)
    if box is None:
        return counts
    if array.shape[0] > 1:  # all slices, so that one slice of a volume is not taken for an image in the plane
        box = (slice(None), *box[1:])
    before, reference = array[box], truth.array[box]
    cleaned = apply(before, [step], labels, truth.grid.spacing_mm)
    if np.array_equal(before, cleaned):
        return counts
    return counts.plus(count_labels(reference, before, labels), -1).plus(count_labels(reference, cleaned, labels))
