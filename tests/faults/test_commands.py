"""Faults as a person meets them, command by command: exit code, one sentence, nothing half written (FAULTS.md)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from autoseg.networks import weights
from autoseg.records.choice import EnsembleChoice
from autoseg.records.dataset import Channel
from autoseg.records.model import TrainedModel
from autoseg.records.plan import Plan
from tests.command_line import done, listing, refused, typed
from tests.conftest import WholeWay, measure_little
from tests.faults import builders

CHECKED = [name for name in builders.FAULTS if not name.startswith(("f44", "f48", "f50"))]
TRAINED = "models/default/smoke_2d/base_s0/fold_0"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.healthy(tmp_path_factory.mktemp("healthy") / "raw")


@pytest.fixture
def own(whole_way: WholeWay, tmp_path: Path) -> Path:
    """A workspace of its own that may be damaged; returns the data set's folder."""
    shutil.copytree(whole_way.root, tmp_path / "own")
    return tmp_path / "own" / "Knot"


def predicting(folder: Path, source: Path, output: Path, *more: object) -> tuple[object, ...]:
    at = ("predict", "-d", "Knot", "--root", folder.parent, "-i", source, "-o", output)
    return (*at, "--no-mirror", "--step", 1.0, *more)


class TestImportAndCheck:
    @pytest.mark.parametrize("name", CHECKED)
    def test_rows_that_check_finds(self, raw: Path, tmp_path: Path, name: str) -> None:
        """The case is named with its file and a fix, and no other case is blamed."""
        source = builders.copy(raw, tmp_path / "raw")
        fault = builders.FAULTS[name](source)
        before = listing_of_data(source)
        imported = typed("import", source, "--as", "D", "--root", tmp_path / "w")
        assert "Traceback" not in imported.said
        if imported.code:  # named by the import already
            assert not fault.handled
            assert imported.code == 3
            assert str(fault.case) in imported.err
            assert "Add the files, or leave these cases out with --skip." in imported.err
            assert name == "f04_missing_file"
            assert not (tmp_path / "w" / "D").exists()
            return
        outcome = typed("check", "-d", "D", "--root", tmp_path / "w", "--workers", 1, "--json")
        errors = [item for item in outcome.json()["problems"] if item["severity"] == "error"]
        if fault.handled:
            assert (outcome.code, errors) == (0, [])
        else:
            assert outcome.code == 3
            assert {item["case"] for item in errors} == {fault.case}
            assert any(fault.file and fault.file.name in str(item["file"]) for item in errors)
            assert all(item["fix"] for item in errors)
            assert_named(" ".join(f"{item['file']} {item['what']} {item['fix']}" for item in errors), fault)
        assert listing_of_data(source) == before, "the originals were changed"

    def test_the_table_says_it_too_and_the_others_are_left_in_peace(self, raw: Path, tmp_path: Path) -> None:
        source = builders.copy(raw, tmp_path / "raw")
        builders.f01_truncated(source)
        at = ("-d", "D", "--root", tmp_path / "w")
        done("import", source, "--as", "D", *at[2:])
        outcome = typed("check", *at, "--workers", 1)
        assert outcome.code == 3
        assert "MR_3" in outcome.out
        assert "Copy it again" in outcome.out
        assert "MR_2" not in outcome.out
        message = refused("run", *at, "--preset", "smoke", "--workers", 1, code=3)
        assert "MR_3_0000.nii.gz" in message
        assert "autoseg check -d D" in message
        assert not (tmp_path / "w/D/plans").exists()
        done("import", source, "--as", "D", *at[2:], "--skip", "MR_3")
        done("check", *at, "--workers", 1)

    def test_f44_images_without_a_channel_number(self, raw: Path, tmp_path: Path) -> None:
        source = builders.copy(raw, tmp_path / "raw")
        builders.f44_no_channel_number(source)
        cases = done("import", source, "--as", "D", "--root", tmp_path / "w", "--json").json()["cases"]
        assert [case["id"] for case in cases] == list(builders.CASES)
        done("check", "-d", "D", "--root", tmp_path / "w", "--workers", 1)

    @pytest.mark.parametrize("name", [name for name in builders.FAULTS if name.startswith(("f48", "f50"))])
    def test_rows_that_the_import_refuses(self, raw: Path, tmp_path: Path, name: str) -> None:
        source = builders.copy(raw, tmp_path / "raw")
        fault = builders.FAULTS[name](source)
        message = refused("import", source, "--as", "D", "--root", tmp_path / "w", code=3)
        assert_named(message, fault)
        assert not (tmp_path / "w").exists()

    def test_f19_two_names_with_one_value(self, raw: Path, tmp_path: Path) -> None:
        source = builders.copy(raw, tmp_path / "raw")
        builders.write_json(source, labels={"background": 0, "core": 1, "rim": 1})
        message = refused("import", source, "--as", "D", "--root", tmp_path / "w", code=3)
        assert "'core' and 'rim' share the value 1" in message
        assert "dataset.json" in message

    def test_f20_decathlon_style_labels(self, raw: Path, tmp_path: Path) -> None:
        source = builders.copy(raw, tmp_path / "raw")
        builders.write_json(source, labels={"0": "background", "1": "core", "2": "rim"})
        assert "structures: core, rim" in done("import", source, "--as", "D", "--root", tmp_path / "w").out

    def test_f90_names_neither_steer_the_terminal_nor_the_report(self, own: Path) -> None:
        name = "core\x1b[31m<script>alert(1)</script>[bold]"
        for file in own.rglob("*.json"):
            text = file.read_text()
            if '"core"' in text:
                file.write_text(text.replace('"core"', json.dumps(name)))
        at = ("-d", "Knot", "--root", own.parent)
        done("report", *at)
        page = (own / "report/default/report.html").read_text()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "\x1b" not in page
        for words in (("explain",), ("status",), ("check", "--workers", 1)):
            said = typed(*words, *at).said
            assert "\x1b" not in said


def assert_named(text: str, fault: builders.FaultCase) -> None:
    """The file's name and each word that must be said."""
    if fault.file is not None:
        assert fault.file.name in text or (fault.case is not None and fault.case in text)
    for word in fault.words:
        assert word in text, f"{word!r} is not in {text!r}"


def listing_of_data(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


class TestPredict:
    def scans(self, folder: Path, count: int = 3) -> Path:
        folder.mkdir()
        for number in range(1, count + 1):
            builders.save(folder / f"s{number}.nii.gz", builders.scan(number)[0])
        return folder

    def test_f45_one_bad_scan_among_many(self, whole_way: WholeWay, tmp_path: Path) -> None:
        scans = self.scans(tmp_path / "scans")
        bad = scans / "s2.nii.gz"
        bad.write_bytes(bad.read_bytes()[:2000])
        outcome = typed(*predicting(whole_way.folder, scans, tmp_path / "out"))
        assert outcome.code == 4
        assert "autoseg: 1 of 3 scans could not be predicted" in outcome.err
        assert f"  s2: {bad}" in outcome.err
        assert "Copy it again" in outcome.err
        assert "Traceback" not in outcome.err
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s1.nii.gz", "s3.nii.gz"]
        again = typed(*predicting(whole_way.folder, scans, tmp_path / "out", "--json")).json()
        assert [(item["case"], item["file"]) for item in again["failures"]] == [("s2", str(bad))]

    def test_f46_a_channel_is_missing_in_some_scans(self, own: Path, tmp_path: Path) -> None:
        file = own / "plans/default/plan.json"
        plan = Plan.parse(file.read_bytes(), file="")
        two = (*plan.channels, Channel(name="CT", kind="ct"))
        file.write_text(plan.model_copy(update={"channels": two}).to_json())
        scans = tmp_path / "scans"
        scans.mkdir()
        for name in ("a_0000", "a_0001", "b_0000", "c_0001"):
            builders.save(scans / f"{name}.nii.gz", builders.scan(1)[0])
        message = refused(*predicting(own, scans, tmp_path / "out"), code=3)
        assert "2 of 3 scans lack a channel" in message
        assert "b (CT)" in message
        assert "c (MRI)" in message
        assert "b_0001.nii.gz" in message
        assert not (tmp_path / "out").exists()

    def test_f46_a_channel_too_many(self, whole_way: WholeWay, tmp_path: Path) -> None:
        scans = tmp_path / "scans"
        scans.mkdir()
        for name in ("a_0000", "a_0001"):
            builders.save(scans / f"{name}.nii.gz", builders.scan(1)[0])
        message = refused(*predicting(whole_way.folder, scans, tmp_path / "out"), code=3)
        assert "a_0001.nii.gz" in message
        assert "one channel more than the 1 " in message

    def test_f50_an_id_that_is_no_name(self, whole_way: WholeWay, tmp_path: Path) -> None:
        scans = tmp_path / "scans"
        scans.mkdir()
        builders.save(scans / "my scan.nii.gz", builders.scan(1)[0])
        message = refused(*predicting(whole_way.folder, scans, tmp_path / "out"), code=3)
        assert "'my scan' is not a safe name" in message
        assert str(scans / "my scan.nii.gz") in message

    def test_f60_disk_full(self, whole_way: WholeWay, tmp_path: Path) -> None:
        scans = self.scans(tmp_path / "scans", 1)
        with files_no_larger_than(600):
            message = refused(*predicting(whole_way.folder, scans, tmp_path / "out"), code=5)
        assert str(tmp_path / "out" / "s1.nii.gz") in message
        assert "Free some space" in message
        assert not list((tmp_path / "out").iterdir())

    def test_f61_a_result_of_0_bytes_is_made_again(self, whole_way: WholeWay, tmp_path: Path) -> None:
        scans = self.scans(tmp_path / "scans", 2)
        words = predicting(whole_way.folder, scans, tmp_path / "out", "--resume")
        done(*words)
        first = tmp_path / "out" / "s1.nii.gz"
        whole = first.read_bytes()
        before = listing(tmp_path / "out")
        first.write_bytes(b"")
        done(*words)
        after = listing(tmp_path / "out")
        assert nibabel.load(first).get_fdata().any()
        assert first.read_bytes() == whole
        assert after[str(tmp_path / "out/s2.nii.gz")] == before[str(tmp_path / "out/s2.nii.gz")]

    @pytest.mark.parametrize("obstacle", ["a file", "below a file", "/proc/nowhere"])
    def test_f62_output_that_cannot_be_written_is_said_before_computing(
        self, whole_way: WholeWay, tmp_path: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from autoseg.stages import predicting as stage

        monkeypatch.setattr(stage, "load_ensemble", lambda *args, **more: pytest.fail("computed first"))
        scans = self.scans(tmp_path / "scans", 1)
        (tmp_path / "file").write_text("precious")
        output = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "out"}.get(obstacle, Path(obstacle))
        message = refused(*predicting(whole_way.folder, scans, output), code=5)
        assert str(output) in message
        assert "choose a folder that can be written" in message
        assert (tmp_path / "file").read_text() == "precious"

    def test_f67_an_ensemble_whose_model_is_gone(self, own: Path, tmp_path: Path) -> None:
        gone = chosen(own).parents[1]
        (left,) = {"smoke_2d", "smoke_3d"} - {gone.name}
        shutil.rmtree(gone)
        message = refused(*predicting(own, self.scans(tmp_path / "s", 1), tmp_path / "out"), code=2)
        assert f"no model 'default/{gone.name}/base_s0' was trained" in message
        assert f"There is: default/{left}/base_s0" in message

    def test_f69_weights_that_are_not_finite(self, own: Path, tmp_path: Path) -> None:
        file = chosen(own) / "model.safetensors"
        tensors, notes = weights.load(file)
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        tensors[name].view(-1)[0] = torch.nan
        weights.save(file, tensors, notes)
        matching_hash(file)
        message = refused(*predicting(own, self.scans(tmp_path / "s", 1), tmp_path / "out"), code=3)
        assert str(file) in message
        assert f"numbers in {name} are not finite" in message
        assert not list(tmp_path.glob("out/*.nii.gz"))

    def test_f69_values_that_overflow_inside_the_network(self, own: Path, tmp_path: Path) -> None:
        for fold in ("0", "1"):
            file = chosen(own, fold) / "model.safetensors"
            tensors, notes = weights.load(file)
            weights.save(file, {name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()}, notes)
            matching_hash(file)
        outcome = typed(*predicting(own, self.scans(tmp_path / "s", 1), tmp_path / "out"))
        assert outcome.code == 4
        assert "s1" in outcome.err
        assert "finite" in outcome.err
        assert not list(tmp_path.glob("out/*.nii.gz"))

    def test_f84_a_pickle_in_place_of_weights(self, own: Path, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f"touch {tmp_path / 'pwned'}",)

        file = chosen(own) / "model.safetensors"
        for content in (pickle.dumps(Evil()), b"PK\3\4" + pickle.dumps(Evil())):
            file.write_bytes(content)
            matching_hash(file)
            message = refused(*predicting(own, self.scans(tmp_path / hashlib.md5(content).hexdigest(), 1),
                                          tmp_path / "out"), code=3)  # fmt: skip
            assert str(file) in message
            assert "damaged" in message
        assert not (tmp_path / "pwned").exists()

    def test_f88_weights_of_another_hash(self, own: Path, tmp_path: Path) -> None:
        shutil.copy(chosen(own, "1") / "model.safetensors", chosen(own))
        message = refused(*predicting(own, self.scans(tmp_path / "s", 1), tmp_path / "out"), code=3)
        assert "model.json speaks of" in message
        assert str(chosen(own) / "model.safetensors") in message

    @pytest.mark.parametrize("name", ["choice", "plan", "model", "run", "dataset"])
    def test_damaged_records_are_named(self, own: Path, tmp_path: Path, name: str) -> None:
        file = {
            "choice": own / "ensemble/default/choice.json",
            "plan": own / "plans/default/plan.json",
            "dataset": own / "dataset.json",
        }.get(name, chosen(own) / f"{name}.json")
        file.write_bytes(file.read_bytes()[:-20])
        at = ("-d", "Knot", "--root", own.parent)
        words = ("train", *at) if name in {"run", "dataset"} else predicting(own, self.scans(tmp_path / "s", 1),
                                                                               tmp_path / "out")  # fmt: skip
        assert str(file) in refused(*words, code=3)


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As a full disk: writing past `size` bytes of any file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def chosen(own: Path, fold: str = "0") -> Path:
    """Return the folder of a fold of the candidate that predicts; which one hangs on a few steps of training."""
    choice = EnsembleChoice.parse((own / "ensemble/default/choice.json").read_bytes(), file="")
    return own / "models" / choice.members[0] / f"fold_{fold}"


def matching_hash(file: Path) -> None:
    """Make `model.json` speak of the weights that are there now."""
    marker = file.with_name("model.json")
    model = TrainedModel.parse(marker.read_bytes(), file="")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    marker.write_text(model.model_copy(update={"weights_sha256": digest}).to_json())


class TestTrain:
    def words(self, folder: Path, *more: object) -> tuple[object, ...]:
        return ("train", "-d", "Knot", "--root", folder.parent, "-c", "smoke_2d", "-f", "0", *more)

    def key(self, folder: Path) -> Path:
        (key,) = (folder / "preprocessed").iterdir()
        return key

    def test_f76_another_run_holds_the_folder(self, own: Path) -> None:
        holder = {"host": socket.gethostname(), "process": os.getppid(), "since": time.time() - 120}
        (own / TRAINED / "lock").write_text(json.dumps(holder))
        message = refused(*self.words(own), code=5)
        assert f"another run has been working here for 2 minutes (host {holder['host']}" in message
        assert f"process {os.getppid()}" in message
        assert str(own / TRAINED) in message
        assert (own / TRAINED / "lock").exists()

    @pytest.mark.parametrize("damage", ["cut", "flipped", "no marker", "no labels"])
    def test_f57_f58_a_damaged_case_is_made_again(self, own: Path, damage: str) -> None:
        file = self.key(own) / "MR_3.image.b2nd"
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in file.parent.iterdir()}
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:1000])
        elif damage == "flipped":
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(bytes(content))
        else:
            (self.key(own) / ("MR_3.json" if damage == "no marker" else "MR_3.labels.b2nd")).unlink()
        outcome = done(*self.words(own))
        assert "1 cases to preprocess, 3 are there" in outcome.err
        after = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in file.parent.iterdir()}
        assert after == digests

    @pytest.mark.parametrize("damage", ["cut", "empty", "pickle"])
    def test_f64_a_damaged_checkpoint_falls_back(self, own: Path, damage: str) -> None:
        """Without `model.json` the run goes on from its checkpoint; from the start when none is whole. Same bytes."""
        folder = own / TRAINED
        (wanted, files) = (folder / "model.safetensors").read_bytes(), sorted(folder.glob("checkpoint.*"))
        assert files
        for name in ("model.json", "model.safetensors"):
            (folder / name).unlink()
        whole = files[0].read_bytes()
        content = {"cut": whole[: len(whole) // 2], "empty": b"", "pickle": pickle.dumps([1, 2, 3])}[damage]
        for file in files:
            file.write_bytes(content)
        outcome = done(*self.words(own))
        assert str(files[0]) in outcome.err
        assert "Falling back to the checkpoint before it, or to the start" in outcome.err
        assert (folder / "model.safetensors").read_bytes() == wanted

    def test_f59_disk_full_while_preprocessing(self, own: Path) -> None:
        shutil.rmtree(own / "preprocessed")
        with files_no_larger_than(3000):
            outcome = typed("plan_and_preprocess", "-d", "Knot", "--root", own.parent, "--preset", "smoke",
                            "--plan", "default", "--workers", 1)  # fmt: skip
        assert outcome.code in (4, 5)
        assert "cannot be written" in outcome.err
        assert "Traceback" not in outcome.err
        assert not list((own / "preprocessed").rglob(".tmp-*"))
        assert not list((own / "preprocessed").rglob("MR_*.json"))

    def test_f59_disk_full_while_training_keeps_what_was_there(self, own: Path) -> None:
        with files_no_larger_than(12_000):
            message = refused(*self.words(own, "--variant", "full"), code=5)
        assert "cannot be written" in message
        folder = own / "models/default/smoke_2d/full_s0/fold_0"
        assert not (folder / "model.json").exists()
        assert not list(folder.glob(".tmp-*"))
        assert not (folder / "lock").exists()
        done(*self.words(own, "--variant", "full"))


class TestChangedData:
    """F55: what was made of old data is made again, and nothing trained is thrown away."""

    @pytest.fixture
    def folder(self, whole_way: WholeWay, tmp_path: Path) -> Path:
        """The workspace, with data of its own that may be changed."""
        shutil.copytree(whole_way.root, tmp_path / "own")
        raw = shutil.copytree(whole_way.raw, tmp_path / "raw")
        file = tmp_path / "own/Knot/dataset.json"
        file.write_text(file.read_text().replace(str(whole_way.raw), str(raw)))
        done("run", "-d", "Knot", "--root", tmp_path / "own", "--preset", "smoke", "--workers", 1)
        return tmp_path / "own" / "Knot"

    @pytest.mark.slow
    def test_f55_an_image_that_changed(self, folder: Path) -> None:
        path = builders.image_file(folder.parents[1] / "raw", "MR_2")
        builders.save(path, builders.load(path) + np.int16(7))
        at = ("-d", "Knot", "--root", folder.parent)
        label = builders.label_file(folder.parents[1] / "raw", "MR_2")
        array = builders.load(label)
        array[0, 0, 0] = 1
        builders.save(label, array)
        outcome = done("run", *at, "--preset", "smoke", "--workers", 1)
        assert "1 cases to preprocess, 3 are there" in outcome.err
        assert "were preprocessed again" in outcome.err or "kept as" in outcome.err
        stale = list((folder / "models").glob("*/*/*/stale_*"))
        assert stale
        assert all((item / "model.safetensors").exists() for item in stale)
        assert all(row["state"] == "scored" for row in done("status", *at, "--json").json())

        builders.f01_truncated(folder.parents[1] / "raw")  # the check looks again, too
        message = refused("run", *at, "--preset", "smoke", "--workers", 1, code=3)
        assert "MR_3_0000.nii.gz" in message


class TestEvaluate:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        for folder in ("predicted", "truth"):
            (tmp_path / folder).mkdir()
            for number in (1, 2):
                builders.save(tmp_path / folder / f"c{number}.nii.gz", builders.scan(number)[1])
        return tmp_path / "predicted", tmp_path / "truth"

    def test_perfect(self, pair: tuple[Path, Path]) -> None:
        assert "2 cases, mean Dice 1.0000" in done("evaluate", "-p", pair[0], "-t", pair[1]).out

    @pytest.mark.parametrize(
        ("matrix", "word"),
        [
            (builders.affine((10.0, 1.0, 1.0)), "spacing"),
            (np.diag([1.0, 1, 1, 1]) @ np.diag([-1, 1, 1, 1.0]) @ builders.affine(), "direction"),
        ],
    )
    def test_f80_geometry_differs(self, pair: tuple[Path, Path], matrix: np.ndarray, word: str) -> None:
        builders.save(pair[0] / "c1.nii.gz", builders.scan(1)[1], matrix)
        message = refused("evaluate", "-p", pair[0], "-t", pair[1], code=3)
        assert "c1" in message
        assert word in message
        assert "Resample the prediction" in message

    def test_f80_every_case_that_cannot_be_scored_is_named(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        builders.save(pair[0] / "c1.nii.gz", builders.scan(1)[1], builders.affine((10.0, 1.0, 1.0)))
        builders.save(pair[0] / "c2.nii.gz", builders.scan(2)[1][10:11])
        message = refused("evaluate", "-p", pair[0], "-t", pair[1], "-o", tmp_path / "scores.csv", code=3)
        assert "2 of 2 cases cannot be scored, so none was" in message
        assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == ["c1", "c2"]
        assert not (tmp_path / "scores.csv").exists()

    def test_a_prediction_without_a_truth_is_named(self, pair: tuple[Path, Path]) -> None:
        (pair[1] / "c2.nii.gz").unlink()
        outcome = done("evaluate", "-p", pair[0], "-t", pair[1])
        assert "1 cases" in outcome.out
        assert "1 predictions without a truth left out: c2" in outcome.err

    def test_values_that_no_truth_has_are_named(self, pair: tuple[Path, Path]) -> None:
        builders.save(pair[0] / "c1.nii.gz", builders.scan(1)[1] * 7)
        outcome = done("evaluate", "-p", pair[0], "-t", pair[1])
        assert "are in no truth; counted as background" in outcome.err
        assert str(pair[0] / "c1.nii.gz") in outcome.err

    def test_f90_names_do_not_steer_the_terminal(self, pair: tuple[Path, Path]) -> None:
        name = "c\x1b[31m<script>.nii.gz"
        shutil.copy(pair[1] / "c1.nii.gz", pair[1] / name)
        outcome = done("evaluate", "-p", pair[0], "-t", pair[1])
        assert "\x1b" not in outcome.said
        assert "no prediction for c?[31m<script>" in outcome.err

    @pytest.mark.parametrize("content", [{"labels": {"stem": 2, "eye": 1}}, {"labels": {"0": "air", "2": "stem"}}])
    def test_structures_that_are_called_otherwise(self, pair: tuple[Path, Path], content: dict[str, object]) -> None:
        (pair[0] / "dataset.json").write_text(json.dumps(content))
        assert "2 cases" in done("evaluate", "-p", pair[0], "-t", pair[1]).out
        (pair[1] / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "eye": 1, "tumour": 2}}))
        message = refused("evaluate", "-p", pair[0], "-t", pair[1], code=3)
        assert "calls the value 2 'stem', but the truth calls it 'tumour'" in message

    @pytest.mark.parametrize("text", ["", "[1]", '{"labels": [1]}', '{"labels": {"whole": [1, 2]}}', "[" * 100000])
    def test_a_description_that_says_nothing_about_names(self, pair: tuple[Path, Path], text: str) -> None:
        for folder in pair:
            (folder / "dataset.json").write_text(text)
        assert "2 cases" in done("evaluate", "-p", pair[0], "-t", pair[1]).out

    def test_two_processes_say_the_same(self, pair: tuple[Path, Path]) -> None:
        words = ("evaluate", "-p", pair[0], "-t", pair[1], "--json", "--metrics", "all", "--workers")
        assert done(*words, 2).out == done(*words, 1).out

    def test_f81_one_slice(self, pair: tuple[Path, Path]) -> None:
        builders.save(pair[0] / "c1.nii.gz", builders.scan(1)[1][10:11])
        assert "(1, 40, 40)" in refused("evaluate", "-p", pair[0], "-t", pair[1], code=3)

    def test_f82_a_missing_prediction_fails(self, pair: tuple[Path, Path]) -> None:
        (pair[0] / "c2.nii.gz").unlink()
        outcome = done("evaluate", "-p", pair[0], "-t", pair[1])
        assert "2 cases, mean Dice 0.5000" in outcome.out
        assert "no prediction for c2; counted as failed" in outcome.err

    def test_f83_both_empty_and_one_empty(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        """Both empty has nothing to score; one empty is 0."""
        empty = np.zeros(builders.SHAPE, np.uint8)
        for folder in pair:
            builders.save(folder / "c3.nii.gz", empty)
        assert "3 cases, mean Dice 1.0000" in done("evaluate", "-p", pair[0], "-t", pair[1]).out
        builders.save(pair[0] / "c1.nii.gz", empty)
        assert "3 cases, mean Dice 0.5000" in done("evaluate", "-p", pair[0], "-t", pair[1]).out

    def test_an_image_in_place_of_labels(self, pair: tuple[Path, Path]) -> None:
        builders.save(pair[0] / "c1.nii.gz", builders.scan(1)[0].astype(np.float32) / 7)
        message = refused("evaluate", "-p", pair[0], "-t", pair[1], code=3)
        assert "is no label map" in message
        assert str(pair[0] / "c1.nii.gz") in message

    def test_scores_that_cannot_be_written(self, pair: tuple[Path, Path]) -> None:
        message = refused("evaluate", "-p", pair[0], "-t", pair[1], "-o", "/proc/nowhere/scores.csv", code=5)
        assert "/proc/nowhere/scores.csv" in message
