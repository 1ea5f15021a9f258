"""A small healthy data set, and one function a fault that writes it into a copy.

`healthy` writes six cases of 24x40x40 voxels (z, y, x) in nnU-Net's layout. Each `fNN_...` function damages the copy
it is given and says which file and case it touched and what must be said about it; the numbers are those of the fault
table. The fault is always in case `MR_3`, unless it is one of the data set as a whole.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (24, 40, 40)
SPACING_MM = (2.0, 1.0, 1.0)
CASES = tuple(f"MR_{number}" for number in range(1, 7))
BAD = "MR_3"
LABELS = {"background": 0, "core": 1, "rim": 2}


@dataclass(frozen=True)
class FaultCase:
    """What a builder did, and what must be said about it.

    Attributes:
        file: The file with the fault, or None where it is one of the data set.
        case: The case with the fault, or None.
        code: The error's code (`UserError.code`), or "" where the fault is handled or belongs to the import.
        words: Each must stand in the message (or, where it is handled, in a note).
        handled: True where the case must be read all the same.
    """

    file: Path | None
    case: str | None
    code: str = ""
    words: tuple[str, ...] = ()
    handled: bool = False


Builder = Callable[[Path], FaultCase]


def healthy(folder: Path, *, cases: int = 6) -> Path:
    """Write the data set without a fault and return its folder."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for number, case in enumerate(CASES[:cases]):
        image, labels = scan(number)
        save(image_file(folder, case), image)
        save(label_file(folder, case), labels)
    write_json(folder, numTraining=cases)
    return folder


def copy(source: Path, target: Path) -> Path:
    """Copy a data set, so that the next fault finds a healthy one."""
    return Path(shutil.copytree(source, target, symlinks=True))


def scan(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (int16) and its labels (uint8), both (Z, Y, X): a bright core in a darker rim, and noise."""
    rng = np.random.default_rng(number)
    z, y, x = np.indices(SHAPE, dtype=np.float32)
    centre = np.array([12, 20, 20]) + rng.integers(-3, 4, 3)
    distance = np.sqrt((2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    labels = np.where(distance < 6, 1, np.where(distance < 10, 2, 0)).astype(np.uint8)
    image = np.array([100, 400, 250])[labels] + rng.normal(0, 20, SHAPE)
    return image.astype(np.int16), labels


def affine(spacing_mm: tuple[float, float, float] = SPACING_MM) -> np.ndarray:
    """Return the NIfTI affine (RAS) of an upright scan; spacing along (z, y, x)."""
    z, y, x = spacing_mm
    matrix = np.diag([-x, -y, z, 1.0])
    matrix[:3, 3] = [20.0, 25.0, -30.0]
    return matrix


def save(path: Path, array: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    """Write a (Z, Y, X) array (4D: (T, Z, Y, X)) as NIfTI by nibabel, an implementation that is not autoseg's."""
    image = nibabel.Nifti1Image(
        np.ascontiguousarray(array.T), affine() if matrix is None else matrix, dtype=array.dtype
    )
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def load(path: Path) -> np.ndarray:
    """Return the stored voxels as (Z, Y, X)."""
    return np.asarray(nibabel.load(path).dataobj).T.copy()


def image_file(folder: Path, case: str = BAD) -> Path:
    """Return where a case's image lies."""
    return folder / "imagesTr" / f"{case}_0000.nii.gz"


def label_file(folder: Path, case: str = BAD) -> Path:
    """Return where a case's labels lie."""
    return folder / "labelsTr" / f"{case}.nii.gz"


def write_json(folder: Path, **changes: object) -> None:
    """Write dataset.json, with some entries changed."""
    content = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": 6, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | changes))


def f01_truncated(folder: Path) -> FaultCase:
    path = image_file(folder)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    return FaultCase(path, BAD, "truncated_file", (" of 77,152 bytes", "Copy it again"))


def f02_bad_checksum(folder: Path) -> FaultCase:
    path = image_file(folder)
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # the first byte of the CRC; the length behind it stays
    path.write_bytes(bytes(content))
    return FaultCase(path, BAD, "bad_checksum", ("damaged", "CRC", "Copy it again"))


def f03_empty_file(folder: Path) -> FaultCase:
    path = image_file(folder)
    path.write_bytes(b"")
    return FaultCase(path, BAD, "empty_file", ("0 bytes", "Copy it again"))


def f03_web_page(folder: Path) -> FaultCase:
    path = image_file(folder)
    path.write_bytes(b"<!DOCTYPE html><html><body>Please log in</body></html>" * 20)
    return FaultCase(path, BAD, "not_an_image", ("web page", "<!DOCTYPE html>", "Download it again"))


def f04_missing_file(folder: Path) -> FaultCase:
    path = image_file(folder)
    path.unlink()
    return FaultCase(path, BAD, "missing_file", ("does not exist", "Check the path"))


def f04_broken_link(folder: Path) -> FaultCase:
    path = image_file(folder)
    path.unlink()
    path.symlink_to("/nowhere/gone.nii.gz")
    return FaultCase(path, BAD, "broken_link", ("/nowhere/gone.nii.gz", "mend the link"))


def f07_nan_in_image(folder: Path) -> FaultCase:
    return _spoil_image(folder, np.nan, ("1 of 38,400 voxels", "NaN", "(2, 3, 4)", "--nan"))


def f08_infinite_image(folder: Path) -> FaultCase:
    return _spoil_image(folder, np.inf, ("1 of 38,400 voxels", "infinite", "(2, 3, 4)", "--nan"))


def f09_nan_in_labels(folder: Path) -> FaultCase:
    return _spoil_labels(folder, np.nan, np.float32, "nan_in_labels", ("NaN", "1 of 38,400"))


def f12_fractional_labels(folder: Path) -> FaultCase:
    return _spoil_labels(folder, 0.5, np.float32, "fractional_labels", ("0.5", "1 voxels", "hreshold"))


def f13_float_labels(folder: Path) -> FaultCase:
    path = label_file(folder)
    save(path, load(path).astype(np.float32))
    return FaultCase(path, BAD, handled=True)


def f14_negative_label(folder: Path) -> FaultCase:
    return _spoil_labels(folder, -3, np.int16, "negative_label", ("-3 (1 voxels)", "remapped"))


def f15_undeclared_label(folder: Path) -> FaultCase:
    return _spoil_labels(folder, 7, np.uint8, "undeclared_label", ("7 (1 voxels)", "0, 1, 2", "remapped"))


def f16_huge_label(folder: Path) -> FaultCase:
    return _spoil_labels(folder, 70000, np.int32, "label_too_large", ("70000 (1 voxels)",))


def f17_masks_of_255(folder: Path) -> FaultCase:
    path = label_file(folder)
    save(path, (load(path) > 0).astype(np.uint8) * 255)
    return FaultCase(path, BAD, "mask_255", ("255", "remapped to 1"))


def f18_values_with_gaps(folder: Path) -> FaultCase:
    for case in CASES:
        path = label_file(folder, case)
        save(path, np.array([0, 1, 5], np.uint8)[load(path)])
    write_json(folder, labels={"background": 0, "core": 1, "rim": 5})
    return FaultCase(None, None, handled=True)


def f25_label_shape(folder: Path) -> FaultCase:
    path = label_file(folder)
    save(path, load(path)[:-1])
    return FaultCase(path, BAD, "shape_mismatch", ("(23, 40, 40)", "(24, 40, 40)", f"--skip {BAD}"))


def f26_label_spacing(folder: Path) -> FaultCase:
    path = label_file(folder)
    save(path, load(path), affine((2.0, 0.98, 0.98)))
    words = ("spacing (2.00, 0.98, 0.98) mm (z, y, x)", "(2.00, 1.00, 1.00)", f"--skip {BAD}")
    return FaultCase(path, BAD, "spacing_mismatch", words)


def f27_label_origin(folder: Path) -> FaultCase:
    path = label_file(folder)
    matrix = affine()
    matrix[0, 3] += 50.0
    save(path, load(path), matrix)
    return FaultCase(path, BAD, "origin_mismatch", ("origin", "50 mm apart", f"--skip {BAD}"))


def f28_label_flipped(folder: Path) -> FaultCase:
    path = label_file(folder)
    matrix = affine()
    matrix[0] = [1.0, 0.0, 0.0, 20.0 - 39.0]
    save(path, load(path)[:, :, ::-1], matrix)  # the same anatomy, stored from the other side
    return FaultCase(path, BAD, "direction_mismatch", ("direction", "flipped", "Resample", f"--skip {BAD}"))


def f31_sheared(folder: Path) -> FaultCase:
    matrix = affine()
    matrix[0, 1] = 0.1
    for path in (image_file(folder), label_file(folder)):
        array = load(path)
        image = nibabel.Nifti1Image(np.ascontiguousarray(array.T), None)
        image.header.set_zooms(SPACING_MM[::-1])
        image.set_sform(matrix, code=1)
        nibabel.save(image, path)
    return FaultCase(image_file(folder), BAD, words=("sheared", "degrees"), handled=True)


def f32_zero_spacing(folder: Path) -> FaultCase:
    return _spoil_pixdim(folder, 0.0, "0.0")


def f32_nan_spacing(folder: Path) -> FaultCase:
    return _spoil_pixdim(folder, np.nan, "nan")


def f32_negative_spacing(folder: Path) -> FaultCase:
    return _spoil_pixdim(folder, -1.0, "-1.0")


def f32b_absurd_spacing(folder: Path) -> FaultCase:
    path = image_file(folder)
    save(path, load(path), affine((2000.0, 1.0, 1.0)))
    return FaultCase(path, BAD, "absurd_spacing", ("(2000, 1, 1)", "48 m", "mm?"))


def f33_several_volumes(folder: Path) -> FaultCase:
    path = image_file(folder)
    save(path, np.stack([load(path)] * 5))
    return FaultCase(path, BAD, "several_volumes", ("5 volumes", "channels or time"))


def f34_trailing_one(folder: Path) -> FaultCase:
    path = image_file(folder)
    save(path, load(path)[None])
    return FaultCase(path, BAD, handled=True)


def f35_rgb(folder: Path) -> FaultCase:
    path = image_file(folder)
    colour = np.zeros(SHAPE[::-1], np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(nibabel.Nifti1Image(colour, affine()), path)
    return FaultCase(path, BAD, "vector_voxels", ("RGB", "one file a channel"))


def f35_vector(folder: Path) -> FaultCase:
    path = image_file(folder)
    save(path, np.stack([load(path)[None]] * 3))
    return FaultCase(path, BAD, "vector_voxels", ("vector of 3", "one file a channel"))


def f44_no_channel_number(folder: Path) -> FaultCase:
    """The images are named as the labels are: `MR_3.nii.gz`, without `_0000`."""
    for case in CASES:
        image_file(folder, case).rename(folder / "imagesTr" / f"{case}.nii.gz")
    return FaultCase(None, None, handled=True)


def f48_ids_differ_in_case(folder: Path) -> FaultCase:
    """`MR_3` and `mr_3` side by side: one file on many systems."""
    for path in (image_file(folder), label_file(folder)):
        shutil.copyfile(path, path.with_name(path.name.replace(BAD, BAD.lower())))
    return FaultCase(image_file(folder, BAD.lower()), BAD.lower(), "duplicate_case", (BAD.lower(),))


def f48_two_formats(folder: Path) -> FaultCase:
    """`MR_3_0000.nii` beside `MR_3_0000.nii.gz`."""
    path = image_file(folder)
    twin = path.with_suffix("")
    twin.write_bytes(gzip.decompress(path.read_bytes()))
    return FaultCase(twin, BAD)


def f49_files_of_the_system(folder: Path) -> FaultCase:
    for name in (
        f"imagesTr/._{BAD}_0000.nii.gz",
        f"labelsTr/._{BAD}.nii.gz",
        "imagesTr/.DS_Store",
        "imagesTr/Thumbs.db",
    ):
        (folder / name).write_bytes(b"\0\5\26\7 of no interest")
    return FaultCase(None, None, handled=True)


def f50_id_leads_outside(folder: Path) -> FaultCase:
    """dataset.json lists its files, one of them under an id that would be written outside of the workspace."""
    evil = "../../../pwn/evil"
    entries = {case: _entry(case) for case in CASES[1:]} | {evil: _entry(CASES[0])}
    write_json(folder, dataset=entries)
    return FaultCase(folder / "dataset.json", None, "unsafe_name", (evil,))


def f53_one_case(folder: Path) -> FaultCase:
    return _keep(folder, 1)


def f53_three_cases(folder: Path) -> FaultCase:
    return _keep(folder, 3)


def _keep(folder: Path, count: int) -> FaultCase:
    for case in CASES[count:]:
        os.unlink(image_file(folder, case))
        os.unlink(label_file(folder, case))
    write_json(folder, numTraining=count)
    return FaultCase(None, None, handled=True)


def _entry(case: str) -> dict[str, object]:
    return {"images": [f"imagesTr/{case}_0000.nii.gz"], "label": f"labelsTr/{case}.nii.gz"}


def _spoil_image(folder: Path, value: float, words: tuple[str, ...]) -> FaultCase:
    path = image_file(folder)
    array = load(path).astype(np.float32)
    array[2, 3, 4] = value
    save(path, array)
    return FaultCase(path, BAD, "nan_in_image", words)


def _spoil_labels(folder: Path, value: float, dtype: type, code: str, words: tuple[str, ...]) -> FaultCase:
    path = label_file(folder)
    array = load(path).astype(dtype)
    array[2, 3, 4] = value
    save(path, array)
    return FaultCase(path, BAD, code, words)


def _spoil_pixdim(folder: Path, value: float, word: str) -> FaultCase:
    """Overwrite pixdim[3] (slice distance) in the bytes: no library writes such a header."""
    path = image_file(folder)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[76 + 4 * 3 : 76 + 4 * 4] = np.float32(value).tobytes()
    path.write_bytes(gzip.compress(bytes(content), mtime=0))
    return FaultCase(path, BAD, "unknown_spacing", ("pixdim", word, "size of its voxels is unknown"))


FAULTS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        f01_truncated,
        f02_bad_checksum,
        f03_empty_file,
        f03_web_page,
        f04_missing_file,
        f04_broken_link,
        f07_nan_in_image,
        f08_infinite_image,
        f09_nan_in_labels,
        f12_fractional_labels,
        f13_float_labels,
        f14_negative_label,
        f15_undeclared_label,
        f16_huge_label,
        f17_masks_of_255,
        f18_values_with_gaps,
        f25_label_shape,
        f26_label_spacing,
        f27_label_origin,
        f28_label_flipped,
        f31_sheared,
        f32_zero_spacing,
        f32_nan_spacing,
        f32_negative_spacing,
        f32b_absurd_spacing,
        f33_several_volumes,
        f34_trailing_one,
        f35_rgb,
        f35_vector,
        f44_no_channel_number,
        f48_ids_differ_in_case,
        f48_two_formats,
        f49_files_of_the_system,
        f50_id_leads_outside,
        f53_one_case,
        f53_three_cases,
    )
}
