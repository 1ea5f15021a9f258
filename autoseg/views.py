"""How plans, forecasts and choices look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autoseg import console
from autoseg.score_views import number

if TYPE_CHECKING:
    from autoseg.records.calibration import Calibration
    from autoseg.records.choice import EnsembleChoice, Estimate
    from autoseg.records.forecast import Forecast
    from autoseg.records.plan import Plan
    from autoseg.records.quality import PredictedQuality
    from autoseg.records.requests import ExpectedCost


def expected_costs(cases: Sequence[str], costs: Sequence[ExpectedCost]) -> None:
    """Print what predicting each scan will take."""
    rows = [
        (cost.case, f"{cost.seconds:.1f}", f"{cost.memory_gb:.2f}", cost.tiles) for cost in costs[: console.MOST_ROWS]
    ]
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
        (
            item.configuration,
            f"{item.step_seconds:g}",
            item.steps,
            f"{item.fold_hours:g}",
            f"{item.held_out_hours:g}",
            item.folds,
        )
        for item in found.configurations
    ]
    columns = ("configuration", "seconds a step", "steps", "hours a fold", "for its held-out cases", "folds")
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
    _candidates(chosen)
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
    _own_doubt(chosen)


def referred(found: Mapping[str, PredictedQuality], limit: float) -> None:
    """Print the cases that a person must look at, and why."""
    rows = []
    for case, quality in found.items():
        why = [f"{item.structure} {item.dice:.2f} ({item.low:.2f} to {item.high:.2f})" for item in quality.scores]
        if quality.unlikeness is not None and quality.unlikeness.flagged:
            why.append(quality.unlikeness.line())
        rows.append((case, ", ".join(why) or "no quality can be predicted: too few cases were held out"))
    console.table(f"{len(rows)} scans to look at: Dice may be below {limit:g}", ("scan", "predicted Dice"), rows)


def _candidates(chosen: EnsembleChoice) -> None:
    other = chosen.metric != "dice"
    rows = [
        (
            "*" if item.chosen else "",
            ", ".join(item.members),
            f"{item.mean_dice:.4f}",
            *((number(item.score, ".4f"),) if other else ()),
            item.because,
        )
        for item in chosen.candidates
    ]
    columns = ("", "members", "mean Dice", *((chosen.metric,) if other else ()), "because")
    console.table("candidates on held-out cases", columns, rows)


def _estimate(item: Estimate) -> None:
    name = item.figure.replace("_", " ")
    console.line(f"{name} {item.optimistic:.4f} on the cases that made the choice: optimistic, for it fits them best")
    if item.honest == item.honest:
        interval = "" if item.low != item.low else f" (95 % interval over patients {item.low:.4f} to {item.high:.4f})"
        console.line(
            f"{name} {item.honest:.4f}{interval} honestly: each case judged by a choice made without it; "
            "expect this of new patients"
        )


def _own_doubt(chosen: EnsembleChoice) -> None:
    """Print how well the choice knows how good it is."""
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
