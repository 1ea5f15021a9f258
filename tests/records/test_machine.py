from __future__ import annotations

import pytest

from autoseg.pipeline.timing import planned_for
from autoseg.records.calibration import Calibration
from autoseg.records.machine import CardOverhead, DeviceProfile
from autoseg.records.requests import PlanRequest

GB = 2**30
CARD = DeviceProfile(kind="cuda", name="a card", memory_gb=24.0, fast_bfloat16=True)
MEASURED = CARD.model_copy(update={"overhead": CardOverhead(context_bytes=GB, workspace_bytes=GB, fragmentation=1.15)})


def test_what_a_step_may_hold() -> None:
    assert CARD.budget_bytes() == pytest.approx((0.85 * 24 - 1) * GB)
    assert MEASURED.budget_bytes() == pytest.approx((23 / 1.15 - 1) * GB)  # 19 GB
    assert CARD.model_copy(update={"kind": "cpu", "memory_gb": 8.0}).budget_bytes() == 8 * GB


@pytest.mark.parametrize("device", [CARD, MEASURED, CARD.model_copy(update={"kind": "cpu"})])
def test_the_memory_for_a_step_is_enough_and_a_tenth_less_is_not(device: DeviceProfile) -> None:
    step_bytes = 7.77 * GB
    enough = device.memory_for(step_bytes)
    assert device.model_copy(update={"memory_gb": enough}).budget_bytes() >= step_bytes
    assert device.model_copy(update={"memory_gb": enough - 0.1}).budget_bytes() < step_bytes


def test_a_profile_without_a_measurement_is_stored_as_before() -> None:
    assert "overhead" not in CARD.to_json()
    assert DeviceProfile.parse(CARD.to_json(), file="x") == CARD
    assert DeviceProfile.parse(MEASURED.to_json(), file="x") == MEASURED


def test_a_plan_counts_on_what_the_card_was_measured_to_leave_and_on_no_speed() -> None:
    measured = MEASURED.model_copy(update={"flops_per_second": 1e12})
    found = Calibration(device=measured, torch_version="2", call_seconds=0.0, rates=())
    assert planned_for(CARD, None, PlanRequest()) == CARD
    assert planned_for(CARD, found, PlanRequest()) == MEASURED
    named = PlanRequest(calibration="a.json", memory_gb=12.0)
    assert planned_for(CARD, found, named) == measured.model_copy(update={"memory_gb": 12.0})
