"""Hippocampus at equal wall time a fold: autoseg beside nnU-Net as shipped and with bfloat16 given to it.

    python benchmarks/accuracy.py prepare --root /tmp/bench --peers /path/to/env/bin
    python benchmarks/accuracy.py run --root /tmp/bench --peers /path/to/env/bin --minutes 5,15,30 --seeds 0,1,2
    python benchmarks/accuracy.py table --root /tmp/bench

Both have the same folds, in which the two sides of one head stay together. `run` does one piece of at most
`--piece-seconds` of the first run that is not finished, says what is left, and is called again until nothing is
(`--until-done` does that by itself); a run may be stopped at any time. A fold's minutes are those of its training:
autoseg keeps a tenth of them for its held-out cases, nnU-Net gets all of them and its held-out cases on top. `table`
pools the held-out cases of all folds, averages the seeds of a case, and draws heads anew for the bound of the paired
difference. Nothing else may compute meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from against_nnunet import write_nnunet_raw

from autoseg.pipeline.scoring import evaluate
from autoseg.records.dataset import Dataset
from autoseg.records.evaluation import Evaluation
from autoseg.records.model import ModelId
from autoseg.records.requests import EvaluateRequest
from autoseg.stages.evaluating.statistics import bootstrap_interval
from autoseg.storage import read_record, write_record
from autoseg.workspace import Workspace

NAME, DATASET = "Hippocampus", "Dataset004_Hippocampus"
PROGRAMS = {"autoseg": "autoseg", "nnunet": "nnU-Net as shipped", "nnunet-bf16": "nnU-Net, bfloat16 given to it"}


@dataclass(frozen=True)
class Run:
    """One training: by whom, with how many minutes, of which fold, with which seed."""

    program: str
    minutes: float
    fold: str
    seed: int

    def folder(self, root: Path) -> Path:
        return root / "accuracy" / f"{self.program}_{self.minutes:g}min" / f"seed_{self.seed}" / f"fold_{self.fold}"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("part", choices=("prepare", "run", "table"))
    words.add_argument("--root", type=Path, required=True)
    words.add_argument("--peers", type=Path, help="bin folder of an environment with nnunetv2")
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--minutes", default="5,15,30")
    words.add_argument("--seeds", default="0,1,2")
    words.add_argument("--folds", default="0,1,2,3,4")
    words.add_argument("--programs", default=",".join(PROGRAMS))
    words.add_argument("--device", default="cpu")
    words.add_argument("--piece-seconds", type=float, default=80.0)
    words.add_argument("--until-done", action="store_true")
    given = words.parse_args()
    if given.part == "prepare":
        prepare(given)
    elif given.part == "table":
        print(table(given.root))
    else:
        while work_on(given) and given.until_done:
            pass


def prepare(given: argparse.Namespace) -> None:
    """Import, and let nnU-Net plan, preprocess and take over the folds; autoseg plans for each budget when it runs."""
    work = workspace(given.root)
    if not work.dataset_file.exists():
        autoseg(given, "import", str(given.data.resolve()), "--as", NAME, "--groups", "(id+1)//2")
    raw, preprocessed = (given.root / "nnunet" / name for name in ("raw", "preprocessed"))
    if not raw.exists():
        write_nnunet_raw(given.data.resolve(), raw)
    if not (preprocessed / DATASET / "nnUNetPlans_3d_fullres").exists():
        command = [str(given.peers / "nnUNetv2_plan_and_preprocess"), "-d", "4", "-c", "3d_fullres", "-np", "2"]
        subprocess.run(command, env=environment(given.root), check=True)
    folds = [fold for fold in work.dataset().folds if fold.name != "all"]
    splits = [{"train": list(fold.training), "val": list(fold.held_out)} for fold in folds]
    (preprocessed / DATASET / "splits_final.json").write_text(json.dumps(splits))


def work_on(given: argparse.Namespace) -> bool:
    """Do one piece of the first run that is not finished; return whether any is left."""
    left = [run for run in wanted(given) if not (run.folder(given.root) / "evaluation.json").exists()]
    if not left:
        print("nothing is left")
        return False
    run = left[0]
    begun = time.perf_counter()
    piece_of_autoseg(given, run) if run.program == "autoseg" else piece_of_nnunet(given, run)
    print(f"{run}: {time.perf_counter() - begun:.0f} s; {len(left)} runs were left")
    return True


def wanted(given: argparse.Namespace) -> list[Run]:
    parts = (given.minutes, given.seeds, given.folds, given.programs)
    minutes, seeds, folds, programs = (text.split(",") for text in parts)
    return [
        Run(program, float(minute), fold, int(seed))
        for minute, seed, fold, program in itertools.product(minutes, seeds, folds, programs)
    ]


def piece_of_autoseg(given: argparse.Namespace, run: Run) -> None:
    """Plan for the budget if that was not done, and train a while: stopped by SIGTERM, it goes on where it was."""
    work, plan = workspace(given.root), f"min{run.minutes:g}".replace(".", "_")
    if not (work.folder / "plans" / plan / "plan.json").exists():
        folds = sum(fold.name != "all" for fold in work.dataset().folds)
        budget = str(folds * run.minutes)
        # One configuration, as nnU-Net's 3d_fullres is one: the whole budget is the 3D network's.
        planned = ("--plan", plan, "--minutes", budget, "--device", given.device)
        autoseg(given, "plan_and_preprocess", "-d", NAME, *planned)
    configuration = next(item.name for item in work.plan(plan).configurations if item.architecture.dimensions == 3)
    command = ["train", "-d", NAME, "--plan", plan, "-c", configuration, "-f", run.fold, "--seed", str(run.seed)]
    command += ["--minutes", str(run.minutes), "--device", given.device]
    if not autoseg(given, *command, seconds=given.piece_seconds):
        return
    model = ModelId(dataset=NAME, plan=plan, configuration=configuration, seed=run.seed, fold=run.fold)
    run.folder(given.root).mkdir(parents=True, exist_ok=True)
    write_record(run.folder(given.root) / "evaluation.json", work.evaluation(model))


def piece_of_nnunet(given: argparse.Namespace, run: Run) -> None:
    folder, script = run.folder(given.root), Path(__file__).with_name("nnunet_budget.py")
    options = ["--fold", run.fold, "--seed", str(run.seed), "--budget-seconds", str(run.minutes * 60)]
    options += ["--piece-seconds", str(given.piece_seconds), "--device", given.device]
    options += ["--bf16"] if run.program == "nnunet-bf16" else []
    command = [str(given.peers / "python"), str(script), str(folder), *options]
    done = subprocess.run(command, env=environment(given.root), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"nnU-Net failed:\n{done.stderr[-4000:]}")
    if done.stdout.splitlines()[-1] == "done":
        dataset = workspace(given.root).dataset()
        write_record(folder / "evaluation.json", score(folder / "predictions", given.data, dataset, run.fold))


def score(predictions: Path, data: Path, dataset: Dataset, fold: str) -> Evaluation:
    """Score the fold's held-out cases as autoseg scores its own."""
    truths = predictions.with_name("truths")
    truths.mkdir(exist_ok=True)
    for case in dataset.fold(fold).held_out:
        link = truths / f"{case}.nii.gz"
        if not link.exists():
            link.symlink_to((data / "labelsTr" / f"{case}.nii.gz").resolve())
    return evaluate(predictions, truths, dataset, EvaluateRequest(families=frozenset({"overlap"}))).evaluation


def table(root: Path) -> str:
    """Return the pooled Dice of each program and minute, and how far autoseg is ahead, as Markdown."""
    dataset = workspace(root).dataset()
    patients = {case.id: case.group for case in dataset.cases}
    found = read_scores(root)
    lines = [
        "| minutes a fold | | Dice | autoseg ahead by | 95 % interval | cases, folds, seeds |",
        "|---|---|---|---|---|---|",
    ]
    for minutes in sorted({key[1] for key in found}):
        mine = found.get(("autoseg", minutes), {})
        for program, words in PROGRAMS.items():
            theirs = found.get((program, minutes), {})
            if not theirs:
                continue
            runs = sorted({run for runs in theirs.values() for run in runs})
            # The same case of the same fold and seed only: what one of them has not run yet does not count.
            pairs = {case: [(mine[case][run], theirs[case][run]) for run in theirs[case] if run in mine.get(case, {})]
                     for case in theirs}  # fmt: skip
            gains = {case: float(np.mean([a - b for a, b in rows])) for case, rows in pairs.items() if rows}
            ahead, bound = "", ""
            if program != "autoseg" and gains:
                values = np.array(list(gains.values()))
                interval = bootstrap_interval(values, [patients[case] for case in gains], key=f"{program} {minutes}")
                ahead = f"{values.mean():+.4f}"
                bound = f"{interval[0]:+.4f} to {interval[1]:+.4f}" if interval else "too few heads"
            dice = np.mean([np.mean(list(rows.values())) for rows in theirs.values()])
            extent = f"{len(theirs)}, {len({fold for fold, _ in runs})}, {len({seed for _, seed in runs})}"
            lines.append(f"| {minutes:g} | {words} | {dice:.4f} | {ahead} | {bound} | {extent} |")
    return "\n".join(lines)


def read_scores(root: Path) -> dict[tuple[str, float], dict[str, dict[tuple[str, str], float]]]:
    """Return (program, minutes) -> case -> (fold, seed) -> mean Dice over the structures."""
    found: dict[tuple[str, float], dict[str, dict[tuple[str, str], float]]] = {}
    for file in sorted((root / "accuracy").glob("*/seed_*/fold_*/evaluation.json")):
        fold, seed = file.parent.name.removeprefix("fold_"), file.parent.parent.name.removeprefix("seed_")
        program, _, minutes = file.parent.parent.parent.name.rpartition("_")
        for case in read_record(file, Evaluation).scores:
            dice = float(np.nanmean([structure.dice for structure in case.structures]))
            row = found.setdefault((program, float(minutes.removesuffix("min"))), {}).setdefault(case.case, {})
            row[fold, seed] = dice
    return found


def workspace(root: Path) -> Workspace:
    return Workspace.locate(NAME, root / "autoseg")


def environment(root: Path) -> dict[str, str]:
    place = root.resolve() / "nnunet"
    folders = {f"nnUNet_{name}": str(place / name) for name in ("raw", "preprocessed", "results")}
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | folders


def autoseg(given: argparse.Namespace, *words: str, seconds: float | None = None) -> bool:
    """Run a command; return whether it ended by itself, and not because its time was over."""
    command = [sys.executable, "-m", "autoseg", *words, "--root", str(given.root / "autoseg")]
    process = subprocess.Popen(command)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
        return False
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return True


if __name__ == "__main__":
    main()
