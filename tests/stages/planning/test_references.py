"""The plans under plans/reference, made again from the dry runs stored beside them."""

import datetime
import json
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_rules_still_make_the_reference_plan(file):
    fingerprint, plan, points = stored(file)
    cost = reading(points, preset=plan.presets[0], file=file.parent / "points.json")
    assert again(fingerprint, plan, cost) == plan


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_planned_step_fits_its_card(file):
    _, plan, _ = stored(file)
    for item in plan.configurations:
        assert item.memory.peak_bytes <= plan.device.budget_bytes()


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
