"""Which runs a request means, and how much time each of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoseg.records.dataset import Dataset, check_name
from autoseg.records.errors import UsageError
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.requests import TrainRequest
from autoseg.stages.planning.clock import TRAINING_FRACTION
from autoseg.stages.training import extending

# Of a budget, for what is neither a step nor a held-out case.
REST_FRACTION = 0.05


def models(dataset: Dataset, plan: Plan, request: TrainRequest) -> tuple[ModelId, ...]:
    """Return the models that a request means: fold by fold, each configuration of the line-up.

    Raises:
        UsageError: A fold or a configuration does not exist.
        DataError: The variant is no safe name.
    """
    check_name(request.variant, what="variant")
    folds = request.folds or tuple(fold.name for fold in dataset.folds if fold.name != "all") or ("all",)
    names = request.configurations or tuple(entry.configuration for entry in plan.lineup)
    for fold in folds:
        dataset.fold(fold)
    chosen = [plan.configuration(name).name for name in names]
    if set(request.settings) - {extending.KEY} and request.variant == "base":
        raise _nameless()
    # A cascade's second stage needs the first in every fold, so configurations are the outer loop.
    return tuple(
        ModelId(
            dataset=dataset.name,
            plan=plan.name,
            configuration=name,
            variant=request.variant,
            seed=request.seed,
            fold=fold,
        )
        for name in chosen
        for fold in folds
    )


def check_variant(model: ModelId, request: TrainRequest, *, trained: bool) -> None:
    """Refuse `--set epochs=...` without a variant where there is no finished run that it could extend."""
    if request.settings and model.variant == "base" and not trained:
        raise _nameless()


def _nameless() -> UsageError:
    return UsageError(
        "--set trains another model beside what is there, and that needs a name",
        fix="Add --variant NAME. Only --set epochs=... goes without: it extends a run that has ended.",
        code="variant_needed",
    )


def budget_seconds(
    plan: Plan,
    configuration: str,
    wanted: Sequence[ModelId],
    minutes: float | None,
    *,
    held_out_seconds: Mapping[str, float] | None = None,
) -> float | None:
    """Return the seconds that one run may train; None without a budget.

    Kept for held-out cases, reading and scoring is a tenth, more where held-out cases are expected to take more, and
    never above half of the budget.

    Args:
        plan: Its line-up counts.
        configuration: Of the run.
        wanted: All runs that share the budget.
        minutes: The budget.
        held_out_seconds: What the held-out cases of a run are expected to take, by configuration.
    """
    if minutes is None:
        return None
    shares = {entry.configuration: entry.share for entry in plan.lineup}
    total = sum(shares.get(model.configuration, 1.0) for model in wanted)
    predicting = sum((held_out_seconds or {}).get(model.configuration, 0.0) for model in wanted)
    kept = min(0.5, max(1 - TRAINING_FRACTION, predicting / (minutes * 60) + REST_FRACTION))
    return minutes * 60 * (1 - kept) * shares.get(configuration, 1.0) / total
