"""Every kind of real data, cut down, goes the whole way and is predicted in the format that it came in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoseg.images import files
from tests.command_line import done, typed
from tests.conftest import measure_little

QUICK = ("--no-mirror", "--step", 1.0, "--format", "auto")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


def crop(source: Path, target: Path, size: int = 24, slices: int | None = None) -> None:
    """Keep the middle of the first slices of a volume, `size` voxels a side at most."""
    array, grid = files.read_volume(source)
    array = array[:slices]
    parts = [slice(max(0, (n - size) // 2), max(0, (n - size) // 2) + min(n, size)) for n in array.shape]
    small = array[tuple(parts)]
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_volume(target, small, grid.model_copy(update={"shape": small.shape}))


def cord(real: Path, folder: Path) -> Path:
    for path in (real / "cord_t2star").glob("*.nii.gz"):
        crop(path, folder / path.name, 48)
    return folder / "t2s_uncropped.nii.gz"


def lesions(real: Path, folder: Path) -> Path:
    for path in (real / "ms_lesions").glob("*/*.nii.gz"):
        crop(path, folder / path.parent.name / path.name, 80)
    return folder / "patient07"


def totalsegmentator(real: Path, folder: Path) -> Path:
    place = real / "totalsegmentator" / "s0001"
    names = ("ct", "segmentations/vertebrae_L1", "segmentations/aorta", "segmentations/brain")
    for path in (place / f"{name}.nii.gz" for name in names):
        # By their headers the masks cover the first 30 slices of the scan.
        crop(path, folder / "s0001" / path.relative_to(place), 64, slices=30)
    return folder / "s0001"


def spleen(real: Path, folder: Path) -> Path:
    place = real / "spleen_crop_bids"
    for path in (path for path in place.rglob("*") if path.is_file()):
        target = folder / path.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder / "sub-spleen2"


def heart(real: Path, folder: Path) -> Path:
    """Two pictures of each of three patients."""
    taken: dict[str, int] = {}
    for path in sorted((real / "sunnybrook_png").rglob("*.png")):
        patient, place = path.name.partition("-IM-")[0], path.relative_to(real / "sunnybrook_png")
        key = f"{patient} {path.parent}"
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= 2 and patient in ("SC-HF-I-01", "SC-N-02", "SC-HYP-01"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / place)
    return next(path for path in sorted(folder.rglob("*.png")) if "label" not in str(path).lower())


def test_masks_that_cover_a_part_of_the_scan_are_refused(real_data: Path, tmp_path: Path) -> None:
    root = ("--root", tmp_path / "workspace")
    done("import", real_data / "totalsegmentator", "--as", "It", *root)
    outcome = typed("check", "-d", "It", "--workers", 1, "--json", *root)
    assert outcome.code == 3
    (problem,) = outcome.json()["problems"]
    assert problem["code"] == "shape_mismatch"
    assert "labels have shape (30, 101, 122) (z, y, x) but the image has (112, 101, 122)" in problem["what"]


@pytest.mark.parametrize(
    ("cut", "endings"),
    [
        pytest.param(cord, "t2s_uncropped.nii.gz", marks=pytest.mark.slow),
        pytest.param(lesions, "patient07.nii.gz", marks=pytest.mark.slow),
        pytest.param(totalsegmentator, "s0001.nii.gz", marks=pytest.mark.slow),
        pytest.param(spleen, "sub-spleen2.nii.gz", marks=pytest.mark.slow),
        (heart, ".png"),
    ],
    ids=["cord", "lesions", "totalsegmentator", "spleen", "heart"],
)
def test_the_whole_way(real_data: Path, tmp_path: Path, cut: object, endings: str) -> None:
    scan = cut(real_data, tmp_path / "data")  # type: ignore[operator]
    root = ("--root", tmp_path / "workspace")
    done("import", tmp_path / "data", "--as", "It", "--folds", 2, *root)
    done("check", "-d", "It", "--workers", 1, *root)  # ends with exit code 3 where there is an error
    done("run", "-d", "It", "--preset", "smoke", "--workers", 1, *root)
    written = done("predict", "-d", "It", "-i", scan, "-o", tmp_path / "out", "--json", *QUICK, *root).json()
    (path,) = written.values()
    assert path.endswith(endings)
    array, _ = files.read_volume(Path(path))
    assert array.ndim == 3
