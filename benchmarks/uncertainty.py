"""Does autoseg know how good it is? Hippocampus, nested: predicted Dice and unlike scans on heads that took no part.

    python benchmarks/uncertainty.py --folder /tmp/uncertainty --data ../shared/data/Task04_Hippocampus

The heads are dealt to three parts. Each part in turn is locked away; three folds of a narrow U-Net are trained on the
others (`presets/unet_quick.toml`), an ensemble is chosen, and with it everything that tells doubt; all of it is packed
into a model file. With that file alone the part's scans are predicted, as they are and spoilt (`spoiling.py`). Stopped
at any time, the same command goes on. `--parts 1` does the first part only.

- coverage: share of true Dice inside the 90 % interval, scans as they are;
- spearman: of predicted and true Dice, scans as they are; `with spoilt` ranks spoilt copies beside them;
- auroc: of unlikeness, spoilt scans against the same scans as they are; `flagged`: share above the limit.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import spoiling
from scipy.stats import spearmanr

from autoseg import Predictor
from autoseg.console import progress, start_logging
from autoseg.images.cases import read_image
from autoseg.overview import doctor
from autoseg.pipeline import choosing, exporting, preparing, training
from autoseg.records.dataset import Dataset
from autoseg.records.requests import ExportRequest, PlanRequest, TrainRequest
from autoseg.records.volumes import LabelMap
from autoseg.stages import importing
from autoseg.stages.evaluating.truths import score_case
from autoseg.workspace import Workspace

GROUPS = "(id+1)//2"
PARTS = 3
FOLDS = 3
PRESET = Path(__file__).parent / "presets" / "unet_quick.toml"
AS_IT_IS = "as it is"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--folder", type=Path, required=True)
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--parts", type=int, default=PARTS, help="do the first so many parts")
    words.add_argument("--folds", type=int, default=FOLDS, help="train the first so many folds")
    given = words.parse_args()
    start_logging(debug=False)
    found = [row for part in range(given.parts) for row in judged(given.folder, given.data, part, folds=given.folds)]
    print(json.dumps({**summary(found), "machine": doctor(given.folder)}, indent=1))


def judged(folder: Path, data: Path, part: int, *, folds: int) -> list[dict[str, Any]]:
    """Return what a model says of every scan of the part that it never saw, and the truth; each is kept once known."""
    work = prepared(folder, data, part)
    with progress(silent=False) as tell:
        training.train(work, TrainRequest(folds=tuple(map(str, range(folds)))), tell=tell)
        model = folder / f"part{part}_{folds}.zip"
        if not model.exists():
            choosing.ensemble(work, tell=tell)
            exporting.export(work, ExportRequest(output=model), tell=tell)
    predictor = Predictor.load(model, device="cpu")
    kept = folder / f"part{part}_{predictor.digest[:16]}.jsonl"
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(row["case"], row["way"]) for row in known}
    with kept.open("a") as stream:
        for row in predicted(predictor, work.dataset(), done):
            stream.write(json.dumps({"part": part, **row}) + "\n")
            stream.flush()
            known.append({"part": part, **row})
    return known


def prepared(folder: Path, data: Path, part: int) -> Workspace:
    """Import with one part of the heads locked away, plan, and preprocess, unless that was done."""
    work = Workspace.locate(f"Part{part}", folder)
    if not work.dataset_file.exists():
        ids = sorted(file.name.removesuffix(".nii.gz") for file in (data / "labelsTr").glob("[!.]*.nii.gz"))
        locked = tuple(id for id in ids if (int(re.findall(r"\d+", id)[-1]) + 1) // 2 % PARTS == part)
        options = importing.ImportOptions(groups=GROUPS, test_cases=locked, folds=FOLDS)
        preparing.import_dataset(data, work, options)
    if not work.plan_file("default").exists():
        preparing.plan_and_preprocess(work, PlanRequest(presets=(str(PRESET),)), workers=1)
    return work


def predicted(predictor: Predictor, dataset: Dataset, done: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield what the model says of each locked case in each way that is not done yet."""
    cases = dataset.test_cases
    # Scans as they are come first, then each in every way: a run that is stopped leaves all ways equally often.
    pairs = [(case, AS_IT_IS) for case in cases] + [(case, way) for case in cases for way in spoiling.WAYS]
    for case, way in pairs:
        if (case.id, way) in done:
            continue
        image = read_image(case.images, dataset.channels, dataset.corrections, case=case.id)
        scan = image if way == AS_IT_IS else spoiling.spoilt(way, image, case.id)
        found = predictor.predict_image(scan, case=case.id, uncertainty=True)
        assert found.unlikeness is not None
        assert found.doubt is not None
        array = found.labels.array
        if way.startswith("flipped"):  # back onto the truth
            array = np.flip(array, "zyx".index(way[-1]))
        truth = score_case(dataset, case, LabelMap(np.ascontiguousarray(array), image.grid))
        yield {
            "case": case.id,
            "way": way,
            "true": {item.structure: item.dice for item in truth.structures},
            "predicted": {item.structure: [item.low, item.dice, item.high] for item in found.quality},
            "unlikeness": found.unlikeness.unlikeness / found.unlikeness.limit,
            "aspects": {item.name: item.unlikeness for item in found.unlikeness.aspects},
            "signs": found.doubt.signs.tolist(),
        }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return every figure; over all parts together, and Spearman within each part as well."""
    clean = [row for row in rows if row["way"] == AS_IT_IS]
    structures = sorted(clean[0]["true"])
    usual = [row["unlikeness"] for row in clean]
    result: dict[str, Any] = {"cases": len(clean), "parts": sorted({row["part"] for row in rows})}
    for name in structures:
        result[name] = {
            "dice": rounded(np.mean([row["true"][name] for row in clean])),
            "coverage": rounded(np.mean([inside(row, name) for row in clean])),
            "mean width of the interval": rounded(
                np.mean([row["predicted"][name][2] - row["predicted"][name][0] for row in clean])
            ),
            "spearman": ranks(clean, name),
            "spearman by part": [
                ranks([row for row in clean if row["part"] == part], name) for part in result["parts"]
            ],
            "spearman with spoilt": ranks(rows, name),
        }
    result["coverage"] = rounded(np.mean([inside(row, name) for row in clean for name in structures]))
    result["spearman of the mean over structures"] = mean_ranks(clean)
    result["flagged as it is"] = rounded(np.mean(np.array(usual) > 1))
    for way in spoiling.WAYS:
        odd = [row["unlikeness"] for row in rows if row["way"] == way]
        dice = [value for row in rows if row["way"] == way for value in row["true"].values()]
        flagged = np.mean(np.array(odd) > 1)
        result[way] = {"auroc": auroc(usual, odd), "flagged": rounded(flagged), "dice": rounded(np.mean(dice))}
    return result


def inside(row: dict[str, Any], name: str) -> bool:
    """Return whether the interval holds the true Dice."""
    low, _, high = row["predicted"][name]
    return bool(low <= row["true"][name] <= high)


def ranks(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Return Spearman's correlation of predicted and true Dice of a structure."""
    return rounded(
        spearmanr([row["predicted"][name][1] for row in rows], [row["true"][name] for row in rows]).statistic
    )


def mean_ranks(rows: Sequence[dict[str, Any]]) -> float:
    """Return the same of the means over structures, a scan each."""
    said = [np.mean([found[1] for found in row["predicted"].values()]) for row in rows]
    return rounded(spearmanr(said, [np.mean(list(row["true"].values())) for row in rows]).statistic)


def auroc(usual: Sequence[float], odd: Sequence[float]) -> float:
    """Return the chance that an odd scan lies farther out than a usual one."""
    first, second = np.array(usual)[:, None], np.array(odd)[None]
    return rounded((second > first).mean() + 0.5 * (second == first).mean())


def rounded(value: Any) -> float:
    """Return four digits."""
    return round(float(value), 4)


if __name__ == "__main__":
    main()
