"""What there is: data sets, plans, models, and the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from pathlib import Path

from autoseg import __version__
from autoseg.records.dataset import Dataset
from autoseg.records.errors import UserError
from autoseg.records.evaluation import Evaluation
from autoseg.records.model import ModelId
from autoseg.storage import read_record
from autoseg.workspace import Workspace

PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel", "blosc2", "scikit-image", "pandas", "pydantic")


def datasets(root: Path) -> list[dict[str, object]]:
    """Return a row for each data set below a workspace's root."""
    rows: list[dict[str, object]] = []
    for file in sorted(root.glob("*/dataset.json")):
        work = Workspace(file.parent)
        dataset = read_record(file, Dataset)
        plans = sorted(plan.parent.name for plan in work.folder.glob("plans/*/plan.json"))
        rows.append(
            {
                "data set": dataset.name,
                "cases": len(dataset.cases),
                "structures": len(dataset.labels.structures),
                "plans": ", ".join(plans) or "-",
                "models trained": len(work.trained()),
                "chosen": ", ".join(plan for plan in plans if (work.ensemble(plan) / "choice.json").exists()) or "-",
            }
        )
    return rows


def status(work: Workspace) -> list[dict[str, object]]:
    """Return a row for each model of a data set: those of every plan's line-up, and what was trained beside."""
    dataset = work.dataset()
    folds = [fold.name for fold in dataset.folds if fold.name != "all"] or ["all"]
    wanted: dict[str, ModelId] = {}
    for file in sorted(work.folder.glob("plans/*/plan.json")):
        plan = work.plan(file.parent.name)
        for entry in plan.lineup:
            for fold in folds:
                model = ModelId(dataset=work.name, plan=plan.name, configuration=entry.configuration, fold=fold)
                wanted[model.key()] = model
    wanted |= {model.key(): model for model in work.trained()}
    return [{"model": key, **_state(work, model)} for key, model in wanted.items()]


def _state(work: Workspace, model: ModelId) -> dict[str, object]:
    folder = work.model(model)
    if (folder / "evaluation.json").exists():
        score = read_record(folder / "evaluation.json", Evaluation).mean_dice()
        return {"state": "scored", "mean Dice": f"{score:.4f}"}
    if (folder / "model.json").exists():
        return {"state": "trained", "mean Dice": ""}
    if (folder / "lock").exists():
        return {"state": "running, or stopped hard", "mean Dice": ""}
    return {"state": "begun" if (folder / "run.json").exists() else "waiting", "mean Dice": ""}


def doctor(root: Path) -> dict[str, str]:
    """Return what this machine offers and what may be wrong with it, in words."""
    from autoseg.compute import devices
    from autoseg.compute.workers import processors

    rows = {"autoseg": __version__, "Python": platform.python_version(), "system": platform.platform()}
    rows |= {name: _version(name) for name in PACKAGES}
    try:
        profile = devices.find(calibrate=True)
        rows["device"] = f"{profile.name} ({profile.kind})"
        rows["memory a plan counts on"] = f"{profile.memory_gb:g} GB"
        rows["fast bfloat16"] = "yes" if profile.fast_bfloat16 else "no: float32 is used"
        rows["training speed"] = f"{profile.flops_per_second / 1e9:.0f} GFLOP/s"
    except UserError as error:
        rows["device"] = str(error)
    rows["cores"] = str(processors())
    rows["workspace"] = _workspace_words(root)
    return rows


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing: reinstall autoseg"


def _workspace_words(root: Path) -> str:
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    try:
        with tempfile.TemporaryFile(dir=place):
            return f"{root}: {free:.0f} GB free, can be written"
    except OSError as error:
        return f"{root}: cannot be written ({error.strerror}); choose another with --root"
