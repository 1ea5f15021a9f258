"""The plans under plans/reference, made again from the dry runs stored beside them."""

import datetime
import itertools
import json
import math
from pathlib import Path

import pytest

from autoseg.records.errors import DataError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.plan import Plan
from autoseg.stages.planning import load_preset, make_plan
from autoseg.stages.planning.stored import reading, recording
from autoseg.workspace import plans_folder

FOLDER = plans_folder() / "reference"
FILES = sorted(FOLDER.glob("*/*gb.json"))
DATASETS = sorted({file.parent.name for file in FILES})


def is_taken(file: Path) -> bool:
    """Of the three cards of each preset and data set one, another one for the next preset."""
    preset, memory = file.stem.rsplit("_", 1)
    names = sorted({other.stem.rsplit("_", 1)[0] for other in FILES if other.parent == file.parent})
    return ("8gb", "24gb", "80gb").index(memory) == (names.index(preset) + DATASETS.index(file.parent.name)) % 3


TAKEN = [file for file in FILES if is_taken(file)]
LEFT = [file for file in FILES if file not in TAKEN]


def stored(file: Path) -> tuple[Fingerprint, Plan, dict]:
    fingerprint = Fingerprint.parse((file.parent / "fingerprint.json").read_text(), file=str(file))
    plan = Plan.parse(file.read_text(), file=str(file))
    points = json.loads((file.parent / "points.json").read_text())
    return fingerprint, plan, points.get(plan.presets[0], {})


def again(fingerprint: Fingerprint, plan: Plan, cost) -> Plan:
    return make_plan(fingerprint, [load_preset(plan.presets[0])], plan.device, cost=cost, version="reference")


def test_there_are_references():
    assert len(FILES) >= 9
    assert {file.parent.name for file in FILES} <= {path.parent.name for path in FOLDER.glob("*/fingerprint.json")}


def read(folder: str) -> dict[str, list[Plan]]:
    """A data set's plans by preset, in the order of their memory."""
    found: dict[str, list[Plan]] = {}
    for file in (FOLDER / folder).glob("*gb.json"):
        plan = Plan.parse(file.read_text(), file=str(file))
        found.setdefault(plan.presets[0], []).append(plan)
    return {preset: sorted(plans, key=lambda plan: plan.device.memory_gb) for preset, plans in found.items()}


def check(file: Path) -> None:
    fingerprint, plan, points = stored(file)
    cost = reading(points, preset=plan.presets[0], file=file.parent / "points.json")
    assert again(fingerprint, plan, cost) == plan


@pytest.mark.parametrize("file", TAKEN, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_rules_still_make_the_reference_plan(file):
    check(file)


@pytest.mark.slow
@pytest.mark.parametrize("file", LEFT, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_rules_still_make_the_other_reference_plans(file):
    check(file)


@pytest.mark.parametrize("folder", DATASETS)
def test_a_planned_step_fits_its_card(folder):
    for plan in (plan for plans in read(folder).values() for plan in plans):
        for item in plan.configurations:
            assert item.memory.peak_bytes <= plan.device.budget_bytes(), f"{item.name} {plan.device.memory_gb}"


@pytest.mark.parametrize("folder", DATASETS)
def test_more_memory_never_plans_a_smaller_patch_and_at_an_equal_one_no_smaller_batch(folder):
    for plans in read(folder).values():
        assert [plan.device.memory_gb for plan in plans] == [8, 24, 80]
        for less, more in itertools.pairwise(plans):
            for kind in ("2d", "3d"):
                assert_no_smaller(less, more, f"{less.presets[0]}_{kind}")


def assert_no_smaller(less: Plan, more: Plan, name: str) -> None:
    pairs = [[item for item in plan.configurations if item.name == name] for plan in (less, more)]
    assert len(pairs[0]) == len(pairs[1])
    for small, large in zip(*pairs, strict=True):
        voxels, more_voxels = math.prod(small.patch_shape), math.prod(large.patch_shape)
        assert voxels <= more_voxels, name
        assert voxels < more_voxels or small.batch_size <= large.batch_size, name


def test_a_missing_point_names_the_preset():
    fingerprint, plan, _ = stored(FILES[0])
    with pytest.raises(DataError, match=f"no dry run of preset {plan.presets[0]}"):
        again(fingerprint, plan, reading({}, preset=plan.presets[0], file="points.json"))


@pytest.mark.slow
def test_a_tenth_of_the_dry_runs_measured_again_is_as_stored():
    from autoseg.networks.memory import measure_step

    week = datetime.date.today().isocalendar().week
    chosen = [file for number, file in enumerate(FILES) if number % 10 == week % 10]
    assert chosen
    for file in chosen:
        fingerprint, plan, points = stored(file)
        kept = {key: value for number, (key, value) in enumerate(sorted(points.items())) if number % 10 != week % 10}
        measured = dict(kept)
        again(fingerprint, plan, recording(measure_step, measured))
        for key, value in measured.items():
            assert value == pytest.approx(points[key], rel=0.01), f"{file.parent.name} {plan.presets[0]} {key}"
