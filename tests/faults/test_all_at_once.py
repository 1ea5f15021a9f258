"""A folder that holds one of each fault, and one run of the check that finds all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.records.check import CheckReport, Problem
from tests.command_line import done, refused, typed
from tests.faults import builders

OF_THE_IMPORT = ("f44", "f48", "f49", "f50", "f53")
OF_THE_SET = ("f18",)
NAMED_BY_THE_IMPORT = ("f04_missing_file",)
FAULTY = {
    name: builder
    for name, builder in builders.FAULTS.items()
    if not name.startswith((*OF_THE_IMPORT, *OF_THE_SET)) and name not in NAMED_BY_THE_IMPORT
}


def gather(folder: Path, scratch: Path) -> dict[str, builders.FaultCase]:
    """Write a healthy data set and beside it a case for each fault, named after it."""
    builders.healthy(folder)
    found = {}
    for name, builder in FAULTY.items():
        alone = builders.healthy(scratch / name, cases=3)
        found[name] = builder(alone)
        for pick in (builders.image_file, builders.label_file):
            shutil.copy(pick(alone), pick(folder, name), follow_symlinks=False)
    return found


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[CheckReport, dict[str, builders.FaultCase], Path]:
    folder = tmp_path_factory.mktemp("all")
    faults = gather(folder / "raw", folder / "scratch")
    done("import", folder / "raw", "--as", "D", "--root", folder / "w")
    outcome = typed("check", "-d", "D", "--root", folder / "w", "--workers", 1, "--json")
    assert outcome.code == 3
    return CheckReport.parse(outcome.out, file=""), faults, folder


@pytest.mark.parametrize("name", FAULTY)
def test_each_fault_is_found_beside_all_the_others(
    checked: tuple[CheckReport, dict[str, builders.FaultCase], Path], name: str
) -> None:
    report, faults, _ = checked
    errors: list[Problem] = [item for item in report.errors() if item.case == name]
    fault = faults[name]
    if fault.handled:
        assert errors == []
        return
    assert fault.code in {item.code for item in errors}
    row = next(item for item in errors if item.code == fault.code)
    assert row.file and name in row.file  # noqa: PT018
    said = f"{row.what} {row.fix}".replace(name, builders.BAD)
    assert [word for word in fault.words if word not in said] == []


def test_no_healthy_case_is_blamed(checked: tuple[CheckReport, dict[str, builders.FaultCase], Path]) -> None:
    report, _, _ = checked
    assert not {item.case for item in report.errors()} & {*builders.CASES, None}
    assert report.cases == len(FAULTY) + len(builders.CASES)


def test_skip_bad_goes_on_with_the_rest(
    checked: tuple[CheckReport, dict[str, builders.FaultCase], Path],
) -> None:
    report, faults, folder = checked
    at = ("-d", "D", "--root", folder / "w")
    assert "--skip-bad" in refused("run", *at, "--preset", "smoke", "--workers", 1, code=3)
    outcome = typed("plan_and_preprocess", *at, "--preset", "smoke", "--workers", 1, "--skip-bad")
    assert outcome.code == 0, outcome.said
    bad = {item.case for item in report.errors()}
    assert f"--skip-bad left out {len(bad)} cases" in outcome.err
    assert (
        "no problem found" in typed("check", *at, "--workers", 1).said or typed("check", *at, "--workers", 1).code == 0
    )
    kept = {path.stem for path in (folder / "w/D/preprocessed").glob("*/*.json")}
    assert kept == {*builders.CASES, *faults} - bad


@pytest.mark.parametrize(
    ("what", "code"), [("f23 all labels empty", "all_labels_empty"), ("f54 the same scan twice", "duplicate_image")]
)
def test_faults_of_a_whole_data_set(tmp_path: Path, what: str, code: str) -> None:
    folder = builders.healthy(tmp_path / "raw")
    if what.startswith("f23"):
        for case in builders.CASES:
            builders.save(builders.label_file(folder, case), np.zeros(builders.SHAPE, np.uint8))
    else:
        shutil.copy(builders.image_file(folder, "MR_1"), builders.image_file(folder, "MR_5"))
    done("import", folder, "--as", "D", "--root", tmp_path / "w")
    report = typed("check", "-d", "D", "--root", tmp_path / "w", "--workers", 1, "--json").json()
    assert code in {item["code"] for item in report["problems"]}


def test_f10_f11_f22_warnings_of_single_cases(tmp_path: Path) -> None:
    folder = builders.healthy(tmp_path / "raw")
    builders.save(builders.image_file(folder, "MR_1"), np.full(builders.SHAPE, 9, np.int16))
    builders.save(builders.image_file(folder, "MR_2"), np.zeros(builders.SHAPE, np.int16))
    builders.save(builders.label_file(folder, "MR_4"), np.zeros(builders.SHAPE, np.uint8))
    done("import", folder, "--as", "D", "--root", tmp_path / "w")
    outcome = typed("check", "-d", "D", "--root", tmp_path / "w", "--workers", 1, "--json")
    found = {(item["case"], item["code"]) for item in outcome.json()["problems"]}
    assert outcome.code == 0
    assert {("MR_1", "constant_image"), ("MR_2", "zero_image"), ("MR_4", "empty_labels")} <= found
