"""A model as one file: it predicts where there is nothing else, and nothing in it is trusted before it was checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg import Predictor
from autoseg.compute import archives
from autoseg.images.files import read_volume
from autoseg.records.choice import EnsembleChoice
from autoseg.records.errors import DataError, UsageError
from autoseg.records.package import MANIFEST, Package
from autoseg.records.quality import PredictedQuality, QualityModel
from autoseg.records.temperature import TemperatureFit
from autoseg.stages.ensembling.likeness import fit_likeness
from autoseg.storage import write_record
from autoseg.workspace import Workspace
from tests.command_line import child, done, environment, refused, typed
from tests.conftest import WholeWay
from tests.faults import builders

QUICK = ("--no-mirror", "--step", "1.0", "--device", "cpu")


@pytest.fixture(scope="module")
def model(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `autoseg export` writes of the small data set."""
    file = tmp_path_factory.mktemp("model") / "knot.zip"
    said = ("--licence", "CC0", "--intended-use", "tests")
    done("export", "-d", "Knot", "--root", whole_way.root, "-o", file, *said)
    return file


@pytest.fixture(scope="module")
def loaded(model: Path) -> Predictor:
    return Predictor.load(model, device="cpu", mirror=False, step_fraction=1.0)


def scan(whole_way: WholeWay, case: int = 0) -> Path:
    return builders.image_file(whole_way.raw, builders.CASES[case])


def contents(model: Path) -> dict[str, bytes]:
    return {
        member.name: archives.read_member(model, member.name, most_bytes=member.size)
        for member in archives.list_members(model)
    }


def changed(model: Path, target: Path, change: Callable[[dict[str, bytes], dict], None]) -> Path:
    """The same model file with other members or another manifest; hashes are not mended."""
    members = contents(model)
    manifest = json.loads(members[MANIFEST])
    change(members, manifest)
    archives.pack(
        target, {MANIFEST: json.dumps(manifest).encode(), **{n: c for n, c in members.items() if n != MANIFEST}}
    )
    return target


def knowing(work: Workspace) -> EnsembleChoice:
    """The choice with a model of the Dice, a temperature, and training scans that are eight times coarser."""
    quality = QualityModel(structure="core", weights=(0.4, 0, 0), half_width=0.1, coverage=0.9, spearman=0.5, cases=9)
    fit = TemperatureFit(
        temperature=2.0, nll_before=1, nll_after=1, error_before=0.1, error_after=0.1, cases=9, voxels=9
    )
    scans = [{"spacing": np.log(np.full(3, 8.0 + place / 100))} for place in range(20)]
    likeness = fit_likeness([f"p{place}" for place in range(20)], scans)
    return work.choice().model_copy(update={"quality": (quality,), "calibration": fit, "likeness": likeness})


class TestTheFile:
    def test_it_says_what_it_is(self, model: Path, whole_way: WholeWay) -> None:
        work = Workspace.locate("Knot", whole_way.root)
        package = Package.parse(contents(model)[MANIFEST], file="")
        assert package.plan == work.plan()
        choice = work.choice()
        assert tuple(member.name for member in package.members) == choice.members
        assert all(len(member.networks) == 2 for member in package.members), "all folds"
        assert package.postprocessing == choice.postprocessing
        assert (package.licence, package.intended_use) == ("CC0", "tests")
        assert package.evaluation is not None
        assert package.evaluation.mean_dice() == pytest.approx(choice.mean_dice)

    def test_ids_of_cases_stay_at_home(self, model: Path) -> None:
        text = contents(model)[MANIFEST].decode()
        assert not [case for case in builders.CASES if case in text]
        package = Package.parse(text, file="")
        assert package.fingerprint is not None
        assert package.evaluation is not None
        ids = [facts.id for facts in package.fingerprint.cases]
        assert ids == ["case_0001", "case_0002", "case_0003", "case_0004"]
        assert {score.case for score in package.evaluation.scores} <= set(ids)

    def test_no_path_of_this_machine_is_in_it(self, model: Path, whole_way: WholeWay) -> None:
        assert str(whole_way.root).encode() not in model.read_bytes()

    def test_the_same_models_give_the_same_bytes(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        said = ("--licence", "CC0", "--intended-use", "tests")
        done("export", "-d", "Knot", "--root", whole_way.root, "-o", tmp_path / "again.zip", *said)
        assert (tmp_path / "again.zip").read_bytes() == model.read_bytes()

    def test_weights_that_were_changed_are_not_exported(self, whole_way: WholeWay, tmp_path: Path) -> None:
        shutil.copytree(whole_way.root, tmp_path / "root")
        work = Workspace.locate("Knot", tmp_path / "root")
        chosen = [model for model in work.trained() if model.candidate() in work.choice().members]
        file = work.model(chosen[0]) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
        message = refused("export", "-d", "Knot", "--root", tmp_path / "root", "-o", tmp_path / "m.zip", code=3)
        assert str(file) in message
        assert "model.json speaks of" in message
        assert not (tmp_path / "m.zip").exists()

    def test_words_that_mean_nothing(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("export", "-d", "Knot", "--root", whole_way.root)
        assert "there is nothing to write" in refused(*at, code=2)
        assert "ends in .zip" in refused(*at, "-o", tmp_path / "model", code=2)
        assert "no model 'x' was trained" in refused(*at, "-o", tmp_path / "m.zip", "-m", "x", code=2)
        assert "a file already" in refused("export", "-m", model, "-o", tmp_path / "m.zip", code=2)
        assert "would write" in done(*at, "-o", tmp_path / "m.zip", "--dry-run").out
        assert not list(tmp_path.iterdir())


class TestPredicting:
    def test_it_predicts_what_the_workspace_predicts(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        words = ("-i", scan(whole_way), *QUICK)
        done("predict", "-d", "Knot", "--root", whole_way.root, "-o", tmp_path / "a", *words)
        done("predict", "-m", model, "-o", tmp_path / "b", *words)
        (one,), (other,) = (sorted((tmp_path / name).iterdir()) for name in "ab")
        first, second = read_volume(one), read_volume(other)
        assert np.array_equal(first[0], second[0])
        assert first[1] == second[1]
        assert set(np.unique(first[0])) <= {0, 1, 5}

    def test_outputs_name_the_model(self, model: Path, loaded: Predictor, whole_way: WholeWay, tmp_path: Path) -> None:
        import nibabel

        done("predict", "-m", model, "-i", scan(whole_way), "-o", tmp_path, *QUICK)
        (written,) = tmp_path.iterdir()
        said = nibabel.load(written).header["descrip"].item().decode()
        assert said.endswith(f"model {loaded.digest[:16]}")

    def test_on_a_machine_that_has_nothing_else(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        """In an empty folder, with an empty home and no workspace."""
        shutil.copy(model, tmp_path / "m.zip")
        shutil.copy(scan(whole_way), tmp_path / "scan.nii.gz")
        more = {"HOME": str(tmp_path / "home"), "AUTOSEG_ROOT": str(tmp_path / "nowhere")}
        words = [sys.executable, "-m", "autoseg", "predict", "-m", "m.zip", "-i", "scan.nii.gz", "-o", "out", *QUICK]
        end = subprocess.run(words, cwd=tmp_path, env=environment(**more), capture_output=True, text=True, timeout=120)
        assert end.returncode == 0, end.stderr
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["scan.nii.gz"]
        assert not (tmp_path / "nowhere").exists()

    def test_what_it_knows_of_its_doubt_is_in_the_file(self, whole_way: WholeWay, tmp_path: Path) -> None:
        """Four cases teach nothing of doubt, so it is written into the choice as if there had been more."""
        shutil.copytree(whole_way.root, tmp_path / "root")
        work = Workspace.locate("Knot", tmp_path / "root")
        write_record(work.ensemble("default") / "choice.json", knowing(work))
        model = tmp_path / "m.zip"
        done("export", "-d", "Knot", "--root", tmp_path / "root", "-o", model)
        words = ("-i", scan(whole_way), "--uncertainty", "--refer", "0.5", *QUICK)
        first = done("predict", "-d", "Knot", "--root", tmp_path / "root", "-o", tmp_path / "a", *words).said
        shutil.rmtree(tmp_path / "root")
        second = done("predict", "-m", model, "-o", tmp_path / "b", *words).said
        names = sorted(path.name for path in (tmp_path / "a/uncertainty").iterdir())
        assert [name.rsplit("_", 1)[1] for name in names] == ["disagreement.nii.gz", "entropy.nii.gz", "quality.json"]
        for name in names:
            assert (tmp_path / "a/uncertainty" / name).read_bytes() == (tmp_path / "b/uncertainty" / name).read_bytes()
        for said in (first, second):
            assert "unlike the training scans in spacing" in " ".join(said.split())
            assert "core 0.40 (0.30 to 0.50)" in said
        array, grid = read_volume(scan(whole_way))
        told = Predictor.load(model, device="cpu", mirror=False, step_fraction=1.0)
        found = told.predict(array, grid.spacing_mm, direction=grid.direction, uncertainty=True)
        quality = PredictedQuality.parse((tmp_path / "b/uncertainty" / names[2]).read_bytes(), file="")
        assert found.quality == quality.scores
        assert found.unlikeness == quality.unlikeness
        assert found.unlikeness is not None
        assert found.unlikeness.flagged
        assert found.entropy is not None
        assert told.predict(array, grid.spacing_mm).quality == ()
        assert told.predict(array, grid.spacing_mm).unlikeness is not None

    def test_one_member_of_several_by_name(self, model: Path, loaded: Predictor, whole_way: WholeWay) -> None:
        name = loaded.members[0].name
        alone = Predictor.load(model, members=(name,))
        assert [member.name for member in alone.members] == [name]
        with pytest.raises(UsageError, match=f"no member 'x'.*There is: {name}"):
            Predictor.load(model, members=("x",))

    def test_either_a_data_set_or_a_file(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("predict", "-i", scan(whole_way), "-o", tmp_path)
        assert "-m model.zip" in refused(*at, code=2)
        assert "both a data set and a model file" in refused(*at, "-d", "Knot", "-m", model, code=2)
        assert "2 model files" in refused(*at, "-m", model, "-m", model, code=2)

    def test_dry_run_and_json(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        words = (
            "predict",
            "-m",
            model,
            "-i",
            whole_way.raw / "imagesTr",
            "-o",
            tmp_path / "out",
            "--dry-run",
            "--json",
        )
        assert [item["case"] for item in done(*words).json()] == sorted(builders.CASES[:4])
        assert not (tmp_path / "out").exists()


def test_importing_autoseg_is_light_until_the_predictor_is_asked_for() -> None:
    program = """
import sys
import autoseg
assert "torch" not in sys.modules and "numpy" not in sys.modules
assert autoseg.Predictor.__name__ == "Predictor"
assert "torch" in sys.modules
"""
    outcome = child(program)
    assert outcome.code == 0, outcome.err


class TestInMemory:
    def volume(self, whole_way: WholeWay) -> tuple[np.ndarray, tuple[float, float, float], object]:
        array, grid = read_volume(scan(whole_way))
        return array, grid.spacing_mm, grid.direction

    def test_an_array_gives_what_the_file_gives(
        self, model: Path, loaded: Predictor, whole_way: WholeWay, tmp_path: Path
    ) -> None:
        done("predict", "-m", model, "-i", scan(whole_way), "-o", tmp_path, *QUICK)
        (written,) = tmp_path.iterdir()
        array, spacing, direction = self.volume(whole_way)
        found = loaded.predict(array, spacing_mm=spacing, direction=direction, probabilities=True)
        assert np.array_equal(found.labels, read_volume(written)[0])
        assert found.names == {1: "core", 5: "rim"}
        assert found.channels == ("background", "core", "rim")
        assert found.probabilities is not None
        assert found.probabilities.shape == (3, *array.shape)
        assert found.probabilities.sum(0) == pytest.approx(1, abs=1e-5)
        assert found.model == loaded.digest

    def test_nibabels_affine_says_the_same(self, loaded: Predictor, whole_way: WholeWay) -> None:
        import nibabel

        image = nibabel.load(scan(whole_way))
        array, spacing, direction = self.volume(whole_way)
        one = loaded.predict(array, spacing_mm=spacing, direction=direction)
        other = loaded.predict(np.asarray(image.dataobj).T[None], affine=image.affine)
        assert np.array_equal(one.labels, other.labels)

    def test_the_disk_is_not_touched(
        self, loaded: Predictor, whole_way: WholeWay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        array, spacing, _ = self.volume(whole_way)
        loaded.predict(array, spacing)  # whatever is imported late is imported now
        monkeypatch.setattr("builtins.open", lambda *args, **more: pytest.fail(f"opened {args}"))
        monkeypatch.setattr(os, "open", lambda *args, **more: pytest.fail(f"opened {args}"))
        loaded.predict(array, spacing)

    def test_threads_share_one_model(self, loaded: Predictor, whole_way: WholeWay) -> None:
        arrays = [read_volume(scan(whole_way, case)) for case in (0, 1, 2)]
        alone = [loaded.predict(array, grid.spacing_mm).labels for array, grid in arrays]
        found: dict[int, np.ndarray] = {}

        def work(number: int) -> None:
            array, grid = arrays[number % 3]
            found[number] = loaded.predict(array, grid.spacing_mm).labels

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(6))
        assert all(np.array_equal(found[number], alone[number % 3]) for number in found)

    @pytest.mark.parametrize(
        ("shape", "more", "sentence"),
        [
            ((2, 9, 9, 9), {"spacing_mm": (1, 1, 1)}, r"instead of \(C, Z, Y, X\) with C = 1: MRI"),
            ((9, 9), {"spacing_mm": (1, 1, 1)}, r"the shape \(9, 9\)"),
            ((0, 9, 9), {"spacing_mm": (1, 1, 1)}, r"the shape \(0, 9, 9\)"),
            ((9, 9, 9), {"spacing_mm": (1, 1)}, "the spacing has 2 numbers"),
            ((9, 9, 9), {"spacing_mm": (1, 0, 1)}, "size of its voxels is unknown"),
            ((9, 9, 9), {}, "needs either its spacing or its affine"),
            ((9, 9, 9), {"affine": np.eye(4), "spacing_mm": (1, 1, 1)}, "needs either its spacing or its affine"),
            ((9, 9, 9), {"affine": np.zeros((4, 4))}, "lie in one plane"),
        ],
    )
    def test_what_is_no_scan_is_refused(self, loaded: Predictor, shape: tuple, more: dict, sentence: str) -> None:
        with pytest.raises((DataError, UsageError), match=sentence):
            loaded.predict(np.zeros(shape, np.float32), **more)

    def test_nan_is_refused(self, loaded: Predictor) -> None:
        array = np.zeros((9, 9, 9), np.float32)
        array[1, 2, 3] = np.nan
        with pytest.raises(DataError, match=r"1 of 729 voxels are not finite, the first \(NaN\) at \(1, 2, 3\)"):
            loaded.predict(array, (1, 1, 1))


class TestWhatIsNotTrusted:
    """F84, F86 to F89."""

    def refusal(self, file: Path, whole_way: WholeWay, folder: Path) -> str:
        message = refused("predict", "-m", file, "-i", scan(whole_way), "-o", folder / "out", *QUICK, code=3)
        assert not list((folder / "out").glob("*"))
        return message

    def test_f88_other_weights(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        def swap(members: dict[str, bytes], manifest: dict) -> None:
            first, second = (name for name in list(members) if name.endswith("safetensors"))
            members[first] = members[second]

        message = self.refusal(changed(model, tmp_path / "m.zip", swap), whole_way, tmp_path)
        assert "the manifest speaks of" in message

    @pytest.mark.parametrize("lost", ["weights", "manifest"])
    def test_f88_a_member_is_missing(self, model: Path, whole_way: WholeWay, tmp_path: Path, lost: str) -> None:
        members = contents(model)
        del members[MANIFEST if lost == "manifest" else next(name for name in members if name != MANIFEST)]
        archives.pack(tmp_path / "m.zip", members)
        sentence = "it has no manifest" if lost == "manifest" else "is missing, but the manifest says"
        assert sentence in self.refusal(tmp_path / "m.zip", whole_way, tmp_path)

    def test_a_member_too_many(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        def add(members: dict[str, bytes], manifest: dict) -> None:
            members["hook.py"] = b"print()"

        assert "holds 'hook.py'" in self.refusal(changed(model, tmp_path / "m.zip", add), whole_way, tmp_path)

    @pytest.mark.parametrize("kept", [0.1, 0.9])
    def test_f88_half_a_download(self, model: Path, whole_way: WholeWay, tmp_path: Path, kept: float) -> None:
        content = model.read_bytes()
        (tmp_path / "m.zip").write_bytes(content[: int(kept * len(content))])
        assert "is damaged" in self.refusal(tmp_path / "m.zip", whole_way, tmp_path)

    def test_f88_a_version_of_tomorrow(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        def age(members: dict[str, bytes], manifest: dict) -> None:
            manifest.update(schema_version=2, version="9.1")

        message = self.refusal(changed(model, tmp_path / "m.zip", age), whole_way, tmp_path)
        assert "a model file of version 2" in message
        assert "Install autoseg 9.1 or newer" in message

    def test_f89_a_class_by_name(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        def name_class(members: dict[str, bytes], manifest: dict) -> None:
            manifest["members"][0]["configuration"]["architecture"]["kind"] = "os.system"

        outcome = typed("predict", "-m", changed(model, tmp_path / "m.zip", name_class), "-i", scan(whole_way),
                        "-o", tmp_path / "out", *QUICK)  # fmt: skip
        assert outcome.code == 2
        assert "there is no network 'os.system'" in outcome.err

    def test_f89_a_key_too_many(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        def add(members: dict[str, bytes], manifest: dict) -> None:
            manifest["trainer_class"] = "x"

        message = self.refusal(changed(model, tmp_path / "m.zip", add), whole_way, tmp_path)
        assert "trainer_class" in message
        assert "Copy the model file again" in message

    @pytest.mark.parametrize("name", ["../outside.safetensors", "/tmp/x.safetensors"])
    def test_f86_a_path_outside(self, model: Path, whole_way: WholeWay, tmp_path: Path, name: str) -> None:
        def lead_out(members: dict[str, bytes], manifest: dict) -> None:
            entry = manifest["members"][0]["networks"][0]
            members[name] = members.pop(entry["file"])
            entry["file"] = name

        assert "not a safe path" in self.refusal(changed(model, tmp_path / "m.zip", lead_out), whole_way, tmp_path)

    def test_a_cascade_without_its_first_stage(self, model: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        def need(members: dict[str, bytes], manifest: dict) -> None:
            manifest["members"][0]["configuration"]["previous"] = {"configuration": "coarse"}

        message = self.refusal(changed(model, tmp_path / "m.zip", need), whole_way, tmp_path)
        assert "the first stage coarse is missing" in message

    def test_what_is_no_model(self, whole_way: WholeWay, tmp_path: Path) -> None:
        assert "is missing" in self.refusal(tmp_path / "none.zip", whole_way, tmp_path)
        (tmp_path / "text.zip").write_text("hello")
        assert "no zip or tar archive" in self.refusal(tmp_path / "text.zip", whole_way, tmp_path)
