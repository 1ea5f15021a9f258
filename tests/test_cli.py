"""The commands as they are typed: the whole way once, and the sentence for every slip of the pen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.phantom import write_phantom
from autoseg.records.choice import EnsembleChoice
from autoseg.records.dataset import Dataset
from autoseg.records.evaluation import Evaluation
from autoseg.records.plan import Plan
from tests.command_line import child, done, listing, refused, typed
from tests.conftest import WholeWay, measure_little
from tests.faults import builders

COMMANDS = (
    "fetch",
    "import",
    "check",
    "plan_and_preprocess",
    "calibrate",
    "train",
    "ensemble",
    "predict",
    "evaluate",
    "compare",
    "froc",
    "explore",
    "report",
    "explain-case",
    "run",
    "status",
    "explain",
    "doctor",
    "demo",
    "export",
    "import-model",
    "serve",
)
QUICK = ("--no-mirror", "--step", 1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


@pytest.fixture(scope="module")
def predicted(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of two new scans; one is oblique and stored the other way round."""
    folder = tmp_path_factory.mktemp("new")
    scans = folder / "scans"
    scans.mkdir()
    shutil.copy(builders.image_file(whole_way.raw, "MR_1"), scans / "new_1.nii.gz")
    image = nibabel.load(builders.image_file(whole_way.raw, "MR_2"))
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[:, ::-1], turn @ image.affine), scans / "new_2.nii.gz")
    done("predict", "-d", "Knot", "--root", whole_way.root, "-i", scans, "-o", folder / "out", *QUICK)
    return folder / "out"


class TestHelp:
    def test_the_commands_are_these_and_no_others(self) -> None:
        from typer.main import get_command

        from autoseg.cli import build

        assert set(get_command(build()).commands) == set(COMMANDS)  # type: ignore[attr-defined]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_help(self, command: str) -> None:
        assert f"autoseg {command}" in done(command, "--help").out.replace("-c ", "")

    def test_help_answers_without_the_heavy_libraries(self) -> None:
        program = """
import sys
from autoseg import cli
sys.argv = ["autoseg", "--help"]
try:
    cli.main()
except SystemExit as end:
    heavy = sorted({"torch", "SimpleITK", "pandas", "scipy", "matplotlib", "nibabel"} & set(sys.modules))
    sys.exit(f"exit code {end.code}, loaded {heavy}" if end.code or heavy else 0)
"""
        outcome = child(program)
        assert outcome.code == 0, outcome.err
        assert all(command in outcome.out for command in COMMANDS)

    def test_a_command_that_is_none(self) -> None:
        outcome = typed("trian")
        assert outcome.code == 2
        assert "trian" in outcome.err
        assert "Traceback" not in outcome.said


class TestWholeWay:
    def test_each_step_names_the_next(self, whole_way: WholeWay) -> None:
        assert "Knot: nnunet layout, 4 cases from" in whole_way.said["import"]
        assert "1 -> 1, 5 -> 2" in whole_way.said["import"]
        assert "next: autoseg run -d Knot" in whole_way.said["import"]
        assert "Knot: 4 cases, no problem found\n" in whole_way.said["check"]
        assert "next: autoseg train -d Knot" in whole_way.said["plan_and_preprocess"]
        assert "next: autoseg ensemble -d Knot" in whole_way.said["train"]
        assert "default/smoke_2d/base_s0/fold_1" in whole_way.said["train"]
        assert re.search(r"chosen: default/smoke_[23]d/base_s0 \(1\.00\)", whole_way.said["ensemble"])

    def test_the_records_are_there(self, whole_way: WholeWay) -> None:
        folder = whole_way.folder
        Dataset.parse((folder / "dataset.json").read_bytes(), file="")
        Plan.parse((folder / "plans/default/plan.json").read_bytes(), file="")
        choice = EnsembleChoice.parse((folder / "ensemble/default/choice.json").read_bytes(), file="")
        assert len(choice.members) == 1  # which of the two hangs on a few steps of training
        assert {item.members for item in choice.candidates} >= {(f"default/smoke_{n}d/base_s0",) for n in (2, 3)}
        scores = Evaluation.parse((folder / "ensemble/default/evaluation.json").read_bytes(), file="").scores
        assert [score.case for score in scores] == ["MR_1", "MR_2", "MR_3", "MR_4"]
        assert not list(folder.rglob(".tmp-*"))
        assert not list(folder.rglob("lock"))

    def test_json_of_every_command_is_one_document(self, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("-d", "Knot", "--root", whole_way.root, "--json")
        again = done("import", whole_way.raw, "--as", "Knot", "--root", tmp_path, "--json", "--folds", 2).json()
        assert [case["id"] for case in again["cases"]] == ["MR_1", "MR_2", "MR_3", "MR_4"]
        assert done("check", *at, "--workers", 1).json()["problems"] == []
        assert {row["configuration"] for row in done("plan_and_preprocess", *at, "--dry-run").json()["lineup"]}
        assert len(done("train", *at, "--dry-run").json()["models"]) == 4
        assert [len(item["scores"]) for item in done("train", *at).json()] == [2, 2, 2, 2]
        assert done("ensemble", *at, "--dry-run").json()["default/smoke_2d/base_s0"] == ["0", "1"]
        assert done("status", *at).json()[0]["state"] == "scored"
        assert done("status", "--root", whole_way.root, "--json").json()[0]["models trained"] == 4
        assert {"what", "value", "because"} == set(done("explain", *at).json()[0])
        assert "workspace" in done("doctor", "--root", tmp_path / "new", "--json").json()
        assert done("report", *at, "--dry-run").json()["report"].endswith("report.html")
        assert done("explore", *at, "--dry-run").json()["explore"].endswith("explore.html")

    def test_a_dry_run_writes_nothing(self, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("-d", "Knot", "--root", whole_way.root, "--dry-run")
        before = listing(whole_way.root, whole_way.raw)
        assert "nothing was written" in done("import", whole_way.raw, "--as", "B", *at[2:]).out
        for words in (
            ("plan_and_preprocess", "--plan", "other", "--preset", "smoke", "--workers", 1),
            ("train", "--variant", "x", "--seed", 3),
            ("ensemble",),
            ("predict", "-i", whole_way.raw / "imagesTr", "-o", tmp_path / "out"),
            ("report",),
            ("report", "--case", "MR_1"),
            ("explore",),
            ("explain-case", "--case", "MR_1"),
            ("run", "--preset", "smoke"),
        ):
            done(*words, *at)
        assert listing(whole_way.root, whole_way.raw) == before
        assert not list(tmp_path.iterdir())

    def test_planning_for_nothing_leaves_no_fingerprint(self, whole_way: WholeWay, tmp_path: Path) -> None:
        done("import", whole_way.raw, "--as", "Knot", "--root", tmp_path, "--folds", 2)
        before = listing(tmp_path)
        words = ("plan_and_preprocess", "-d", "Knot", "--root", tmp_path, "--preset", "smoke", "--workers", 1)
        assert "nothing was written" in done(*words, "--dry-run").out
        assert "would do:" in done("run", "-d", "Knot", "--root", tmp_path, "--dry-run").out
        assert listing(tmp_path) == before

    def test_a_second_run_trains_nothing_again(self, whole_way: WholeWay) -> None:
        models, cases = whole_way.folder / "models", whole_way.folder / "preprocessed"
        before = listing(models, cases)
        outcome = done("run", "-d", "Knot", "--root", whole_way.root, "--preset", "smoke", "--workers", 1)
        assert "0 cases to preprocess, 4 are there" in outcome.err
        assert listing(models, cases) == before
        report = (whole_way.folder / "report/default/report.html").read_text()
        assert "core" in report
        assert "http://" not in report.replace("http://www.w3.org", "")
        assert f"report: {whole_way.folder}" in outcome.out

    def test_two_plans_side_by_side(self, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("-d", "Knot", "--root", whole_way.root, "--compare", tmp_path / "other.json")
        plan = Plan.parse((whole_way.folder / "plans/default/plan.json").read_bytes(), file="")
        first, *rest = plan.decisions
        changed = first.model_copy(update={"value": "seven"})
        other = plan.model_copy(update={"name": "other", "decisions": (changed, *rest)})
        (tmp_path / "other.json").write_text(other.to_json())
        (row,) = done("explain", *at, "--json").json()
        assert row == {
            "what": first.what,
            "first": f"{first.value}: {first.because}",
            "second": f"seven: {first.because}",
        }
        said = done("explain", *at).out
        assert "default (smoke" in said
        assert "other (smoke" in said
        assert "Check the path" in refused("explain", *at[:-1], tmp_path / "none.json", code=2)

    def test_explain_and_status_and_doctor_say_it_in_words(self, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("-d", "Knot", "--root", whole_way.root)
        assert "the preset allows at most 2" in done("explain", *at).out
        assert "default/smoke_3d/base_s0/fold_0" in done("status", *at).out
        assert "import a data set with" in done("status", "--root", tmp_path / "nothing").out
        assert "can be written" in done("doctor", "--root", tmp_path).out

    def test_models_side_by_side(self, whole_way: WholeWay, tmp_path: Path) -> None:
        at = ("-d", "Knot", "--root", whole_way.root)
        before = listing(whole_way.root)
        outcome = done("compare", *at)
        assert "folds 0, 1: 4 held-out cases of 4 patients" in outcome.out
        assert "default/smoke_2d/base_s0" in outcome.out
        assert "preset" in outcome.out
        assert "best" in outcome.out
        table = done("compare", *at, "--plan", "default", "--json").json()
        assert {row["name"] for row in table["rows"]} == {"default/smoke_2d/base_s0", "default/smoke_3d/base_s0"}
        assert all(row["training_hours"] > 0 and row["parameters"] > 0 for row in table["rows"])
        assert "There are: default" in refused("compare", *at, "--plan", "dfault", code=2)
        assert listing(whole_way.root) == before
        done("compare", *at, "--csv", tmp_path / "table.csv")
        first = (tmp_path / "table.csv").read_text().splitlines()[1]
        assert first.startswith(table["rows"][0]["name"])
        assert (tmp_path / "table_structures.csv").read_text().count("rim") == 2
        assert (tmp_path / "table_ranks.csv").read_text().count("rank_then_mean") == 4

    def test_where_to_cut(self, whole_way: WholeWay) -> None:
        at = ("froc", "-d", "Knot", "--root", whole_way.root)
        said = done(*at, "--structure", "core").out
        assert "core: 4 lesions in 4 held-out cases" in said
        assert "Out of fold" in said
        (curve,) = done(*at, "--structure", "rim", "--model", "default/smoke_3d/base_s0", "--json").json()
        assert set(curve["chosen"]) == {"0", "1"}
        assert "There are: core, rim" in refused(*at, "--structure", "stem", code=2)
        assert "There are: default/smoke_2d/base_s0" in refused(*at, "--model", "nonsense", code=2)

    def test_the_comparison_is_in_the_report(self, whole_way: WholeWay, tmp_path: Path) -> None:
        shutil.copytree(whole_way.root, tmp_path / "one")
        own = ("-d", "Knot", "--root", tmp_path / "one")
        done("report", *own)
        page = tmp_path / "one/Knot/report/default/report.html"
        assert "<h2>Models compared</h2>" in page.read_text()
        choice = EnsembleChoice.parse((tmp_path / "one/Knot/ensemble/default/choice.json").read_bytes(), file="")
        kept = choice.members[0]
        (other,) = {"smoke_2d", "smoke_3d"} - {kept.split("/")[1]}
        shutil.rmtree(tmp_path / "one/Knot/models/default" / other)
        assert f"only {kept} was trained" in refused("compare", *own, code=2)
        done("report", *own)
        assert "Models compared" not in page.read_text()

    def test_a_path_names_the_data_set_too(self, whole_way: WholeWay) -> None:
        assert "smoke_3d" in done("status", "-d", f"{whole_way.folder}/").out

    def test_an_ensemble_within_a_cost_by_another_metric(self, whole_way: WholeWay, tmp_path: Path) -> None:
        shutil.copytree(whole_way.root, tmp_path / "copy")
        at = ("ensemble", "-d", "Knot", "--root", tmp_path / "copy")
        said = done(*at, "--metric", "surface_dice").said
        assert "on the cases that made the choice: optimistic" in said
        assert "each case judged by a choice made without it" in said
        choice = EnsembleChoice.parse((tmp_path / "copy/Knot/ensemble/default/choice.json").read_bytes(), file="")
        assert choice.metric == "surface_dice"
        assert [item.figure for item in choice.estimates] == ["dice", "surface_dice"]
        assert [(fit.part, fit.cases) for fit in choice.cross_fits] == [("fold 0", 2), ("fold 1", 2)]
        assert choice.calibration is not None
        assert choice.seconds_per_case > 0
        assert "the cheapest, default/smoke_" in refused(*at, "--seconds-per-case", "0.001", code=2)
        assert typed(*at, "--metric", "accuracy").code == 2

    def test_a_variant_trains_beside(self, whole_way: WholeWay, tmp_path: Path) -> None:
        shutil.copytree(whole_way.root, tmp_path / "copy")
        at = ("-d", "Knot", "--root", tmp_path / "copy", "-c", "smoke_2d", "-f", "0")
        before = listing(tmp_path / "copy" / "Knot" / "models")
        message = refused("train", *at, "--set", "learning_rate=1e-4", code=2)
        assert "Add --variant NAME" in message
        done("train", *at, "--set", "steps_per_epoch=2", "--variant", "short", "--seed", 3)
        after = listing(tmp_path / "copy" / "Knot" / "models")
        assert {name: after[name] for name in before} == before
        assert (tmp_path / "copy/Knot/models/default/smoke_2d/short_s3/fold_0/model.json").exists()
        other = refused("train", *at, "--set", "steps_per_epoch=3", "--variant", "short", "--seed", 3, code=3)
        assert "--set steps_per_epoch=2" in other
        assert "--variant" in other
        assert "default/smoke_2d/short_s3" in done("status", *at[:4]).out


class TestNewScans:
    def test_values_and_geometry_come_home(self, predicted: Path) -> None:
        assert sorted(path.name for path in predicted.iterdir()) == ["new_1.nii.gz", "new_2.nii.gz"]
        for name in ("new_1", "new_2"):
            scan = nibabel.load(predicted.parent / "scans" / f"{name}.nii.gz")
            label_map = nibabel.load(predicted / f"{name}.nii.gz")
            assert label_map.shape == scan.shape
            np.testing.assert_allclose(label_map.affine, scan.affine, atol=1e-4)
            assert set(np.unique(np.asarray(label_map.dataobj))) == {0, 1, 5}
            assert label_map.get_data_dtype() == np.uint8
            assert b"autoseg" in bytes(label_map.header["descrip"])

    def test_evaluate_reads_what_predict_wrote(self, predicted: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        (tmp_path / "truth").mkdir()
        shutil.copy(builders.label_file(whole_way.raw, "MR_1"), tmp_path / "truth" / "new_1.nii.gz")
        words = ("evaluate", "-p", predicted, "-t", tmp_path / "truth", "-d", "Knot", "--root", whole_way.root)
        outcome = done(*words, "-o", tmp_path / "scores.csv")
        assert "1 cases, mean Dice" in outcome.out
        assert "predictions without a truth left out: new_2" in outcome.err
        assert (tmp_path / "scores.csv").read_text().count("new_1") == 2
        assert {item["structure"] for item in done(*words, "--json").json()["scores"][0]["structures"]} == {
            "core",
            "rim",
        }
        assert "ASSD mm" in outcome.out
        assert "lesion F1" not in outcome.out
        counted = done(*words, "--lesions", "-o", tmp_path / "scores.csv")
        assert "lesion F1" in counted.out
        assert (tmp_path / "scores_lesions.csv").read_text().startswith("case,structure,kind,place,x_mm")

    def test_evaluate_all_that_there_is(self, predicted: Path, whole_way: WholeWay, tmp_path: Path) -> None:
        (tmp_path / "truth").mkdir()
        shutil.copy(builders.label_file(whole_way.raw, "MR_1"), tmp_path / "truth" / "new_1.nii.gz")
        table = tmp_path / "tolerances.csv"
        table.write_text("structure,tolerance_mm\nrim,0.5\n")
        words = ("evaluate", "-p", predicted, "-t", tmp_path / "truth", "-d", "Knot", "--root", whole_way.root)
        words = (*words, "--metrics", "all", "--tolerances", table, "--by", "lesion_count", "--by", "lesion_place")
        said = done(*words).out
        assert all(part in said for part in ("slice Dice", "added path mm", "GI-tract score", "panoptic quality"))
        assert "lesion_count 1: 1 cases" in said
        assert "lesions by their side of the scan's middle" in said
        content = done(*words, "--json").json()
        core, rim = content["scores"][0]["structures"]
        assert (core["surface_dice_tolerance_mm"], rim["surface_dice_tolerance_mm"]) == (2.0, 0.5)
        assert core["slice_dice"] > 0
        assert {part["attribute"] for part in content["parts"]} == {"lesion_count"}
        assert "no case of data set Knot has the attribute 'site'" in refused(*words, "--by", "site", code=2)
        assert "--by site needs a data set" in refused(*words[:5], "--by", "site", code=2)
        assert "--metrics 'dyce' is no figure" in refused(*words[:5], "--metrics", "dyce", code=2)
        table.write_text("structure,tolerance_mm\nstem,0.5\n")
        assert "'stem', which is no structure here. There are: core, rim." in refused(*words, code=3)

    def test_doubt_is_written_beside_the_same_labels(
        self, predicted: Path, whole_way: WholeWay, tmp_path: Path
    ) -> None:
        words = ("predict", "-d", "Knot", "--root", whole_way.root, "-i", predicted.parent / "scans", "-o", tmp_path)
        said = done(*words, *QUICK, "--uncertainty", "--refer", "0.9").said
        assert "2 scans to look at: Dice may be below 0.9" in said
        assert "too few cases were held out" in said  # four cases are no nine
        assert (tmp_path / "new_1.nii.gz").read_bytes() == (predicted / "new_1.nii.gz").read_bytes()
        kinds = ("disagreement.nii.gz", "entropy.nii.gz", "quality.json")
        maps = sorted(path.name for path in (tmp_path / "uncertainty").iterdir())
        assert maps == [f"new_{n}_{rest}" for n in (1, 2) for rest in kinds]
        entropy = nibabel.load(tmp_path / "uncertainty/new_1_entropy.nii.gz")
        assert entropy.shape == nibabel.load(tmp_path / "new_1.nii.gz").shape
        assert 0 < np.asarray(entropy.dataobj).max() <= 1

    def test_one_file_and_a_member(self, whole_way: WholeWay, tmp_path: Path) -> None:
        words = ("predict", "-d", "Knot", "--root", whole_way.root, "-o", tmp_path, *QUICK)
        scan = builders.image_file(whole_way.raw, "MR_1")
        written = done(*words, "-i", scan, "-m", "default/smoke_3d/base_s0", "--json").json()
        assert written == {"MR_1": str(tmp_path / "MR_1.nii.gz")}
        assert "There is: default/smoke_2d/base_s0, default/smoke_3d/base_s0" in refused(
            *words, "-i", scan, "-m", "nonsense", code=2
        )


def test_phantom_heads_with_a_missing_organ(tmp_path: Path) -> None:
    write_phantom(tmp_path / "heads", cases=4, unseen=1)
    at = ("-d", "Heads", "--root", tmp_path / "work")
    said = done("import", tmp_path / "heads", "--as", "Heads", *at[2:], "--folds", 2).out
    assert "hanseg layout, 4 cases" in said
    assert "channels: CT (ct), MR_T1 (mr)" in said
    report = done("check", *at, "--workers", 1, "--json").json()
    assert not [item for item in report["problems"] if item["severity"] == "error"]
    cases = Dataset.parse((tmp_path / "work/Heads/dataset.json").read_bytes(), file="").cases
    assert cases[0].annotated is None or "Eye_L" in cases[0].annotated
    assert cases[3].annotated is not None
    assert "Eye_L" not in cases[3].annotated


class TestSlips:
    """Exit code 2, one line, and what there is instead."""

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (("train", "-f", "7"), "0, 1, all"),
            (("train", "-f", "0..x"), "Write 0..4, 0,2 or all"),
            (("train", "-f", "first"), "Write 0..4, 0,2 or all"),
            (("train", "-c", "smoke_4d"), "smoke_3d"),
            (("train", "--plan", "better"), "There are: default"),
            (("train", "--variant", "v", "--set", "epoch=3"), "epochs"),
            (("train", "--variant", "v", "--set", "epochs"), "Write --set key=value"),
            (("train", "--variant", "v", "--set", "epochs=many"), "epochs"),
            (("train", "--device", "cudda"), "cpu"),
            (("plan_and_preprocess", "--preset", "unett", "--dry-run"), "unet"),
            (("explain", "--plan", "better"), "There are: default"),
            (("report", "--plan", "better"), "There are: default"),
        ],
        ids=lambda part: " ".join(map(str, part)) if isinstance(part, tuple) else "",
    )
    def test_of_the_pen(self, whole_way: WholeWay, words: tuple[str, ...], sentence: str) -> None:
        before = listing(whole_way.root)
        message = refused(words[0], "-d", "Knot", "--root", whole_way.root, *words[1:], code=2)
        assert sentence in message
        assert listing(whole_way.root) == before

    @pytest.mark.parametrize(
        "command",
        [("check",), ("train",), ("explain",), ("report",), ("ensemble",), ("predict", "-i", "in", "-o", "out")],
    )
    def test_unknown_data_set(self, whole_way: WholeWay, command: tuple[str, ...]) -> None:
        message = refused(command[0], "-d", "Not", "--root", whole_way.root, *command[1:], code=2)
        assert "no data set 'Not'" in message
        assert "There are: Knot." in message

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        message = refused("predict", "-m", tmp_path / "notes.md", "-i", tmp_path, "-o", tmp_path / "out", code=2)
        assert "notes.md: this is no model file. Give a .zip" in message

    def test_status_before_anything_is_planned(self, whole_way: WholeWay, tmp_path: Path) -> None:
        done("import", whole_way.raw, "--as", "Knot", "--root", tmp_path)
        assert "next: autoseg plan_and_preprocess -d Knot" in done("status", "-d", "Knot", "--root", tmp_path).out

    def test_unknown_data_set_as_json(self, whole_way: WholeWay) -> None:
        outcome = typed("check", "-d", "Not", "--root", whole_way.root, "--json")
        assert outcome.code == 2
        assert outcome.json()["error"]["code"] == "no_dataset"

    def test_nothing_planned_trained_or_chosen_yet(self, whole_way: WholeWay, tmp_path: Path) -> None:
        done("import", whole_way.raw, "--as", "Knot", "--root", tmp_path)
        at = ("-d", "Knot", "--root", tmp_path)
        for command in ("train", "ensemble", "explain", "report"):
            assert "Run `autoseg plan_and_preprocess -d Knot`" in refused(command, *at, code=2)
        (tmp_path / "Knot/plans/default").mkdir(parents=True)
        shutil.copy(whole_way.folder / "plans/default/plan.json", tmp_path / "Knot/plans/default")
        assert "train" in refused("ensemble", *at, code=2)
        scans = whole_way.raw / "imagesTr"
        assert "autoseg ensemble -d Knot" in refused("predict", *at, "-i", scans, "-o", tmp_path / "out", code=2)
        assert not (tmp_path / "out").exists()

    def test_wrong_paths(self, whole_way: WholeWay, tmp_path: Path) -> None:
        assert "does not exist" in refused("import", tmp_path / "no", "--as", "A", "--root", tmp_path / "w", code=3)
        assert not (tmp_path / "w").exists()
        words = ("predict", "-d", "Knot", "--root", whole_way.root, "-o", tmp_path / "out")
        assert "Check the path after -i" in refused(*words, "-i", tmp_path / "no", code=2)
        (tmp_path / "empty").mkdir()
        assert "there is no image in here" in refused(*words, "-i", tmp_path / "empty", code=2)  # F47
        assert not (tmp_path / "out").exists()
        message = refused("evaluate", "-p", tmp_path / "no", "-t", builders.label_file(whole_way.raw).parent, code=2)
        assert str(tmp_path / "no") in message

    @pytest.mark.parametrize("name", ["a b", "", "-x", "x" * 101, ".hidden"])
    def test_unsafe_names(self, whole_way: WholeWay, tmp_path: Path, name: str) -> None:
        before = listing(tmp_path)
        outcome = typed("import", whole_way.raw, f"--as={name}", "--root", tmp_path / "w")
        assert outcome.code in (2, 3), outcome.said
        assert "name" in outcome.err
        assert "Traceback" not in outcome.err
        assert listing(tmp_path) == before

    def test_a_path_that_was_typed_is_meant(self, whole_way: WholeWay, tmp_path: Path) -> None:
        done("import", whole_way.raw, "--as", tmp_path / "here" / "Knot", "--root", tmp_path / "w")
        assert (tmp_path / "here/Knot/dataset.json").exists()
        assert not (tmp_path / "w").exists()

    @pytest.mark.parametrize("name", ["../x", "a/b", "a b"])
    def test_unsafe_plan_and_variant(self, whole_way: WholeWay, name: str) -> None:
        at = ("-d", "Knot", "--root", whole_way.root)
        before = listing(whole_way.root.parent)
        assert "is not a safe name" in refused("explain", *at, "--plan", name, code=3)
        assert "is not a safe name" in refused("train", *at, "--variant", name, "--dry-run", code=3)
        assert "is not a safe name" in refused("train", *at, "--variant", name, code=3)
        assert listing(whole_way.root.parent) == before

    def test_a_bug_keeps_its_traceback_and_a_user_error_too_when_asked(self, whole_way: WholeWay) -> None:
        from autoseg.records.errors import UsageError

        with pytest.raises(UsageError):
            typed("check", "-d", "Not", "--root", whole_way.root, "--debug")
