"""What holds for whole runs: stopped at any point they end the same, and the same input gives the same plan."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoseg import upkeep
from autoseg.pipeline import preparing, running
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.plan import Plan
from autoseg.records.requests import PlanRequest, TrainRequest
from autoseg.stages import planning
from autoseg.stages.training import runs
from autoseg.workspace import Workspace
from tests.command_line import child, done, environment, typed
from tests.conftest import WholeWay, measure_little

# Every crash is a fork of one process that has loaded everything, so that each costs seconds less.
CRASHES = """
import json, os, shutil, sys
from pathlib import Path

from autoseg import cli
import matplotlib.backends.backend_agg, matplotlib.figure
import autoseg.pipeline.running
from autoseg.compute import workers
from autoseg.stages.training import loop, resolve

workers.default_workers = lambda items: 1  # all in one process, so that every file counts
resolve.PACE_STEPS, resolve.FORMATS, loop.CHECKPOINT_SECONDS = (1, 1), ("contiguous",), 0.0
start, scratch, points = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])


def forked(root, point=None):
    \"\"\"Train in a fork that dies before its `point`-th file gets its name; return (exit code, files).\"\"\"
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with os.fdopen(reader) as stream:
            names = stream.read().split()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), names
    real, count = os.replace, 0

    def replace(source, target):
        nonlocal count
        count += 1
        if count == point:
            os._exit(77)
        os.write(writer, (os.path.basename(target) + chr(10)).encode())
        real(source, target)

    os.replace = replace
    sys.argv = ["autoseg", "train", "-d", "Knot", "--root", str(root), "-c", "smoke_2d", "-f", "0"]
    code = 99
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stderr.flush()
        os._exit(code)


result = {"unbroken": forked(start), "crashes": []}
for point in points:
    place = scratch / str(point)
    shutil.copytree(start.parent / "before", place)
    result["crashes"].append([point, forked(place, point)[0], forked(place)[0]])
print(json.dumps(result))
"""

# 4 cases of 4 files are preprocessed; then come run.json, checkpoints, and what a finished run leaves.
FEW = (3, 20)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


def before_training(whole_way: WholeWay, folder: Path) -> Path:
    """Copy the workspace as it was before anything was preprocessed."""
    shutil.copytree(whole_way.root, folder)
    for name in ("preprocessed", "models", "ensemble", "report"):
        shutil.rmtree(folder / "Knot" / name, ignore_errors=True)
    return folder


def results(root: Path) -> dict[str, str]:
    """Return the hashes of everything that must not depend on a crash."""
    names = ("*.b2nd", "*.npz", "model.safetensors", "scores.csv")
    files = [path for name in names for path in (root / "Knot").rglob(name)]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def crash_everywhere(whole_way: WholeWay, folder: Path, points: tuple[int, ...]) -> list[str]:
    before_training(whole_way, folder / "before")
    shutil.copytree(folder / "before", folder / "unbroken")
    outcome = child(CRASHES, folder / "unbroken", folder, json.dumps(points), limit=280)
    assert outcome.code == 0, outcome.said
    found = json.loads(outcome.out.splitlines()[-1])
    code, names = found["unbroken"]
    assert code == 0, outcome.err
    wanted = results(folder / "unbroken")
    assert len([name for name in wanted if name.endswith("model.safetensors")]) == 1
    assert [row[1:] for row in found["crashes"]] == [[77, 0]] * len(points), outcome.said
    for point in points:
        assert results(folder / str(point)) == wanted, f"crash before file {point}, {names[point - 1]}"
        left = [path.name for path in (folder / str(point)).rglob(".tmp-*")]
        assert not left, f"crash before file {point} left {left}"
    return list(names)


def test_f56_f63_a_crash_anywhere_changes_nothing(whole_way: WholeWay, tmp_path: Path) -> None:
    names = crash_everywhere(whole_way, tmp_path, FEW)
    assert names[:4] == ["MR_1.image.b2nd", "MR_1.labels.b2nd", "MR_1.positions.npz", "MR_1.json"]
    assert names[16] == "run.json"
    assert "checkpoint.b.safetensors" in names[17:20]
    assert names[-1] == "evaluation.json"
    assert len(names) > max(FEW)


@pytest.mark.slow
def test_a_crash_at_every_single_file(whole_way: WholeWay, tmp_path: Path) -> None:
    crash_everywhere(whole_way, tmp_path, tuple(range(1, 32)))


class TestInterruption:
    def test_f75_ctrl_c_and_on_from_there(self, whole_way: WholeWay, tmp_path: Path) -> None:
        shutil.copytree(whole_way.root, tmp_path / "w")
        words = ["train", "-d", "Knot", "--root", str(tmp_path / "w"), "-c", "smoke_2d", "-f", "0"]
        words += ["--variant", "long", "--set", "steps_per_epoch=80"]
        process = subprocess.Popen(
            [sys.executable, "-m", "autoseg", *words],
            env=environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if " step " in line and "/80" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, "".join(seen) + err
        assert "stopped; the same command goes on from here" in out + err
        assert "Traceback" not in out + err
        folder = tmp_path / "w/Knot/models/default/smoke_2d/long_s0/fold_0"
        assert not (folder / "model.json").exists()
        assert not (folder / "lock").exists()
        assert "resuming after step " in done(*words).err
        assert (folder / "evaluation.json").exists()

    @pytest.mark.parametrize("more", [(), ("--json",)])
    def test_any_command_says_the_same(
        self, whole_way: WholeWay, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
    ) -> None:
        def stopped(*args: object, **named: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(preparing, "check", stopped)
        outcome = typed("check", "-d", "Knot", "--root", whole_way.root, *more)
        assert outcome.code == 130
        assert outcome.err.strip() == "stopped; the same command goes on from here"
        assert outcome.out == ""


class TestDeterminism:
    """F92: hash seed, locale, umask and clock leave no trace in a plan."""

    PROGRAM = """
import os, sys
from pathlib import Path
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.plan import Plan
from autoseg.stages import planning
os.umask(0o077)
old = Plan.parse(Path(sys.argv[1]).read_bytes(), file="")
fingerprint = Fingerprint.parse(Path(sys.argv[2]).read_bytes(), file="")
made = planning.make_plan(fingerprint, [planning.load_preset("smoke")], old.device, name="default",
                          corrections=old.corrections, folds=2, version="1")
sys.stdout.write(made.to_json())
"""

    def here(self, folder: Path) -> Plan:
        old = Plan.parse((folder / "plans/default/plan.json").read_bytes(), file="")
        fingerprint = Fingerprint.parse((folder / "fingerprint.json").read_bytes(), file="")
        presets = [planning.load_preset("smoke")]
        return planning.make_plan(
            fingerprint, presets, old.device, name="default", corrections=old.corrections, folds=2, version="1"
        )

    @pytest.mark.parametrize(
        "surroundings",
        [
            {"PYTHONHASHSEED": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu"},
            pytest.param({"PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8"}, marks=pytest.mark.slow),
        ],
    )
    def test_the_same_bytes_in_another_process(self, whole_way: WholeWay, surroundings: dict[str, str]) -> None:
        folder = whole_way.folder
        outcome = child(
            self.PROGRAM, folder / "plans/default/plan.json", folder / "fingerprint.json", more=surroundings
        )
        assert outcome.code == 0, outcome.err
        assert outcome.out == self.here(folder).to_json()

    def test_the_fingerprint_too(self, whole_way: WholeWay, tmp_path: Path) -> None:
        """Measured again by two processes instead of one."""
        shutil.copytree(whole_way.root, tmp_path / "w")
        work = Workspace.locate("Knot", tmp_path / "w")
        wanted = work.fingerprint_file.read_bytes()
        work.fingerprint_file.unlink()
        preparing.make_plan(work, PlanRequest(presets=("smoke",)), workers=1)
        assert work.fingerprint_file.read_bytes() == wanted


class TestModels:
    def test_configurations_are_the_outer_loop(self, whole_way: WholeWay) -> None:
        work = Workspace.locate("Knot", whole_way.root)
        keys = [model.key() for model in runs.models(work.dataset(), work.plan(), TrainRequest())]
        assert [key.split("/")[1] + key[-1] for key in keys] == ["smoke_3d0", "smoke_3d1", "smoke_2d0", "smoke_2d1"]

    def test_a_budget_is_shared_by_the_lineup(self, whole_way: WholeWay) -> None:
        work = Workspace.locate("Knot", whole_way.root)
        wanted = runs.models(work.dataset(), work.plan(), TrainRequest())
        budgets = [runs.budget_seconds(work.plan(), m.configuration, wanted, 10.0) for m in wanted]
        assert all(budgets)
        assert sum(filter(None, budgets)) == pytest.approx(0.9 * 600)
        assert runs.budget_seconds(work.plan(), "smoke_2d", wanted, None) is None

    def test_long_predictions_get_more_of_a_budget(self, whole_way: WholeWay) -> None:
        work = Workspace.locate("Knot", whole_way.root)
        wanted = runs.models(work.dataset(), work.plan(), TrainRequest())

        def trained(seconds: float) -> float:
            held_out = {model.configuration: seconds for model in wanted}
            found = [
                runs.budget_seconds(work.plan(), m.configuration, wanted, 10.0, held_out_seconds=held_out)
                for m in wanted
            ]
            return sum(filter(None, found))

        assert trained(1.0) == pytest.approx(0.9 * 600)
        assert trained(30.0) == pytest.approx(600 - 4 * 30 - 0.05 * 600)
        assert trained(1000.0) == pytest.approx(300), "half of it at least is for training"

    def test_what_run_would_do(self, whole_way: WholeWay, tmp_path: Path) -> None:
        before_training(whole_way, tmp_path / "w")
        steps = running.steps_left(Workspace.locate("Knot", tmp_path / "w"), PlanRequest())
        assert steps[0] == "train default/smoke_3d/base_s0/fold_0"
        assert steps[-2:] == ["choose the ensemble", "report"]


class TestChanges:
    def test_a_file_that_is_newer_than_a_record(self, whole_way: WholeWay, tmp_path: Path) -> None:
        dataset = Workspace.locate("Knot", whole_way.root).dataset()
        record = tmp_path / "record.json"
        record.write_text("{}")
        assert not upkeep.changed_since(dataset, record)
        os.utime(record, (time.time() - 86400,) * 2)
        assert upkeep.changed_since(dataset, record)
