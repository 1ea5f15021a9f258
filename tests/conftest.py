"""What every test may use: the folder of real data, and a small data set that went all the way once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is loaded: the threads of several processes would wait for one another, so each has its own core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)]})

REAL_DATA = Path(os.environ.get("AUTOSEG_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data in {REAL_DATA}; set AUTOSEG_TEST_DATA to its folder")
    return REAL_DATA


@dataclass(frozen=True)
class WholeWay:
    """A tiny data set `Knot` that was imported, checked, planned, trained and ensembled by typed commands.

    Attributes:
        root: The workspace's root; a test that changes something copies it.
        raw: The data set in nnU-Net's layout; values 0, 1, 5; never changed.
        said: Command -> what it printed.
    """

    root: Path
    raw: Path
    said: dict[str, str]

    @property
    def folder(self) -> Path:
        return self.root / "Knot"


def measure_little(patch: pytest.MonkeyPatch) -> None:
    """Spare the trials before a training: only a budget needs the pace measured well."""
    from autoseg.stages.training import resolve

    patch.setattr(resolve, "PACE_STEPS", (1, 1))
    patch.setattr(resolve, "FORMATS", ("contiguous",))


@pytest.fixture(scope="session")
def whole_way(tmp_path_factory: pytest.TempPathFactory) -> WholeWay:
    """Type every command from import to ensemble once, with the preset `smoke`; some ten seconds.

    Where pytest runs in several processes, the first that asks makes it, the others wait, and each works on a copy.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    place.mkdir(exist_ok=True)
    raw, said = place / "raw", place / "said.json"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.write_text(json.dumps(go_the_whole_way(place / "workspace", raw)))
    root = tmp_path_factory.mktemp("whole_way") / "workspace"
    shutil.copytree(place / "workspace", root)
    return WholeWay(root, raw, json.loads(said.read_text()))


def go_the_whole_way(root: Path, raw: Path) -> dict[str, str]:
    """Make the data set, type the commands and return what each printed."""
    from tests.command_line import done
    from tests.faults import builders

    builders.healthy(raw, cases=4)
    for case in builders.CASES[:4]:
        path = builders.label_file(raw, case)
        builders.save(path, builders.np.array([0, 1, 5], "uint8")[builders.load(path)])
    builders.write_json(raw, labels={"background": 0, "core": 1, "rim": 5}, numTraining=4)
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        for words in (
            ("import", raw, "--as", "Knot", "--folds", 2),
            ("check", "-d", "Knot", "--workers", 1),
            ("plan_and_preprocess", "-d", "Knot", "--preset", "smoke", "--workers", 1),
            ("train", "-d", "Knot", "-f", "0..1"),
            ("ensemble", "-d", "Knot"),
        ):
            said[str(words[0])] = done(*words, "--root", root).said
    return said
