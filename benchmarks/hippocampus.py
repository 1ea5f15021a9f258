"""The whole way on hippocampus within a budget: pooled out-of-fold Dice of the chosen ensemble, folds grouped by head.

    python benchmarks/hippocampus.py --data ../shared/data/Task04_Hippocampus --minutes 60 --root /tmp/bench

Stopped at any time, the same command goes on. Nothing else may compute meanwhile: the budget is wall time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from autoseg.overview import doctor
from autoseg.records.evaluation import Evaluation
from autoseg.stages.evaluating import summarise
from autoseg.storage import read_record
from autoseg.workspace import Workspace


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--root", type=Path, required=True)
    words.add_argument("--minutes", type=float, default=60.0)
    words.add_argument("--preset", default="unet")
    given = words.parse_args()
    program = [sys.executable, "-m", "autoseg"]
    root = ["--root", str(given.root)]
    work = Workspace.locate("Hippocampus", given.root)
    if not work.dataset_file.exists():
        subprocess.run(
            [*program, "import", str(given.data), "--as", "Hippocampus", "--groups", "(id+1)//2", *root], check=True
        )
    started = time.perf_counter()
    command = ["run", "-d", "Hippocampus", "--minutes", str(given.minutes), "--preset", given.preset, *root]
    subprocess.run([*program, *command], check=True)
    seconds = time.perf_counter() - started
    choice = work.choice()
    evaluation = read_record(work.ensemble("default") / "evaluation.json", Evaluation)
    candidates = {" + ".join(item.members): round(item.mean_dice, 4) for item in choice.candidates}
    print(
        json.dumps(
            {
                "minutes": round(seconds / 60, 1),
                "pooled_dice": round(evaluation.mean_dice(), 4),
                "structures": {row.structure: round(row.dice_mean, 4) for row in summarise(evaluation)},
                "candidates": candidates,
                "members": dict(zip(choice.members, choice.weights, strict=True)),
                "cases": len(evaluation.scores),
                "machine": doctor(given.root),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
