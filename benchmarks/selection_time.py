"""How long a selection takes: 10 candidates on 40 real truths, each metric, with the choices of the honest estimate.

    python benchmarks/selection_time.py --data ../shared/data/Task04_Hippocampus
    python benchmarks/selection_time.py --metrics mean_rank --size 96 --candidates 10 --cases 40

Candidates' probabilities are the truth, moved and smoothed a little, each case and candidate otherwise, so that sums of
them are better than each alone and the selection goes on for some rounds. `--size` repeats the voxels of a truth until
its longest side has so many: larger scans than the hippocampus has.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from autoseg.images.files import read_volume
from autoseg.records.choice import EnsembleChoice, Metric
from autoseg.records.evaluation import CaseScore
from autoseg.records.labels import Labels, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages import ensembling
from autoseg.stages.ensembling import HeldOut, Question

LABELS = Labels(
    structures=(Structure(name="anterior", value=1, original=1), Structure(name="posterior", value=2, original=2))
)
FOLDS = ("0", "1", "2", "3", "4")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--candidates", type=int, default=10)
    words.add_argument("--cases", type=int, default=40)
    words.add_argument("--size", type=int, default=0)
    words.add_argument("--metrics", nargs="*", default=["dice", "surface_dice", "mean_rank"])
    given = words.parse_args()
    files = sorted((given.data / "labelsTr").glob("[!.]*.nii.gz"))[: given.cases]
    truths = {file.name.removesuffix(".nii.gz"): truth(file, given.size) for file in files}
    rows = []
    for metric in given.metrics:
        question = ask(truths, [f"candidate_{number}" for number in range(given.candidates)], metric)
        for case in question.cases:  # reading is another matter: here the probabilities are made up
            question._read(case, truths[case.id])
        began = time.perf_counter()
        choice = choose(question)
        chosen = time.perf_counter() - began
        ensembling.cross_fit(
            question, partial(choose, question), lambda made, case: CaseScore(case=case.id, structures=())
        )
        seconds = round(time.perf_counter() - began, 2)
        scored = len(question.known)
        row = {"metric": metric, "seconds": round(chosen, 2), "with_honest_choices": seconds, "sums_scored": scored}
        rows.append({**row, "members": len(choice.members), "rounds": max(item.step for item in choice.candidates)})
    print(json.dumps(rows, indent=1))


def truth(file: Path, size: int) -> LabelMap:
    array, grid = read_volume(file)
    times = max(1, round(size / max(array.shape)))
    for axis in range(3):
        array = np.repeat(array, times, axis=axis)
    spacing = tuple(value / times for value in grid.spacing_mm)
    grid = grid.model_copy(update={"shape": array.shape, "spacing_mm": spacing})
    return LabelMap(np.where(array <= 2, array, 0).astype(np.uint8), grid)


def ask(truths: dict[str, LabelMap], names: list[str], metric: Metric) -> Question:
    cases = [HeldOut(id=case, group=case, fold=FOLDS[place % 5]) for place, case in enumerate(truths)]

    @lru_cache(maxsize=len(names))
    def probabilities(name: str, case: str) -> np.ndarray:
        drawn = truths[case].array
        rng = np.random.default_rng([int(name.rpartition("_")[2]), sum(case.encode())])
        moved = np.stack([ndimage.shift((drawn == value).astype(np.float32), rng.normal(0, 0.6, 3), order=1)
                          for value in range(3)])  # fmt: skip
        moved = ndimage.gaussian_filter(moved, (0, 1, 1, 1)) + 0.02
        return np.round(255 * moved / moved.sum(axis=0)).astype(np.uint8)

    return ensembling.ask(
        dict.fromkeys(names, FOLDS), cases, LABELS, probabilities=probabilities, truth=truths.__getitem__, metric=metric
    )


def choose(question: Question, rows: Sequence[int] | None = None) -> EnsembleChoice:
    return ensembling.choose(question, plan="default", rows=rows)


if __name__ == "__main__":
    main()
