"""Size of a report with many structures and cases, seconds to write it, and seconds until Chromium has drawn it.

    python benchmarks/report_size.py --structures 30 --cases 40

Writes scans of balls with noise in nnU-Net's layout, imports and plans them, and lays two candidates of five folds
beside the plan whose predictions are the truth with every structure moved by up to two voxels: scored as ever, but
nothing is trained. What is measured is `autoseg report` on that. The page is opened in headless Chromium, where there
is one, with WebGL in software: the time is `performance.now()` in the first frame after the load event.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

from autoseg import __version__
from autoseg.images import store
from autoseg.pipeline import preparing, running
from autoseg.records.choice import EnsembleChoice
from autoseg.records.configuration import Configuration
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.records.labels import Labels
from autoseg.records.markers import StoredField
from autoseg.records.model import ModelId, RunRecord, TrainedModel
from autoseg.records.plan import Plan
from autoseg.records.requests import PlanRequest
from autoseg.records.volumes import LabelMap, Passage
from autoseg.stages import importing
from autoseg.stages.evaluating.truths import score_case, truth
from autoseg.stages.training import history
from autoseg.storage import write_record
from autoseg.workspace import Workspace

SHAPE, SPACING_MM = (72, 112, 112), (3.0, 2.0, 2.0)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CLOCK = (
    "<script>addEventListener('load', () => requestAnimationFrame(() => {"
    "document.title = 'drawn after ' + performance.now() + ' ms'; }));</script>"
)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--structures", type=int, default=30)
    words.add_argument("--cases", type=int, default=40)
    words.add_argument("--keep", type=Path, help="Folder to make and keep; a finished one is measured again.")
    given = words.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        work = Workspace(place / "workspace" / "Many")
        if not (work.ensemble("default") / "choice.json").exists():
            make(place, work, structures=given.structures, cases=given.cases)
        started = time.perf_counter()
        page = running.report(work)
        seconds = time.perf_counter() - started
        result = {
            "structures": given.structures,
            "cases": given.cases,
            "megabytes": round(page.stat().st_size / 1e6, 2),
            "seconds_to_write": round(seconds, 1),
            "seconds_to_draw": drawn_after(page, Path(folder)),
        }
    print(json.dumps(result, indent=1))


def make(place: Path, work: Workspace, *, structures: int, cases: int) -> None:
    """Write scans, plan, and what training and selection would have left behind."""
    write_scans(place / "raw", structures, cases)
    preparing.import_dataset(place / "raw", work, importing.ImportOptions())
    plan = preparing.make_plan(work, PlanRequest(presets=("smoke",)), workers=1)
    write_record(work.plan_file(plan.name), plan)
    pooled: list[CaseScore] = []
    for variant in ("base", "other"):
        for fold in work.dataset().folds:
            if fold.name != "all":
                configuration = plan.configurations[0]
                model = ModelId(dataset=work.name, plan=plan.name, configuration=configuration.name, variant=variant,
                                fold=fold.name)  # fmt: skip
                scores = leave_run(work, plan, model, fold.held_out)
                pooled += scores if variant == "base" else []
    member = model.model_copy(update={"variant": "base"}).candidate()
    evaluation = Evaluation(members=(member,), scores=tuple(pooled))
    folds = tuple(fold.name for fold in work.dataset().folds if fold.name != "all")
    choice = EnsembleChoice(plan=plan.name, members=(member,), weights=(1.0,), folds=folds,
                            mean_dice=evaluation.mean_dice())  # fmt: skip
    write_record(work.ensemble(plan.name) / "evaluation.json", evaluation)
    write_record(work.ensemble(plan.name) / "choice.json", choice)


def write_scans(folder: Path, structures: int, cases: int) -> None:
    """Write scans in nnU-Net's layout: balls of a grey value each, in places that differ a little from case to case."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    places = np.array([(z, y, x) for z in (14, 36, 58) for y in (14, 42, 70, 98) for x in (14, 42, 70, 98)])
    affine = np.diag([*SPACING_MM[::-1], 1.0])
    grid = np.indices(SHAPE, dtype=np.float32)
    for number in range(cases):
        rng = np.random.default_rng(number)
        labels = np.zeros(SHAPE, np.uint8)
        for value, (place, radius) in enumerate(zip(places[:structures], rng.uniform(8, 22, structures)), start=1):
            away = (grid - (place + rng.integers(-2, 3, 3))[:, None, None, None]) * np.reshape(SPACING_MM, (3, 1, 1, 1))
            labels[(away**2).sum(axis=0) < radius**2] = value
        image = (labels * 20 + rng.normal(100, 15, SHAPE)).astype(np.float32)
        for name, array in ((f"imagesTr/case_{number:02d}_0000", image), (f"labelsTr/case_{number:02d}", labels)):
            nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), folder / f"{name}.nii.gz")
    names = {"background": 0} | {f"structure_{value:02d}": value for value in range(1, structures + 1)}
    content = {"channel_names": {"0": "MR"}, "labels": names, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))


def leave_run(work: Workspace, plan: Plan, model: ModelId, held_out: tuple[str, ...]) -> list[CaseScore]:
    """Write the files of one finished run, and return the scores of its held-out cases."""
    folder, dataset, configuration = work.model(model), work.dataset(), plan.configuration(model.configuration)
    scores = []
    for id in held_out:
        found = moved(truth(dataset, dataset.case(id)), f"{model.variant} {id}")
        scores.append(score_case(dataset, dataset.case(id), found))
        if model.variant == "base":
            keep_field(folder / "held_out", id, found, plan.labels)
    write_record(folder / "evaluation.json", Evaluation(members=(model.key(),), scores=tuple(scores)))
    write_record(folder / "run.json", run_record(model, configuration, plan.labels))
    for epoch in range(1, 101):
        line = history.Epoch(epoch=epoch, step=250 * epoch, loss=1 / epoch, rate=0.01 * (1 - epoch / 101), seconds=30,
                             wait_fraction=0.0, samples=500 * epoch, dice=1 - 1 / epoch)  # fmt: skip
        history.append(folder, line)
    write_record(
        folder / "model.json",
        TrainedModel(model=model, plan_digest=plan.digest(), weights_sha256="0" * 64, steps=25000, seconds=3000.0,
                     configuration=configuration, version=__version__),
    )  # fmt: skip
    return scores


def moved(truth_map: LabelMap, key: str) -> LabelMap:
    """Return the truth with every structure moved by up to two voxels along each axis."""
    rng = np.random.default_rng(list(key.encode()))
    array = np.zeros_like(truth_map.array)
    for value in np.unique(truth_map.array[truth_map.array > 0]):
        array[np.roll(truth_map.array == value, rng.integers(-2, 3, 3), (0, 1, 2))] = value
    return LabelMap(array, truth_map.grid)


def keep_field(folder: Path, id: str, found: LabelMap, labels: Labels) -> None:
    """Keep a label map as the probabilities that a model is sure of."""
    from autoseg.images import orientation
    from autoseg.records.geometry import Box

    oriented = orientation.orient_grid(found.grid)
    array = orientation.orient(found.array, found.grid)[0]
    way = Passage(original=found.grid, oriented=oriented, crop=Box(start=(0, 0, 0), stop=oriented.shape),
                  network=oriented)  # fmt: skip
    sure = np.stack([array == value for value in range(labels.output_channels)]).astype(np.float32)
    store.write_probabilities(folder / f"{id}.b2nd", sure)
    write_record(folder / f"{id}.json", StoredField(case=id, member="made", passage=way, inputs_digest="", seconds=1.0))


def run_record(model: ModelId, configuration: Configuration, labels: Labels) -> RunRecord:
    return RunRecord(model=model, configuration_digest=configuration.digest(), configuration=configuration,
                     labels=labels, cases_digest="", steps=25000, batch_size=configuration.batch_size,
                     precision="float32", memory_format="contiguous", compiled=False, threads=1, step_seconds=0.1,
                     torch_version="none", version=__version__)  # fmt: skip


def drawn_after(page: Path, folder: Path) -> float | str:
    """Return seconds until the first frame after loading, or in words why nobody measured them."""
    if CHROMIUM is None:
        return "no Chromium here"
    timed = folder / "timed.html"
    timed.write_text(page.read_text().replace("</head>", f"{CLOCK}</head>", 1))
    flags = ("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    command = [CHROMIUM, *flags, "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    end = subprocess.run([*command, timed.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r"drawn after ([\d.]+) ms", end.stdout)
    if found is None or "Uncaught" in end.stderr:
        return f"failed: {end.stderr[-300:]}"
    return round(float(found[1]) / 1000, 2)


if __name__ == "__main__":
    main()
