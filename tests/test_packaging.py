"""What an installation holds, and that the package finds it there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from autoseg import workspace
from autoseg.records.errors import ResourceError
from autoseg.workspace import plans_folder
from tests.command_line import REPOSITORY, environment

NEEDED = (
    "autoseg/cli.py",
    "autoseg/plans/presets/unet.toml",
    "autoseg/plans/presets/smoke.toml",
    "autoseg/plans/README.md",
    "autoseg/stages/reporting/page.html.j2",
    "autoseg/stages/planning/making.py",
)


def pretend(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    package.mkdir(parents=True)
    monkeypatch.setattr(workspace, "__file__", str(package / "workspace.py"))


def test_presets_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path / "site-packages" / "autoseg")
    (tmp_path / "site-packages/autoseg/plans/presets").mkdir(parents=True)
    assert plans_folder() == tmp_path / "site-packages/autoseg/plans"


def test_presets_beside_the_package_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path / "checkout" / "autoseg")
    (tmp_path / "checkout/plans/presets").mkdir(parents=True)
    assert plans_folder() == tmp_path / "checkout/plans"


def test_an_installation_without_presets_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path / "autoseg")
    with pytest.raises(ResourceError, match=r"the presets are missing from the installation\. Reinstall autoseg\."):
        plans_folder()


@pytest.mark.slow
def test_a_wheel_holds_the_presets_and_the_page(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("autoseg", "plans"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, source)
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        tmp_path,
        source,
    ]
    built = subprocess.run(words, capture_output=True, text=True, env=environment())
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("autoseg-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert not set(NEEDED) - names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "plans/"))]
    program = "from autoseg.stages import planning; print(planning.load_preset('unet').name)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(PYTHONPATH=str(tmp_path / "installed")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "unet", ran.stderr
