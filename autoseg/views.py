"""How records look on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autoseg import console

if TYPE_CHECKING:
    from autoseg.records.calibration import Calibration
    from autoseg.records.forecast import Forecast
    from autoseg.records.plan import Plan
    from autoseg.records.quality import PredictedQuality
    from autoseg.records.requests import ExpectedCost
    from autoseg.records.results import EnsembleChoice, Estimate
    from autoseg.stages.evaluating import CandidateTable, Froc, Scores, StructureSummary

MOST_ROWS = 60  # of a table that is not what was asked for first


def expected_costs(cases: Sequence[str], costs: Sequence[ExpectedCost]) -> None:
    """Print what predicting each scan will take."""
    rows = [(cost.case, f"{cost.seconds:.1f}", f"{cost.memory_gb:.2f}", cost.tiles) for cost in costs[:MOST_ROWS]]
    what = "1 scan" if len(cases) == 1 else f"{len(cases)} scans"
    console.table(f"would predict {what}", ("scan", "about seconds", "memory GB", "tiles"), rows)
    unread = sorted(set(cases) - {cost.case for cost in costs})
    if unread:
        console.line(f"whose header cannot be read: {', '.join(unread)}")
    if costs:
        from autoseg.pipeline.predicting import said

        console.line(said(costs))


def plan(made: Plan) -> None:
    """Print a table of a plan's configurations."""
    shares = {entry.configuration: entry.share for entry in made.lineup}
    rows = [
        (
            item.name,
            " x ".join(str(size) for size in item.patch_shape),
            item.batch_size,
            " x ".join("own" if mm is None else f"{mm:.3g}" for mm in item.spacing_mm),
            f"{item.memory.peak_bytes / 2**30:.2f}",
            f"{item.memory.parameters / 1e6:.1f}",
            f"{shares[item.name]:.0%}" if item.name in shares else "-",
        )
        for item in made.configurations
    ]
    columns = ("configuration", "patch z y x", "batch", "spacing mm", "memory GB", "parameters M", "share of the time")
    console.table(f"plan {made.name} for {made.device.name}, {made.device.memory_gb:g} GB", columns, rows)
    console.line("every number has a reason: autoseg explain")


def forecast(found: Forecast) -> None:
    """Print how long the line-up is going to take."""
    rows = [
        (item.configuration, f"{item.step_seconds:g}", item.steps, f"{item.fold_hours:g}", item.folds)
        for item in found.configurations
    ]
    columns = ("configuration", "seconds a step", "steps", "hours a fold", "folds")
    console.table(f"forecast: {found.lineup_hours:g} hours for the line-up", columns, rows)


def calibration(found: Calibration) -> None:
    """Print the fastest speed of each kind of operation."""
    best: dict[tuple[str, int], dict[str, float]] = {}
    for rate in found.rates:
        row = best.setdefault((rate.kind, rate.dimensions), {})
        row[rate.precision] = max(rate.per_second, row.get(rate.precision, 0.0))
    precisions = list(dict.fromkeys(rate.precision for rate in found.rates))
    rows = []
    for (kind, dimensions), row in best.items():
        speeds = (f"{row[name] / 1e9:.3g}" if name in row else "-" for name in precisions)
        rows.append((kind, f"{dimensions}D" if dimensions else "", *speeds))
    console.table(f"{found.device.name}: billions a second", ("operation", "", *precisions), rows)


def differences(first: Plan, second: Plan, *, json: bool) -> None:
    """Print what two plans decided differently, side by side."""
    from autoseg.stages import planning

    found = planning.compare(first, second)
    if json:
        console.as_json([item.as_row() for item in found])
        return
    titles = [f"{plan.name} ({', '.join(plan.presets)}, {plan.device.memory_gb:g} GB)" for plan in (first, second)]
    console.table("decided differently", ("what", *titles), [tuple(item.as_row().values()) for item in found])


def choice(chosen: EnsembleChoice, *, json: bool) -> None:
    """Print what was chosen, what lost, and why."""
    if json:
        console.as_json(chosen.model_dump(mode="json"))
        return
    other = chosen.metric != "dice"
    rows = [
        (
            "*" if item.chosen else "",
            ", ".join(item.members),
            f"{item.mean_dice:.4f}",
            *((_number(item.score, ".4f"),) if other else ()),
            item.because,
        )
        for item in chosen.candidates
    ]
    columns = ("", "members", "mean Dice", *((chosen.metric,) if other else ()), "because")
    console.table("candidates on held-out cases", columns, rows)
    for step in chosen.postprocessing:
        console.line(f"post-processing: {step.kind} for {step.structure}")
    for note in chosen.notes:
        console.line(f"note: {note}")
    members = ", ".join(f"{name} ({share:.2f})" for name, share in zip(chosen.members, chosen.weights, strict=True))
    console.line(f"chosen: {members}; pooled out-of-fold mean Dice {chosen.mean_dice:.4f}")
    if chosen.seconds_per_case is not None:
        console.line(f"cost: {chosen.seconds_per_case:.2g} s a case with all folds, as measured on held-out cases")
    for item in chosen.estimates:
        _estimate(item)
    for model in chosen.quality:
        figure = "Dice" if model.figure == "dice" else "surface Dice"
        console.line(
            f"predicted {figure} of {model.structure}: within {model.half_width:.3f} of the true one in 9 of 10 cases, "
            f"rank correlation {model.spearman:.2f} over {model.cases} held-out cases"
        )
    if chosen.likeness is not None:
        names = ", ".join(aspect.name for aspect in chosen.likeness.aspects)
        console.line(
            f"unlike scans are told by {names}: {chosen.likeness.alarm_fraction:.0%} of scans like the "
            f"{chosen.likeness.cases} of the training are flagged, too"
        )
    if chosen.calibration is not None:
        found = chosen.calibration
        console.line(
            f"calibration: temperature {found.temperature:.2f}, expected calibration error {found.error_before:.4f} "
            f"without and {found.error_after:.4f} with it"
        )


def referred(found: Mapping[str, PredictedQuality], limit: float) -> None:
    """Print the cases that a person must look at, and why."""
    rows = []
    for case, quality in found.items():
        why = [f"{item.structure} {item.dice:.2f} ({item.low:.2f} to {item.high:.2f})" for item in quality.scores]
        if quality.unlikeness is not None and quality.unlikeness.flagged:
            why.append(quality.unlikeness.line())
        rows.append((case, ", ".join(why) or "no quality can be predicted: too few cases were held out"))
    console.table(f"{len(rows)} scans to look at: Dice may be below {limit:g}", ("scan", "predicted Dice"), rows)


def _estimate(item: Estimate) -> None:
    name = item.figure.replace("_", " ")
    console.line(f"{name} {item.optimistic:.4f} on the cases that made the choice: optimistic, for it fits them best")
    if item.honest == item.honest:
        interval = "" if item.low != item.low else f" (95 % interval over patients {item.low:.4f} to {item.high:.4f})"
        console.line(
            f"{name} {item.honest:.4f}{interval} honestly: each case judged by a choice made without it; "
            "expect this of new patients"
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
            (item.structure, item.place, item.lesions, _number(item.sensitivity, ".3f"), item.false_positives)
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
    return [_number(getattr(item, name), form) for _, name, form in columns]


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
            _number(item.smallest_difference, ".4f"),
            _number(item.p_value, ".3g"),
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
    if len(found.structures) > MOST_ROWS:
        console.line(f"structure by structure: {len(found.structures)} rows, with --csv or --json")
        return
    rows = [
        (
            item.structure,
            item.name,
            _bounded(item.dice, item.intervals.get("dice"), ".4f"),
            _number(item.hd95_mm, ".2f"),
            _number(item.surface_dice, ".3f"),
            "best" if item.name == found.rows[0].name else f"{item.gain:+.4f}",
            _number(item.smallest_difference, ".4f"),
            _number(item.p_value, ".3g"),
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
            _number(ranking.agreement, ".2f"),
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


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
