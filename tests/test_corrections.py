"""Corrections from the command line on: shown, stored, carried by the plan, done to new scans, undone on export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import bias_field, fields, home
from autoseg.images.cases import read_image, read_labels
from autoseg.pipeline import preparing
from autoseg.records.dataset import Dataset
from autoseg.records.requests import PlanRequest
from autoseg.stages import preprocessing
from autoseg.workspace import Workspace
from tests.command_line import done, refused, typed
from tests.faults import builders


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Scans of a bright body in air that fills a part of the field, and one stray labelled voxel in each."""
    folder = builders.healthy(tmp_path / "raw", cases=3)
    for number, case in enumerate(builders.CASES[:3]):
        image, labels = builders.scan(number)
        z, y, x = np.indices(image.shape)
        air = ((2 * (z - 12)) ** 2 + (y - 20) ** 2 + (x - 20) ** 2) > 14**2
        image[air] = image[air] // 20 + 1
        labels[3, 20, 20] = 2
        builders.save(builders.image_file(folder, case), image)
        builders.save(builders.label_file(folder, case), labels)
    return folder


def imported(source: Path, root: Path, *words: object) -> Dataset:
    return Dataset.parse(done("import", source, "--as", "D", "--root", root, *words, "--json").out, file="")


def test_the_chain_is_shown_stored_and_planned(source: Path, tmp_path: Path) -> None:
    words = ("--n4", "all-mr", "--drop-specks", 10, "--crop-foreground", "--nan", "fill=min")
    said = done("import", source, "--as", "D", "--root", tmp_path / "w", *words).out
    kinds = ["fill_nan", "n4", "crop_foreground", "drop_specks", "orient"]
    assert [line.split()[1] for line in said.splitlines() if line.startswith("correction:")] == kinds
    work = Workspace.locate("D", tmp_path / "w")
    assert [item.kind for item in work.dataset().corrections] == kinds
    plan = preparing.make_plan(work, PlanRequest(presets=("smoke",)), workers=1)
    assert plan.corrections == work.dataset().corrections


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--n4", "T9"), "there is no channel 'T9'"),
        (("--drop-specks", -1), "specks below -1 mm3 mean nothing"),
    ],
)
def test_wishes_that_mean_nothing(source: Path, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:
    assert sentence in refused("import", source, "--as", "D", "--root", tmp_path / "w", *words, code=2)


def test_what_is_no_mr_has_no_bias_field(source: Path, tmp_path: Path) -> None:
    builders.write_json(source, channel_names={"0": "CT"})
    at = ("import", source, "--as", "D", "--root", tmp_path / "w")
    assert "channel CT is ct, which has no bias field" in refused(*at, "--n4", "CT", code=2)
    assert "no channel is MR: CT (ct)" in refused(*at, "--n4", "all-mr", code=2)


def test_a_crop_comes_back_exactly_and_specks_are_gone(source: Path, tmp_path: Path) -> None:
    dataset = imported(source, tmp_path / "w", "--crop-foreground", "--drop-specks", 10)
    case = dataset.cases[0]
    image = read_image(case.images, dataset.channels, dataset.corrections, case=case.id)
    assert case.labels is not None
    labels = read_labels(case.labels, dataset.labels, image.grid, case=case.id, corrections=dataset.corrections)
    whole = builders.scan(0)[1]
    assert np.array_equal(labels.array, whole)  # the stray voxel (2 mm3) is gone, all else stays
    assert labels.notes == ("1 specks below 10 mm3 (1 voxels) were removed from the labels",)
    plan = preparing.make_plan(Workspace.locate("D", tmp_path / "w"), PlanRequest(presets=("smoke",)), workers=1)
    configuration = plan.configurations[0]
    seen = preprocessing.prepare(image, labels, configuration, case=case.id)
    assert np.prod(seen.passage.crop.shape) < 0.8 * whole.size
    logits = np.stack([seen.labels == value for value in range(3)]).astype(np.float32) * 20 - 10
    back = home.home([fields.Field(logits, seen.passage)], output="softmax")
    assert np.array_equal(back, whole)


def test_n4_is_done_to_the_channel_before_anything_else(source: Path, tmp_path: Path) -> None:
    shaded, plain = (imported(source, tmp_path / name, *words) for name, words in (("a", ("--n4", "MRI")), ("b", ())))
    case = shaded.cases[0]
    corrected, raw = (read_image(case.images, d.channels, d.corrections, case=case.id) for d in (shaded, plain))
    assert corrected.notes[0].startswith("channel MRI: bias field corrected")
    assert not np.array_equal(corrected.array, raw.array)
    assert np.corrcoef(corrected.array.ravel(), raw.array.ravel())[0, 1] > 0.9


def test_the_bias_field_of_a_case_is_searched_for_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = imported(source, tmp_path / "w", "--n4", "MRI")
    at = ("-d", "D", "--root", tmp_path / "w", "--workers", 1)
    typed("check", *at)
    kept = Workspace.locate("D", tmp_path / "w").registrations / "bias_fields"
    fields = {path: path.read_bytes() for path in kept.iterdir()}
    assert len(fields) == len(dataset.cases)

    def search(*_: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(bias_field, "_log_field", search)
    done("plan_and_preprocess", *at, "--preset", "smoke")
    assert {path: path.read_bytes() for path in kept.iterdir()} == fields
