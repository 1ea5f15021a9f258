from __future__ import annotations

import gzip
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from autoseg.images import files
from autoseg.records.errors import DataError, ResourceError
from autoseg.records.geometry import Grid

VOLUME_FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
OBLIQUE = Grid(
    shape=(3, 4, 5),
    spacing_mm=(3.0, 1.5, 0.75),
    origin_mm=(-10.5, 20.25, 30.0),
    direction=((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0)),
)


def counting(shape: tuple[int, ...], dtype: str = "int16") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("suffix", VOLUME_FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_what_is_written_is_read_again(suffix: str, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / f"a volume ü{suffix}"
    array = counting(OBLIQUE.shape, dtype)
    files.write_volume(path, array, OBLIQUE, description="made by a test")
    back, grid = files.read_volume(path)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    assert OBLIQUE.difference(grid) is None
    assert np.allclose(grid.affine(), OBLIQUE.affine(), atol=1e-5)
    header = files.read_header(path)
    assert (header.grid, header.volumes, header.dtype, header.notes) == (grid, 1, dtype, ())
    if suffix == ".mhd":
        return
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_equal_input_gives_equal_bytes(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    files.write_volume(one, counting(OBLIQUE.shape), OBLIQUE)
    monkeypatch.setattr(time, "time", lambda: 1e9)  # a time in the gzip header would differ
    files.write_volume(two, counting(OBLIQUE.shape), OBLIQUE)
    assert one.read_bytes() == two.read_bytes()


@settings(max_examples=20, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 9.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    mirrored=st.booleans(),
)
def test_any_direction_survives_nifti(
    tmp_path_factory: pytest.TempPathFactory,
    turn: tuple[float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    mirrored: bool,
) -> None:
    matrix = np.asarray(sitk.Euler3DTransform((0, 0, 0), *turn).GetMatrix()).reshape(3, 3)
    matrix = matrix @ np.diag([-1 if mirrored else 1, 1, 1])
    rows = tuple(tuple(row) for row in matrix)
    grid = Grid(shape=(2, 3, 4), spacing_mm=spacing, origin_mm=origin, direction=rows)
    path = tmp_path_factory.mktemp("nifti") / "x.nii.gz"
    files.write_volume(path, counting(grid.shape), grid)
    _, back = files.read_volume(path)
    assert np.allclose(back.affine(), grid.affine(), rtol=1e-5, atol=1e-4)
    header = nibabel.load(path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert np.allclose(header.get_qform(), header.get_sform(), rtol=1e-4, atol=1e-3)


def test_other_programs_see_the_voxels_where_we_do(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    array = counting(OBLIQUE.shape)
    files.write_volume(path, array, OBLIQUE)
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), array)
    assert np.allclose(image.TransformIndexToPhysicalPoint((4, 3, 2)), (OBLIQUE.affine() @ (2, 3, 4, 1))[:3], atol=1e-4)
    nifti = nibabel.load(path)
    assert int(nifti.dataobj[4, 3, 2]) == array[2, 3, 4]
    assert np.allclose(
        (nifti.affine @ (4, 3, 2, 1))[:3] * [-1, -1, 1], (OBLIQUE.affine() @ (2, 3, 4, 1))[:3], atol=1e-4
    )


def test_real_files_agree_with_nibabel_and_itk(real_data: Path) -> None:
    for path in (
        real_data / "cord_t2star" / "t2s_uncropped.nii.gz",
        real_data / "Task04_Hippocampus" / "labelsTr" / "hippocampus_003.nii.gz",
        real_data / "totalsegmentator" / "s0001" / "segmentations" / "spleen.nii.gz",
    ):
        array, grid = files.read_volume(path)
        image = sitk.ReadImage(str(path))
        assert np.array_equal(array, sitk.GetArrayFromImage(image))
        assert np.array_equal(array, np.asarray(nibabel.load(path).dataobj).T)
        assert np.allclose(grid.spacing_mm, image.GetSpacing()[::-1], rtol=1e-5)
        assert np.allclose(np.ravel(grid.direction), image.GetDirection(), atol=1e-5)
        assert np.allclose(grid.origin_mm, image.GetOrigin(), atol=1e-3)


def test_slicer_masks_are_read_on_their_own_grid(real_data: Path) -> None:
    array, grid = files.read_volume(real_data / "dicom_seg_liver" / "liver_seg.nrrd")
    assert array.shape == grid.shape == (3, 512, 512)
    assert grid.origin_mm == (-235.2, -226.8, -128.69)


def test_two_hundred_small_volumes_are_read_in_seconds(real_data: Path) -> None:
    paths = sorted((real_data / "Task04_Hippocampus").glob("*Tr/*.nii.gz"))
    start = time.process_time()
    for path in paths:
        files.read_volume(path)
    assert len(paths) == 400
    assert time.process_time() - start < 3.0  # 0.3 s on a quiet core


@pytest.mark.parametrize(
    ("name", "image", "bare"),
    [
        ("x.nii.gz", True, "x"),
        ("X.NII.GZ", True, "X"),
        ("case.1.nrrd", True, "case.1"),
        ("case_01_OAR_Brainstem.seg.nrrd", True, "case_01_OAR_Brainstem"),
        ("x.png", True, "x"),
        ("._x.nii.gz", False, "._x"),
        (".DS_Store", False, ".DS_Store"),
        (".nii.gz", False, ".nii.gz"),
        ("Thumbs.db", False, "Thumbs.db"),
        ("dataset.json", False, "dataset.json"),
    ],
)
def test_names_of_images(name: str, image: bool, bare: str) -> None:
    assert files.is_image(Path("somewhere") / name) is image
    assert files.strip_suffix(name) == bare


def written(path: Path, array: np.ndarray, *, slope: float = 1.0, inter: float = 0.0, **fields: object) -> Path:
    """Write NIfTI by nibabel, with header fields overwritten in the bytes."""
    image = nibabel.Nifti1Image(array.T, np.diag([-2.0, -2.0, 3.0, 1.0]), dtype=array.dtype)
    nibabel.save(image, path)  # nibabel fixes what is wrong in a header, so faults go into the bytes
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    header["scl_slope"], header["scl_inter"] = slope, inter
    for key, value in fields.items():
        header[key] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))
    return path


def test_the_scaling_of_the_header_is_applied(tmp_path: Path) -> None:
    array, _ = files.read_volume(written(tmp_path / "x.nii.gz", counting((2, 3, 4)), slope=2.5, inter=-10.0))
    assert array.dtype == np.float32
    assert np.allclose(array, counting((2, 3, 4)) * 2.5 - 10.0)
    plain, _ = files.read_volume(written(tmp_path / "y.nii.gz", counting((2, 3, 4)), slope=0.0, inter=7.0))
    assert np.array_equal(plain, counting((2, 3, 4)))  # slope 0 means "not scaled"


@pytest.mark.parametrize(
    "array", [counting((2, 3, 4), ">i2"), counting((2, 3, 4), ">f4"), counting((2, 3, 4), "uint64")]
)
def test_byte_orders_and_wide_integers(array: np.ndarray, tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">" if array.dtype.byteorder == ">" else "<")
    header.set_data_dtype(array.dtype)
    image = nibabel.Nifti1Image(array.T, np.eye(4), header)
    nibabel.save(image, tmp_path / "x.nii")
    back, _ = files.read_volume(tmp_path / "x.nii")
    assert back.dtype.isnative
    assert np.array_equal(back, array)
    back[0, 0, 0] = 1  # what is read may be written to


def test_the_second_version_of_nifti_is_read_and_used_for_long_axes(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(counting((2, 3, 4)).T, np.diag([-2.0, -2.0, 3.0, 1.0])), tmp_path / "two.nii.gz")
    array, grid = files.read_volume(tmp_path / "two.nii.gz")
    assert np.array_equal(array, counting((2, 3, 4)))
    assert grid.spacing_mm == (3.0, 2.0, 2.0)
    long = Grid(shape=(1, 1, 40000), spacing_mm=(0.1, 0.1, 0.1))
    files.write_volume(tmp_path / "long.nii.gz", np.ones(long.shape, np.uint8), long)
    assert files.read_header(tmp_path / "long.nii.gz").grid == long


def test_a_volume_of_a_4d_file_is_chosen(tmp_path: Path) -> None:
    path = written(tmp_path / "x.nii.gz", counting((5, 2, 3, 4)))
    for volume in range(5):
        assert np.array_equal(files.read_volume(path, volume=volume)[0], counting((5, 2, 3, 4))[volume])
    assert files.read_header(path).volumes == 5
    with pytest.raises(DataError, match="holds 5 volumes where one is expected"):
        files.read_volume(path)
    with pytest.raises(DataError, match="has no volume 5: it holds 5"):
        files.read_volume(path, volume=5)


def test_nan_are_kept_in_every_format(tmp_path: Path) -> None:
    array = counting(OBLIQUE.shape, "float32")
    array[1, 2, 3] = np.nan
    for suffix in VOLUME_FORMATS:
        files.write_volume(tmp_path / f"x{suffix}", array, OBLIQUE)
        assert np.array_equal(files.read_volume(tmp_path / f"x{suffix}")[0], array, equal_nan=True)


def test_units_other_than_millimetres_are_converted_or_refused(tmp_path: Path) -> None:
    micro = written(tmp_path / "micro.nii.gz", counting((2, 3, 4)), xyzt_units=3)
    header = files.read_header(micro)
    assert np.allclose(header.grid.spacing_mm, (0.003, 0.002, 0.002))
    assert header.notes == ("its unit is micrometres; converted to mm",)
    metres = written(tmp_path / "metres.nii.gz", counting((2, 3, 4)), xyzt_units=1)
    with pytest.raises(DataError, match=r"spacing \(3000, 2000, 2000\) mm .* field of view of 8 m") as caught:
        files.read_header(metres)
    assert caught.value.code == "absurd_spacing"


def test_notes_tell_what_is_odd(tmp_path: Path) -> None:
    nothing = written(tmp_path / "nothing.nii.gz", counting((2, 3, 4)), sform_code=0, qform_code=0)
    assert files.read_header(nothing).notes == ("it says nothing of its orientation; left and right are a guess",)
    other = written(tmp_path / "other.nii.gz", counting((2, 3, 4)), pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    header = files.read_header(other)
    assert header.grid.spacing_mm == (3.0, 2.0, 2.0)
    assert "disagrees" in header.notes[0]


@pytest.mark.parametrize("third_row", [[0, 0, 0, 0], [0, 0, 1, 0]])
def test_a_flat_nifti_is_one_slice(third_row: list[float], tmp_path: Path) -> None:
    pixdim = [1, 2, 2, 0, 0, 0, 0, 0]
    path = written(tmp_path / "flat.nii.gz", counting((3, 4)), pixdim=pixdim, srow_z=third_row)
    array, grid = files.read_volume(path)
    assert np.array_equal(array, counting((1, 3, 4)))
    assert grid.spacing_mm == (1.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dim": [3, 4, 0, 2, 1, 1, 1, 1]}, "empty_axis"),
        ({"dim": [9, 4, 3, 2, 1, 1, 1, 1]}, "bad_header"),
        ({"vox_offset": 0}, "bad_header"),
        ({"srow_x": [0, 0, 0, 0]}, "unknown_spacing"),
        ({"srow_x": [-2, 0, 0, 0], "srow_y": [-2, 0, 0, 0]}, "unknown_spacing"),
        ({"srow_x": [-2, -2, 0, 0], "srow_y": [-2, -2, 0, 0]}, "bad_geometry"),
        ({"srow_x": [-2, 0, 0, np.nan]}, "unknown_spacing"),
        ({"datatype": 32, "bitpix": 64}, "vector_voxels"),
        ({"dim": [3, 40, 30, 20, 1, 1, 1, 1]}, "truncated_file"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, "bad_header"),
    ],
)
def test_impossible_headers_are_errors(fields: dict[str, object], code: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x.nii.gz", counting((2, 3, 4)), **fields)
    with pytest.raises(DataError) as caught:
        files.read_volume(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.97])
def test_no_truncated_file_is_read(suffix: str, kept: float, tmp_path: Path) -> None:
    flat = suffix in {".png", ".tif"}
    grid = Grid(shape=(1 if flat else 20, 20, 20), spacing_mm=(1.0, 1.0, 1.0))
    array = np.random.default_rng(0).integers(0, 255, grid.shape).astype(np.uint8)
    path = tmp_path / f"x{suffix}"
    files.write_volume(path, array, grid)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError) as caught:
        files.read_volume(path)
    assert str(path) in str(caught.value)
    assert caught.value.code in {"truncated_file", "empty_file", "not_an_image", "unreadable_file", "bad_header"}


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [False, True])
def test_itk_formats_say_how_many_bytes_are_missing(suffix: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    array = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=compressed)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"truncated: it holds [\d,]+ of 16,000 bytes"):
        files.read_volume(path)


def test_a_flipped_bit_in_a_compressed_nrrd_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.nrrd"
    files.write_volume(path, np.random.default_rng(0).integers(0, 99, OBLIQUE.shape), OBLIQUE)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        files.read_volume(path)


def nrrd(path: Path, *lines: str, values: int = 24) -> Path:
    text = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 4 3 2", "encoding: raw", *lines, "", ""]
    path.write_bytes("\n".join(text).encode() + bytes(range(values)))
    return path


def test_the_spacing_of_an_nrrd_is_read_in_the_raw(tmp_path: Path) -> None:
    _, grid = files.read_volume(nrrd(tmp_path / "good.nrrd", "spacings: 1 2 3"))
    assert grid.spacing_mm == (3.0, 2.0, 1.0)
    assert "gives no spacing" in files.read_header(nrrd(tmp_path / "none.nrrd")).notes[0]
    for spacings in ("1 2 nan", "1 2 0"):
        with pytest.raises(DataError) as caught:
            files.read_volume(nrrd(tmp_path / "bad.nrrd", f"spacings: {spacings}"))
        assert "bad.nrrd" in str(caught.value)


def test_layers_of_a_segmentation_are_chosen(tmp_path: Path) -> None:
    layers = np.stack([counting((2, 3, 4)), counting((2, 3, 4)) * 2], axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(layers, isVector=True), str(tmp_path / "x.seg.nrrd"))
    assert files.read_header(tmp_path / "x.seg.nrrd").volumes == 2
    assert np.array_equal(files.read_volume(tmp_path / "x.seg.nrrd", volume=1)[0], counting((2, 3, 4)) * 2)
    with pytest.raises(DataError, match="holds 2 volumes"):
        files.read_volume(tmp_path / "x.seg.nrrd")


def test_a_header_without_its_voxels_is_named(tmp_path: Path) -> None:
    files.write_volume(tmp_path / "x.mhd", counting(OBLIQUE.shape), OBLIQUE)
    for data in [item for item in tmp_path.iterdir() if item.suffix != ".mhd"]:
        data.unlink()
    with pytest.raises(DataError, match=r"does not exist|cannot be read"):
        files.read_volume(tmp_path / "x.mhd")


def picture(path: Path, array: np.ndarray) -> Path:
    Picture.fromarray(array).save(path)
    return path


def test_grey_pictures_are_one_slice(tmp_path: Path) -> None:
    grey = counting((3, 4), "uint8")
    for name, array in {
        "grey": grey,
        "equal": np.stack([grey] * 3, axis=-1),
        "opaque": np.stack([grey] * 3 + [np.full_like(grey, 255)], axis=-1),
    }.items():
        back, header = files.read_noted(picture(tmp_path / f"{name}.png", array))
        assert np.array_equal(back, grey[None])
        assert header.grid.spacing_mm == (1.0, 1.0, 1.0)
        assert any("alpha" in note for note in header.notes) is (name == "opaque")


def test_coloured_pictures_need_a_colour_named(tmp_path: Path) -> None:
    path = picture(tmp_path / "x.png", counting((3, 4, 3), "uint8"))
    with pytest.raises(DataError, match="is coloured") as caught:
        files.read_volume(path)
    assert caught.value.code == "coloured_picture"
    assert np.array_equal(files.read_volume(path, volume=2)[0], counting((3, 4, 3), "uint8")[None, ..., 2])
    see_through = np.concatenate([np.stack([counting((3, 4), "uint8")] * 3, -1), counting((3, 4, 1), "uint8")], -1)
    with pytest.raises(DataError, match="is coloured"):
        files.read_volume(picture(tmp_path / "alpha.png", see_through))


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", "uint8"), (".png", "uint16"), (".tif", "float32"), (".bmp", "uint8")]
)
def test_pictures_are_written_and_read_again(suffix: str, dtype: str, tmp_path: Path) -> None:
    grid = Grid(shape=(1, 3, 4), spacing_mm=(1.0, 1.0, 1.0))
    array = (counting(grid.shape) * (500 if dtype == "uint16" else 1)).astype(dtype)
    files.write_volume(tmp_path / f"x{suffix}", array, grid)
    back, found = files.read_volume(tmp_path / f"x{suffix}")
    assert np.array_equal(back, array)
    assert back.dtype == array.dtype
    assert found == grid


def test_a_tiff_stack_is_a_volume(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", counting((5, 6, 7), "uint16"))
    array, grid = files.read_volume(tmp_path / "x.tif")
    assert np.array_equal(array, counting((5, 6, 7)))
    assert grid.shape == (5, 6, 7)


def test_what_a_picture_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot hold 3 slices"):
        files.write_volume(tmp_path / "x.png", counting(OBLIQUE.shape), OBLIQUE)
    grid = Grid(shape=(1, 3, 4), spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="from -1"):
        files.write_volume(tmp_path / "x.png", counting(grid.shape) - 1, grid)
    assert not any(tmp_path.iterdir())


def test_unknown_formats_and_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(b"abc")
    with pytest.raises(DataError, match=r"x\.dat: has no suffix of an image .* Known are \.nii\.gz"):
        files.read_volume(tmp_path / "x.dat")
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        files.read_volume(tmp_path / "folder.nii.gz")
    (tmp_path / "x.png").write_bytes(b"\x89PNX no picture")
    with pytest.raises(DataError, match=r"is no picture file: it begins with '\\x89PNX"):
        files.read_volume(tmp_path / "x.png")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.nii.gz"
    files.write_volume(path, counting(OBLIQUE.shape), OBLIQUE)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match="No space left"):
        files.write_volume(path, counting(OBLIQUE.shape) * 2, OBLIQUE)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["x.nii.gz"]


def test_a_wrong_suffix_of_compression_does_no_harm(tmp_path: Path) -> None:
    files.write_volume(tmp_path / "x.nii", counting(OBLIQUE.shape), OBLIQUE)
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "x.nii").read_bytes())
    assert np.array_equal(files.read_volume(tmp_path / "plain.nii.gz")[0], counting(OBLIQUE.shape))
