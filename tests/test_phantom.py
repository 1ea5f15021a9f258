"""The phantom lies in the layout of HaN-Seg and is the same at every call."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.images.files import read_volume
from autoseg.phantom import ORGANS, write_phantom


def test_the_layout_and_the_missing_organ(tmp_path: Path) -> None:
    write_phantom(tmp_path, cases=4, unseen=1)
    case = tmp_path / "set_1" / "case_04"
    organs = {path.name.removeprefix("case_04_OAR_").removesuffix(".seg.nrrd") for path in case.glob("*_OAR_*")}
    assert organs == set(ORGANS) - {"Eye_L"}
    ct, ct_grid = read_volume(case / "case_04_IMG_CT.nrrd")
    _, mr_grid = read_volume(case / "case_04_IMG_MR_T1.nrrd")
    assert ct_grid.difference(mr_grid) is not None
    assert ct.min() < -900
    assert ct.max() > 800
    truth, grid = read_volume(tmp_path / "unseen_truth" / "case_05.nii.gz")
    assert set(np.unique(truth)) == {0, 1, 2, 3, 4, 5, 6}
    # The left eye (value 3 in alphabetical order) lies at larger x than the right one: +x is the patient's left.
    left, right = (np.argwhere(truth == value).mean(0)[2] * grid.direction[0][0] for value in (3, 4))
    assert left > right


def test_two_calls_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_phantom(tmp_path / name, cases=1, unseen=0)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.nrrd"))
    assert len(files) == 2 + len(ORGANS)
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
