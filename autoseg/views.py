"""How records look on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autoseg import console

if TYPE_CHECKING:
    from autoseg.records.forecast import Forecast
    from autoseg.records.plan import Plan
    from autoseg.records.quality import PredictedScore
    from autoseg.records.results import EnsembleChoice, Estimate
    from autoseg.stages.evaluating import CandidateTable, StructureSummary


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
        console.line(
            f"predicted Dice of {model.structure}: within {model.half_width:.3f} of the true one in 9 of 10 cases, "
            f"rank correlation {model.spearman:.2f} over {model.cases} held-out cases"
        )
    if chosen.calibration is not None:
        found = chosen.calibration
        console.line(
            f"calibration: temperature {found.temperature:.2f}, expected calibration error {found.error_before:.4f} "
            f"without and {found.error_after:.4f} with it"
        )


def referred(found: Mapping[str, Sequence[PredictedScore]], limit: float) -> None:
    """Print the cases that a person must look at, and why."""
    rows = []
    for case, scores in found.items():
        why = [f"{item.structure} {item.dice:.2f} ({item.low:.2f} to {item.high:.2f})" for item in scores]
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


def scores(title: str, summaries: Sequence[StructureSummary]) -> None:
    """Print the scores of every structure; lesions where they were counted."""
    lesions = any(item.lesion_f1_mean == item.lesion_f1_mean for item in summaries)
    rows = [
        (
            item.structure,
            item.count,
            f"{item.dice_mean:.3f}",
            f"{item.hd95_mm_median:.2f}",
            f"{item.surface_dice_mean:.3f}",
            f"{item.assd_mm_median:.2f}",
            f"{item.volume_difference_ml_mean:+.3f}",
            *((f"{item.lesion_f1_mean:.3f}",) if lesions else ()),
        )
        for item in summaries
    ]
    columns = ("structure", "cases", "Dice", "HD95 mm", "surface Dice", "ASSD mm", "volume difference ml")
    console.table(title, (*columns, "lesion F1") if lesions else columns, rows)


def candidates(found: CandidateTable, *, json: bool) -> None:
    """Print all trained candidates side by side, the best first."""
    if json:
        console.as_json(found.model_dump(mode="json"))
        return
    rows = [
        (
            item.name,
            f"{item.dice:.4f}",
            f"{item.hd95_mm:.2f}",
            f"{item.surface_dice:.3f}",
            f"{item.precision:.3f}",
            f"{item.recall:.3f}",
            f"{item.parameters / 1e6:.1f}",
            f"{item.memory_gb:.2f}",
            f"{item.training_hours:.2f}",
            f"{item.gain:+.4f}" if number else "best",
            _number(item.smallest_difference, ".4f"),
            _number(item.p_value, ".3g"),
        )
        for number, item in enumerate(found.rows)
    ]
    scored = ("Dice", "HD95 mm", "surface Dice", "precision", "recall")
    cost = ("parameters M", "memory GB", "hours")
    folds = f"{'fold' if len(found.folds) == 1 else 'folds'} {', '.join(found.folds)}"
    title = f"{folds}: {found.cases} held-out cases of {found.patients} patients"
    console.table(title, ("model", *scored, *cost, "to the best", "could show", "p"), rows)
    console.line(
        "Dice: mean over patients. could show: the smallest difference that so many patients can show. "
        "p: Wilcoxon's signed ranks against the best, patient by patient, with Holm's correction."
    )
    for note in found.notes:
        console.line(f"note: {note}")


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
