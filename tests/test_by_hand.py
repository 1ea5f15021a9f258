"""Plans made by hand, end to end: 2.5D and twins that are swapped or split are trained, predict and are told of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoseg.images.files import read_volume
from autoseg.records.calibration import Calibration, Rate
from autoseg.records.dataset import Dataset
from autoseg.records.machine import DeviceProfile
from autoseg.storage import write_record
from autoseg.workspace import Workspace
from tests.command_line import done, listing, refused
from tests.conftest import WholeWay, measure_little
from tests.faults import builders


@pytest.fixture
def work(whole_way: WholeWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The tiny data set, whose two structures count as twins."""
    measure_little(monkeypatch)
    shutil.copytree(whole_way.root, tmp_path / "workspace")
    work = Workspace.locate("Knot", tmp_path / "workspace")
    labels = work.dataset().labels.model_copy(update={"mirror_pairs": ((1, 2),)})
    write_record(work.dataset_file, Dataset.model_validate(work.dataset().model_copy(update={"labels": labels})))
    return work


def planned(work: Workspace, *settings: str) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    done(
        *("plan_and_preprocess", "-d", "Knot", "--preset", "smoke", "--plan", "mine", "--workers", 1),
        *words,
        *("--root", work.folder.parent),
    )


@pytest.mark.parametrize("settings", [("context_slices=1", "left_right=swap"), ("context_slices=0",)])
def test_a_plan_by_hand_trains_and_predicts(work: Workspace, whole_way: WholeWay, tmp_path: Path, settings) -> None:
    planned(work, *settings, "batch_size=1")
    plan, root = work.plan("mine"), work.folder.parent
    flat = plan.configuration("smoke_2d")
    assert flat.batch_size == 1
    assert flat.context_slices == int(settings[0][-1])
    assert flat.architecture.input_channels == len(plan.channels) * (2 * flat.context_slices + 1)
    told = {item.what: item.because for item in plan.decisions}
    assert told["planning.batch_size"] == "set by hand"
    done("train", "-d", "Knot", "--plan", "mine", "-c", "smoke_2d", "-f", "0", "--root", root)
    forecast = {item.configuration: item for item in work.forecast("mine").configurations}
    assert "smoke_2d" in forecast
    scan = builders.image_file(whole_way.raw, builders.CASES[0])
    members = ("-m", "mine/smoke_2d/base_s0")
    done("predict", "-d", "Knot", "--plan", "mine", *members, "-i", scan, "-o", tmp_path / "out", "--root", root)
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    assert read_volume(written)[1].difference(read_volume(scan)[1]) is None


def test_a_spacing_and_a_normalisation_by_hand(work: Workspace) -> None:
    channel = work.dataset().channels[0].name
    planned(work, "spacing_mm=[2,2,2]", f"normalization.{channel}=minmax")
    full = work.plan("mine").configuration("smoke_3d")
    assert full.spacing_mm == (2, 2, 2)
    assert full.normalizations[0].kind == "minmax"
    told = {item.what: item.because for item in work.plan("mine").decisions}
    assert told["smoke_3d.spacing_mm"] == "set by hand in the preset"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--set", "batch_size=1"), "--set makes a plan by hand, which needs a name of its own"),
        (("--set", "batch=1", "--plan", "mine"), "unknown key 'batch' in [planning]"),
        (("--minutes", 5, "--hours", 1), "--minutes and --hours are one budget, given twice"),
        (("--calibration", "/none.json"), "there is no calibration yet"),
    ],
)
def test_slips_of_the_pen_are_answered(work: Workspace, words, sentence) -> None:
    said = refused(
        "plan_and_preprocess", "-d", "Knot", "--preset", "smoke", *words, "--root", work.folder.parent, code=2
    )
    assert sentence in said.replace("\n", " ")


def speeds(per_second: float) -> Calibration:
    """A device that does everything at one speed."""
    kinds = ("dense", "thin", "pointwise", "depthwise", "transposed", "matmul", "attention", "norm", "elementwise")
    made = ("place", "blur", "low_resolution", "intensity")
    rates = tuple(
        Rate(kind=kind, dimensions=0, width=0, precision=precision, memory_format="", per_second=per_second)
        for kind in kinds + made
        for precision in ("float32", "bfloat16")
    )
    device = DeviceProfile(kind="cuda", name="a card", memory_gb=4, fast_bfloat16=True)
    return Calibration(device=device, torch_version="0", call_seconds=0.0, rates=rates)


def test_a_calibration_file_plans_for_its_device_and_changes_nothing_but_the_times(work: Workspace, tmp_path) -> None:
    plans, hours = [], []
    for speed in (1e9, 1e10):
        write_record(tmp_path / "card.json", speeds(speed))
        before = listing(work.folder.parent)
        found = done(
            *("plan_and_preprocess", "-d", "Knot", "--preset", "smoke", "--calibration", tmp_path / "card.json"),
            *("--dry-run", "--json", "--root", work.folder.parent),
        ).json()
        assert listing(work.folder.parent) == before, "a dry run writes nothing"
        assert found["device"]["name"] == "a card"
        plans.append({key: value for key, value in found.items() if key != "inputs_digest"})
        done(
            *("plan_and_preprocess", "-d", "Knot", "--preset", "smoke", "--plan", "card", "--workers", 1),
            *("--calibration", tmp_path / "card.json", "--root", work.folder.parent),
        )
        assert work.forecast("card").calibrated
        hours.append(work.forecast("card").lineup_hours)
    assert plans[0] == plans[1]
    assert hours[0] > 5 * hours[1]
