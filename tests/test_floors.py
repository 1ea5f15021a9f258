"""Imports point down: the floors of CONTRIBUTING.md, lazy imports included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "autoseg"
STAGES = (
    "importing",
    "checking",
    "exploring",
    "fingerprinting",
    "planning",
    "preprocessing",
    "training",
    "predicting",
    "evaluating",
    "ensembling",
    "reporting",
    "exporting",
)
FLOOR_0 = ("records", "storage", "locks", "workspace")
FLOOR_1 = ("images", "networks", "compute")
FORBIDDEN_ON_FLOOR_0 = {"torch", "SimpleITK", "pandas", "nibabel", "scipy"}
FORBIDDEN_WORDS = (
    "import pickle",
    "import shelve",
    "import marshal",
    "zipfile",
    "tarfile",
    "yaml.load",
    "shell=True",
    "extractall",
    "weights_only=False",
    "allow_pickle=True",
)
ARCHIVES = ROOT / "compute" / "archives.py"  # the one room that opens archives, and judges them first
ALLOWED_WORDS = {ARCHIVES: ("zipfile", "tarfile")}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).with_suffix("").parts


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def allowed(importer: tuple[str, ...], imported: tuple[str, ...]) -> bool:
    """Whether a module of autoseg may import another one."""
    if not imported or imported[0].startswith("__"):
        return True
    if imported[0] in FLOOR_0:
        return importer[0] != "records" or imported[0] == "records"
    if importer[0] in FLOOR_0:
        return False
    if importer[0] in FLOOR_1:
        return imported[0] == importer[0]
    if importer[0] == "phantom":
        return imported[0] == "images"
    if importer[0] == "stages":
        if imported[0] in FLOOR_1:
            return True
        if imported[0] != "stages" or len(imported) < 2 or len(importer) < 2:
            return imported[0] == "stages"
        return STAGES.index(imported[1]) <= STAGES.index(importer[1])
    if importer[0] in {"pipeline", "overview", "upkeep", "demo", "serving"}:
        return imported[0] not in {"cli", "commands", "console", "views", "score_views", "words"}
    if importer[0] in {"commands", "console", "views", "score_views", "words"}:
        return imported[0] != "cli"
    return True


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(room(path)))
def test_imports_point_down(path: Path) -> None:
    importer = room(path)
    if importer == ("__init__",):
        return
    for name in imports(path):
        if name == "autoseg" or name.startswith("autoseg."):
            imported = tuple(name.split(".")[1:])
            assert allowed(importer, imported), f"{'/'.join(importer)} may not import {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p)[0] in FLOOR_0], ids=str)
def test_the_ground_floor_is_light(path: Path) -> None:
    heavy = {name.split(".")[0] for name in imports(path)} & FORBIDDEN_ON_FLOOR_0
    assert not heavy


def test_the_rule_can_fail() -> None:
    assert not allowed(("images", "files"), ("networks", "unet"))
    assert not allowed(("stages", "planning", "rules"), ("stages", "training", "loop"))
    assert not allowed(("records", "plan"), ("workspace",))
    assert allowed(("stages", "training", "loop"), ("stages", "preprocessing"))


def test_every_stage_is_known() -> None:
    there = {path.stem if path.is_file() else path.name for path in (ROOT / "stages").iterdir()}
    assert there - {"__init__", "__pycache__"} <= set(STAGES)


def test_files_hold_data_not_code() -> None:
    """F84 to F86: nothing is unpickled, evaluated or unpacked, whatever a file says."""
    for path in modules():
        text = path.read_text()
        for word in FORBIDDEN_WORDS:
            assert word not in text or word in ALLOWED_WORDS.get(path, ()), f"{path}: {word}"
        calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__"}, path
