"""What the trained candidates said of the cases that they never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.images import fields, home, postprocess
from autoseg.images.signs import signs_of
from autoseg.images.steadiness import STEADINESS
from autoseg.records.choice import EnsembleChoice, Share
from autoseg.records.dataset import Case, Dataset
from autoseg.records.errors import UsageError
from autoseg.records.markers import StoredField
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.volumes import LabelMap
from autoseg.stages import predicting
from autoseg.stages.evaluating.truths import truth
from autoseg.storage import read_record
from autoseg.workspace import Workspace


@dataclass(frozen=True)
class OutOfFold:
    """The stored predictions of every candidate, case by case.

    Attributes:
        candidates: `ModelId.candidate()` -> its scored folds; "all" holds nothing out and is no part of it.
    """

    work: Workspace
    plan: Plan
    dataset: Dataset
    candidates: Mapping[str, Sequence[ModelId]]

    @classmethod
    def collect(cls, work: Workspace, plan: Plan) -> OutOfFold:
        """Return what there is.

        Raises:
            UsageError: No model was trained on a fold with held-out cases.
        """
        found: dict[str, list[ModelId]] = {}
        for model in work.trained(plan.name):
            if model.fold != "all" and (work.model(model) / "evaluation.json").exists():
                found.setdefault(model.candidate(), []).append(model)
        if not found:
            raise UsageError(
                f"no model of plan {plan.name} was trained on a fold with held-out cases",
                fix=f"Run `autoseg train -d {work.name} -f 0` first.",
                code="nothing_trained",
            )
        return cls(work, plan, work.dataset(), found)

    def folds(self) -> dict[str, tuple[str, ...]]:
        """Return candidate -> the folds that it was trained in."""
        return {name: tuple(model.fold for model in models) for name, models in self.candidates.items()}

    def seconds(self) -> dict[str, float]:
        """Return candidate -> seconds that it takes for one case with all of its trained folds.

        The mean over the held-out cases, as measured when one fold predicted each of them, times the folds; a second
        stage waits for its first.
        """
        return {name: sum(self._seconds(model) for model in models) for name, models in self.candidates.items()}

    def _seconds(self, model: ModelId) -> float:
        stage = predicting.first_stage(model, self.plan.configuration(model.configuration))
        before = 0.0 if stage is None else _mean_seconds(self.work.model(stage))
        return before + _mean_seconds(self.work.model(model))

    def truth(self, case: str) -> LabelMap:
        """Return what a person drew in a case."""
        return truth(self.dataset, self.dataset.case(case))

    def field(self, candidate: str, case: str, *, share: Share = 1.0) -> fields.Field:
        """Return what a candidate said of a case, as logits on its network grid."""
        folder = predicting.fold_folder(self.work, self.dataset, self.candidates[candidate][0], case) / "held_out"
        kept = predicting.stored_field(folder, case, self.plan.labels.output)
        return fields.Field(kept.array, kept.passage, share)

    def probabilities(self, candidate: str, case: str) -> np.ndarray:
        """Return uint8 probabilities (0 to 255), (K, Z, Y, X), in the scan's geometry."""
        fields = [self.field(candidate, case)]
        return np.round(home.home_probabilities(fields, output=self.plan.labels.output) * 255).astype(np.uint8)

    def merged_probabilities(self, shares: Mapping[str, Share], case: str) -> np.ndarray:
        """Return float32 probabilities (K, Z, Y, X) of candidates together in the scan's geometry, before cleaning."""
        fields = [self.field(name, case, share=share) for name, share in shares.items()]
        return home.home_probabilities(fields, output=self.plan.labels.output)

    def merged(self, choice: EnsembleChoice, case: str) -> LabelMap:
        """Return a choice's label map of a case, cleaned as the choice says."""
        fields = [self.field(name, case, share=share) for name, share in choice.shares.items()]
        array = home.home(fields, output=self.plan.labels.output, region_values=self.plan.labels.region_values)
        grid = fields[0].passage.original
        return LabelMap(postprocess.apply(array, choice.postprocessing, self.plan.labels, grid.spacing_mm), grid)

    def signs(self, choice: EnsembleChoice, cases: Sequence[str]) -> np.ndarray:
        """Return what a choice's predictions say of their own Dice, (cases, structures, signs); see `images.signs`.

        Those of steadiness are left out where a case has none, or others: it was predicted by an older version.
        """
        found = np.array([self._signs(choice, case) for case in cases])
        steady = [self._steadiness(choice, case) for case in cases]
        known = [item for item in steady if item is not None]
        return np.concatenate([found, known], axis=2) if len(known) == len(steady) else found

    def _signs(self, choice: EnsembleChoice, case: str) -> np.ndarray:
        fields = [self.field(name, case, share=share) for name, share in choice.shares.items()]
        return signs_of(fields, output=self.plan.labels.output)

    def _steadiness(self, choice: EnsembleChoice, case: str) -> np.ndarray | None:
        """Return the members' mean, (structures, signs), as `predicting.steadying` has it."""
        rows, weights = [], []
        for name, share in zip(choice.members, choice.weights, strict=True):
            model = self.candidates[name][0]
            if self.plan.configuration(model.configuration).regions is not None:
                continue
            folder = predicting.fold_folder(self.work, self.dataset, model, case) / "held_out"
            marker = read_record(folder / f"{case}.json", StoredField)
            rows.append(marker.steadiness if marker.signs == STEADINESS else ())
            weights.append(share)
        return np.average(np.array(rows), axis=0, weights=weights) if rows and all(rows) else None

    def shared_cases(self, members: Sequence[str]) -> list[Case]:
        """Return the cases that every one of these candidates was judged on."""
        folds = [{model.fold for model in self.candidates[name]} for name in members]
        held_out = {id for name in set.intersection(*folds) for id in self.dataset.fold(name).held_out}
        return [case for case in self.dataset.cases if case.id in held_out]


def _mean_seconds(folder: Path) -> float:
    markers = sorted((folder / "held_out").glob("*.json"))
    spent = [read_record(marker, StoredField).seconds for marker in markers]
    return sum(spent) / len(spent) if spent else float("nan")
