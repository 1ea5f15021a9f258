"""What predicts where nothing could be held out: one patient alone trains every model and judges none."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.records.choice import Candidate, EnsembleChoice
from autoseg.records.errors import UsageError
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan


def take_first(plan: Plan, trained: Sequence[ModelId]) -> EnsembleChoice:
    """Return the trained model of the configuration that stands first in the plan's line-up, unmeasured.

    Raises:
        UsageError: Nothing of the plan was trained.
    """
    names = list(dict.fromkeys(model.candidate() for model in trained))
    if not names:
        raise UsageError(
            f"no model of plan {plan.name} was trained", fix="Run `autoseg train` first.", code="nothing_trained"
        )
    order = {entry.configuration: place for place, entry in enumerate(plan.lineup)}
    first = min(trained, key=lambda model: order.get(model.configuration, len(order))).candidate()
    why = "the first configuration of the line-up; nothing was held out, so nothing was measured"
    lost = "nothing was held out, so nothing was measured"
    nan = float("nan")
    return EnsembleChoice(
        plan=plan.name,
        members=(first,),
        weights=(1.0,),
        folds=("all",),
        candidates=tuple(
            Candidate(
                members=(name,),
                weights=(1.0,),
                mean_dice=nan,
                step=0,
                chosen=name == first,
                because=why if name == first else lost,
            )
            for name in names
        ),
        mean_dice=nan,
        notes=("The data are of one patient: no case could be held out, and no score says how good this is.",),
    )
