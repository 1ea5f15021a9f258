"""How scores look on a terminal: of structures, of candidates side by side, of lesions at every threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoseg import console

if TYPE_CHECKING:
    from autoseg.stages.evaluating import CandidateTable, Froc, Scores, StructureSummary

# A heading, the field of StructureSummary, and its form.
USUAL_COLUMNS = (
    ("success", "success_fraction", ".0%"),
    ("HD95 mm", "hd95_mm_median", ".2f"),
    ("surface Dice", "surface_dice_mean", ".3f"),
    ("ASSD mm", "assd_mm_median", ".2f"),
    ("precision", "precision_mean", ".3f"),
    ("recall", "recall_mean", ".3f"),
    ("volume difference ml", "volume_difference_ml_mean", "+.3f"),
)
FURTHER_COLUMNS = (
    ("slice Dice", "slice_dice_mean", ".3f"),
    ("added path mm", "added_path_mm_mean", ".0f"),
    ("GI-tract score", "gi_tract_score_mean", ".3f"),
    ("lesion F1", "lesion_f1_mean", ".3f"),
    ("sensitivity", "lesion_sensitivity", ".3f"),
    ("below 10 mm", "small_lesion_sensitivity", ".3f"),
    ("false positives a case", "false_positives_per_case", ".2f"),
    ("panoptic quality", "panoptic_quality_mean", ".3f"),
)


def evaluation(found: Scores) -> None:
    """Print the scores of every structure, of parts of the cases, and of lesions by where they lie."""
    mean = found.mean_dice
    sure = "" if math.isnan(mean.low) else f" ({mean.low:.4f} to {mean.high:.4f} over {mean.groups} patients)"
    scores(f"{len(found.evaluation.scores)} cases, mean Dice {mean.mean:.4f}{sure}", found.structures)
    console.line(
        f"success (Dice {found.success_dice:g} or more): {_share(found.success_fraction)} of the cases, "
        "in every structure"
    )
    for part in found.parts:
        scores(f"{part.attribute} {part.value}: {part.cases} cases", part.structures)
    if found.places:
        rows = [
            (item.structure, item.place, item.lesions, number(item.sensitivity, ".3f"), item.false_positives)
            for item in found.places
        ]
        columns = ("structure", "place", "lesions", "sensitivity", "false positives")
        console.table("lesions by their side of the scan's middle", columns, rows)


def scores(title: str, summaries: Sequence[StructureSummary]) -> None:
    """Print the scores of every structure, and below them the figures that were asked for besides."""
    rows = [
        (item.structure, item.count, item.failed, _with_interval(item), *_cells(item, USUAL_COLUMNS))
        for item in summaries
    ]
    console.table(title, ("structure", "cases", "failed", "Dice (95 %)", *(head for head, _, _ in USUAL_COLUMNS)), rows)
    further = [item for item in FURTHER_COLUMNS if any(not math.isnan(getattr(row, item[1])) for row in summaries)]
    if further:
        rows = [(item.structure, *_cells(item, further)) for item in summaries]
        console.table("", ("structure", *(head for head, _, _ in further)), rows)


def _cells(item: StructureSummary, columns: Sequence[tuple[str, str, str]]) -> list[str]:
    return [number(getattr(item, name), form) for _, name, form in columns]


def _with_interval(item: StructureSummary) -> str:
    return _bounded(item.dice_mean, item.intervals.get("dice_mean"), ".3f")


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def candidates(found: CandidateTable, *, json: bool) -> None:
    """Print all trained candidates side by side, the best first."""
    if json:
        console.as_json(found.model_dump(mode="json"))
        return
    rows = [
        (
            item.name,
            item.preset or "-",
            _bounded(item.dice, item.intervals.get("dice"), ".4f"),
            f"{item.hd95_mm:.2f}",
            f"{item.surface_dice:.3f}",
            f"{item.precision:.3f}",
            f"{item.recall:.3f}",
            f"{item.parameters / 1e6:.1f}",
            f"{item.memory_gb:.2f}",
            f"{item.training_hours:.2f}",
        )
        for item in found.rows
    ]
    scored = ("Dice (95 %)", "HD95 mm", "surface Dice", "precision", "recall")
    cost = ("parameters M", "memory GB", "hours")
    folds = f"{'fold' if len(found.folds) == 1 else 'folds'} {', '.join(found.folds)}"
    title = f"{folds}: {found.cases} held-out cases of {found.patients} patients"
    console.table(title, ("model", "preset", *scored, *cost), rows)
    _against_best(found)
    _structures(found)
    _rankings(found)
    for note in found.notes:
        console.line(f"note: {note}")


def curves(found: Sequence[Froc], *, json: bool) -> None:
    """Print free-response curves and where to cut."""
    if json:
        console.as_json([item.model_dump(mode="json") for item in found])
        return
    columns = ("threshold", "sensitivity", "false positives a case", "precision", "F1")
    for item in found:
        rows = [
            (
                f"{point.threshold:.2f}",
                f"{point.sensitivity:.3f}",
                f"{point.false_positives_per_case:.2f}",
                f"{point.precision:.3f}",
                f"{point.f1:.3f}",
            )
            for point in item.points
        ]
        console.table(f"{item.structure}: {item.lesions} lesions in {item.cases} held-out cases", columns, rows)
        console.line(
            f"{item.structure}: cut at {item.threshold:.2f}. Out of fold (each fold at the threshold that is best on "
            f"the others): sensitivity {item.honest.sensitivity:.3f} at {item.honest.false_positives_per_case:.2f} "
            f"false positives a case, F1 {item.honest.f1:.3f}. "
            f"Mean sensitivity at 1/8 to 8 false positives: {item.score:.3f}"
        )


def _against_best(found: CandidateTable) -> None:
    rows = [
        (
            item.name,
            _bounded(item.gain, item.intervals.get("gain"), "+.4f"),
            number(item.smallest_difference, ".4f"),
            number(item.p_value, ".3g"),
        )
        for item in found.rows[1:]
    ]
    columns = ("model", "Dice to the best (95 %)", "could show", "p")
    console.table(f"against the best, {found.rows[0].name}, patient by patient", columns, rows)
    console.line(
        "could show: the smallest true difference that so many patients show four times in five (paired, 5 %). "
        "p: Wilcoxon's signed ranks with Holm's correction."
    )


def _structures(found: CandidateTable) -> None:
    if len(found.structures) > console.MOST_ROWS:
        console.line(f"structure by structure: {len(found.structures)} rows, with --csv or --json")
        return
    rows = [
        (
            item.structure,
            item.name,
            _bounded(item.dice, item.intervals.get("dice"), ".4f"),
            number(item.hd95_mm, ".2f"),
            number(item.surface_dice, ".3f"),
            "best" if item.name == found.rows[0].name else f"{item.gain:+.4f}",
            number(item.smallest_difference, ".4f"),
            number(item.p_value, ".3g"),
        )
        for item in found.structures
    ]
    columns = ("structure", "model", "Dice (95 %)", "HD95 mm", "surface Dice", "to the best", "could show", "p")
    console.table("structure by structure", columns, rows)


def _rankings(found: CandidateTable) -> None:
    places = range(len(found.rows))
    rows = [
        (
            f"{ranking.metric.replace('_', ' ')}, {ranking.scheme.replace('_', ' ')}",
            model.name,
            model.rank,
            *(_share(model.shares[place]) if model.shares else "-" for place in places),
            number(ranking.agreement, ".2f"),
        )
        for ranking in found.rankings
        for model in ranking.models
    ]
    heads = [f"rank {place + 1}" for place in places]
    title = "ranks, and the share of 1000 resamples of patients in which a model has each"
    console.table(title, ("ranked by", "model", "rank", *heads, "Kendall's tau"), rows)


def _bounded(value: float, bounds: tuple[float, float] | None, form: str) -> str:
    if math.isnan(value):
        return "-"
    return format(value, form) + (f" ({bounds[0]:{form}} to {bounds[1]:{form}})" if bounds else "")


def number(value: float, form: str) -> str:
    """Return a number in the given form, or `-` for nan."""
    return "-" if math.isnan(value) else format(value, form)
