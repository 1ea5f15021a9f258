"""nnU-Net's own planners beside the rules in conformance mode: patch, batch, spacing, strides, kernels, features."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from autoseg.records.plan import Plan
from autoseg.stages.planning import load_preset, make_plan
from tests.stages.planning.examples import device, fingerprint, labels, linear_cost, preset

# Shape, spacing, structures, memory in GB.
DATASETS = [
    ((36, 50, 35), (1, 1, 1), 2, 8),
    ((180, 300, 300), (2, 0.98, 0.98), 30, 8),
    ((155, 240, 240), (1, 1, 1), 1, 8),
    ((10, 256, 216), (10, 1.5625, 1.5625), 3, 8),
    ((20, 320, 320), (3.6, 0.625, 0.625), 1, 8),
    ((482, 512, 512), (1, 0.77, 0.77), 2, 24),
    ((96, 512, 512), (2.5, 0.8, 0.8), 1, 8),
    ((60, 60, 200), (0.5, 0.5, 0.5), 1, 4),
    ((252, 252, 126), (1, 1, 1), 1, 8),
    ((144, 266, 266), (3, 1.5, 1.5), 3, 12),
]
# nnU-Net's element counts in 3D and 2D, at 8 GB, and the memory that each of its presets is for.
LIMITS = {
    "residual_unet_m": ((680e6, 135e6), 8),
    "residual_unet_l": ((700e6, 380e6 / 3), 24),
    "residual_unet_xl": ((720e6, 112e6), 40),
}
# Each data set plain, and with one of the residual presets by turns.
RESIDUAL = [list(LIMITS)[number % len(LIMITS)] for number in range(len(DATASETS))]
NAMES = {"2d": "unet_2d", "3d_fullres": "unet_3d", "3d_lowres": "unet_3d_lowres"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> list[dict]:
    return planned(["plain"] * len(DATASETS), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> list[dict]:
    return planned(RESIDUAL, tmp_path_factory.mktemp("residual"))


def planned(planners: list[str], folder: Path) -> list[dict]:
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has nnunetv2")
    asked = [
        {
            "planner": planner,
            "shapes": [shape] * 30,
            "spacings": [spacing] * 30,
            "structures": structures,
            "memory_gb": LIMITS[planner][1] if planner in LIMITS else memory_gb,
        }
        for planner, (shape, spacing, structures, memory_gb) in zip(planners, DATASETS, strict=True)
    ]
    (folder / "asked.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name("peer_plans.py")
    subprocess.run([peers, script, folder], check=True, timeout=280, capture_output=True)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.peer
@pytest.mark.parametrize("number", range(len(DATASETS)), ids=[str(item[0]) for item in DATASETS])
def test_conformance_mode_plans_what_nnunet_plans(plain, number):
    shape, spacing, structures, memory_gb = DATASETS[number]
    found = fingerprint(30, shape, spacing, kind="ct", of=labels(structures))
    plan = make_plan(found, [preset(conformance=(560e6, 85e6))], device(memory_gb), cost=linear_cost)
    check(plan, plain[number])


@pytest.mark.peer
@pytest.mark.parametrize("number", range(len(DATASETS)), ids=[str(item[0]) for item in DATASETS])
def test_so_do_the_residual_presets(residual, number):
    shape, spacing, structures, _ = DATASETS[number]
    limits, memory_gb = LIMITS[RESIDUAL[number]]
    found = fingerprint(30, shape, spacing, kind="ct", of=labels(structures))
    # Theirs drop the bound of a twentieth of the data set.
    chosen = preset(conformance=limits, voxel_fraction=1.0, max_batch=10**6)
    chosen = chosen.model_copy(update={"network": load_preset(RESIDUAL[number]).network})
    check(make_plan(found, [chosen], device(memory_gb), cost=linear_cost), residual[number])


def check(plan: Plan, theirs: dict) -> None:
    ours = {item.name: item for item in plan.configurations}
    assert {NAMES[name] for name in theirs} == set(ours) - {"unet_3d_cascade"}
    for name, expected in theirs.items():
        item = ours[NAMES[name]]
        axes = len(expected["patch"])
        assert list(item.patch_shape[-axes:]) == expected["patch"], name
        assert item.batch_size == expected["batch"], name
        assert [round(mm, 6) for mm in item.spacing_mm[-axes:]] == [round(mm, 6) for mm in expected["spacing"]]
        for key in ("strides", "kernels", "features"):
            assert item.architecture.arguments[key] == expected[key], f"{name} {key}"
