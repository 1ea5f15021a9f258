"""Is the chosen ensemble as good as promised? Hippocampus, five networks, five folds, one head in three locked away.

    python benchmarks/selection.py --folder /tmp/selection --data ../shared/data/Task04_Hippocampus

Trains unet, residual_unet_m, attention_unet and unetr in 3D and a U-Net on slices by fixed numbers of steps
(`benchmarks/presets/`), fold by fold, so that it may run beside other work and be stopped at any time: the same
command goes on. Then it chooses an ensemble from the out-of-fold cases and prints, for the cases locked away:

- ensemble minus best single candidate (the best out of fold), 95 % interval, patients resampled;
- whether the estimate that the selection gave of itself lies inside the 95 % interval of what is found.

`--folds 2` trains the first two folds only, `--steps 4` a few steps a run, to try the way.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import locked_cases
import numpy as np

from autoseg.console import progress, start_logging
from autoseg.overview import doctor
from autoseg.pipeline import choosing, preparing, training
from autoseg.records.choice import EnsembleChoice
from autoseg.records.dataset import Dataset
from autoseg.records.evaluation import Evaluation
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.requests import PlanRequest, TrainRequest
from autoseg.stages import importing
from autoseg.stages.evaluating.statistics import Interval, dice_table, interval, pooled_mean, resample_groups
from autoseg.workspace import Workspace

PRESETS = ("unet", "residual_unet_m", "attention_unet", "unetr", "slices_unet")
GROUPS = "(id+1)//2"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--folder", type=Path, required=True)
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--folds", type=int, default=5, help="train the first so many folds")
    words.add_argument("--steps", type=int, default=0, help="steps a run instead of the presets' numbers, for a trial")
    given = words.parse_args()
    start_logging(debug=False)
    work = Workspace.locate("Hippocampus", given.folder)
    plan = prepared(work, given.data, given.folder)
    train(work, plan, folds=given.folds, steps=given.steps)
    candidates = trained(work, plan)
    locked_cases.predict(work, plan, candidates, given.folder / "locked")
    choice = choosing.ensemble(work, plan.name)
    found = judged(work, plan, choice, sorted(candidates), given.folder)
    print(json.dumps({**found, "machine": doctor(given.folder)}, indent=1))


def prepared(work: Workspace, data: Path, folder: Path) -> Plan:
    """Import with every third head locked away, plan, and preprocess, unless that was done."""
    if not work.dataset_file.exists():
        ids = sorted(file.name.removesuffix(".nii.gz") for file in (data / "labelsTr").glob("[!.]*.nii.gz"))
        locked = tuple(id for id in ids if (int(re.findall(r"\d+", id)[-1]) + 1) // 2 % 3 == 0)
        preparing.import_dataset(data, work, importing.ImportOptions(groups=GROUPS, test_cases=locked))
    if not work.plan_file("default").exists():
        presets = tuple(str(Path(__file__).parent / "presets" / f"{name}.toml") for name in PRESETS)
        preparing.plan_and_preprocess(work, PlanRequest(presets=presets), workers=1)
    return work.plan()


def train(work: Workspace, plan: Plan, *, folds: int, steps: int) -> None:
    """Train what is not trained yet, fold by fold, so that a run cut short has whole folds of every network."""
    trial = {"epochs": "1", "steps_per_epoch": str(steps)} if steps else {}
    with progress(silent=False) as tell:
        for fold in [item.name for item in work.dataset().folds if item.name != "all"][:folds]:
            request = TrainRequest(folds=(fold,), variant="trial" if trial else "base", settings=trial)
            training.train(work, request, tell=tell)


def trained(work: Workspace, plan: Plan) -> dict[str, list[ModelId]]:
    """Return candidate -> its trained folds."""
    found: dict[str, list[ModelId]] = {}
    for model in work.trained(plan.name):
        found.setdefault(model.candidate(), []).append(model)
    return found


def judged(work: Workspace, plan: Plan, choice: EnsembleChoice, candidates: list[str], folder: Path) -> dict:
    """Return what the locked cases say of the choice."""
    locked = folder / "locked"
    shares = dict(zip(choice.members, choice.weights, strict=True))
    ensemble = locked_cases.evaluate(work, plan, shares, locked, postprocessing=choice.postprocessing)
    singles = {name: locked_cases.evaluate(work, plan, {name: 1.0}, locked) for name in candidates}
    pooled = {item.members[0]: item.mean_dice for item in choice.candidates if len(item.members) == 1}
    best = max(pooled, key=lambda name: pooled[name])
    groups = locked_patients(work.dataset())
    return {
        "locked cases": len(ensemble.scores),
        "locked patients": len(set(groups.values())),
        "out of fold": {name: round(value, 4) for name, value in pooled.items()},
        "locked": {name: round(found.mean_dice(), 4) for name, found in singles.items()},
        "members": shares,
        "postprocessing": [f"{step.kind} {step.structure} {step.value:g}" for step in choice.postprocessing],
        "ensemble": interval(ensemble, groups).model_dump(),
        "ensemble minus best single out of fold": gain(ensemble, singles[best], groups),
        **estimates(choice, interval(ensemble, groups)),
    }


def estimates(choice: EnsembleChoice, found: Interval) -> dict[str, float | bool]:
    """Return what the choice promised in Dice, and whether that lies inside the interval of what was found."""
    (dice,) = [item for item in choice.estimates if item.figure == "dice"]
    return {
        "optimistic estimate": round(dice.optimistic, 4),
        "honest estimate": round(dice.honest, 4),
        "honest estimate inside the interval": found.low <= dice.honest <= found.high,
    }


def locked_patients(dataset: Dataset) -> dict[str, str]:
    """Return locked case -> patient."""
    return {case.id: case.group for case in dataset.test_cases}


def gain(first: Evaluation, second: Evaluation, groups: dict[str, str]) -> dict[str, float]:
    """Return the mean difference of two evaluations of the same cases, with its interval over patients."""
    tables = [dice_table(item)[0] for item in (first, second)]
    weights = resample_groups([groups[item.case] for item in first.scores], seed=0, key="locked gain")
    gains = pooled_mean(tables[0], weights) - pooled_mean(tables[1], weights)
    low, high = np.percentile(gains[np.isfinite(gains)], (2.5, 97.5))
    mean = float(pooled_mean(tables[0])[0] - pooled_mean(tables[1])[0])
    return {"low": round(float(low), 4), "mean": round(mean, 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()
