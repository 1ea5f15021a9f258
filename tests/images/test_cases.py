from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files
from autoseg.images.cases import read_grid, read_image, read_labels
from autoseg.records.dataset import Channel, Correction, FileSource, Mask, MaskSource, SlicesSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box, Grid
from autoseg.records.labels import Labels, Structure

GRID = Grid(shape=(4, 6, 8), spacing_mm=(3.0, 1.0, 1.0), origin_mm=(10.0, 20.0, 30.0))
T1, T2, FLAIR = (Channel(name=name, kind="mr", optional=name == "FLAIR") for name in ("T1", "T2", "FLAIR"))


def labels_of(*originals: int, ignore: int | None = None) -> Labels:
    structures = (Structure(name=f"s{n}", value=i + 1, original=n) for i, n in enumerate(originals))
    return Labels(structures=tuple(structures), ignore=ignore)


def correction(kind: str, channel: str | None = None, value: float | None = None) -> Correction:
    return Correction(kind=kind, channel=channel, value=value, because="a test")


def save(path: Path, array: np.ndarray, grid: Grid = GRID) -> FileSource:
    files.write_volume(path, array, grid)
    return FileSource(path=str(path))


def counting(grid: Grid = GRID) -> np.ndarray:
    return np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)


def part(box: Box) -> Grid:
    x, y, z = (GRID.affine() @ (*box.start, 1))[:3].tolist()
    return GRID.model_copy(update={"shape": box.shape, "origin_mm": (x, y, z)})


@pytest.fixture
def shifting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put a regrid in place that only knows whole-voxel shifts; the list gets the orders asked for."""
    orders = []

    def resample(
        array: np.ndarray, source: Grid, target: Grid, *, order: int, fill: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        orders.append(order)
        way = np.linalg.inv(source.affine()) @ target.affine()
        index = np.indices(target.shape).reshape(3, -1)
        there = np.rint(way[:3, :3] @ index + way[:3, 3:]).astype(int)
        valid = ((there >= 0) & (there < np.reshape(source.shape, (3, 1)))).all(axis=0)
        result = np.full(index.shape[1], fill, array.dtype)
        result[valid] = array[tuple(there[:, valid])]
        return result.reshape(target.shape), valid.reshape(target.shape)

    module = types.ModuleType("autoseg.images.regrid")
    module.resample = resample
    monkeypatch.setitem(sys.modules, "autoseg.images.regrid", module)
    monkeypatch.setattr(sys.modules["autoseg.images"], "regrid", module, raising=False)
    return orders


def test_channels_are_stacked_in_the_order_of_the_network(tmp_path: Path) -> None:
    sources = {"T2": save(tmp_path / "b.nii.gz", counting() * 2), "T1": save(tmp_path / "a.nii.gz", counting())}
    image = read_image(sources, (T1, T2), (), case="A")
    assert image.array.dtype == np.float32
    assert np.array_equal(image.array, np.stack([counting(), counting() * 2]))
    assert image.valid is None
    assert image.grid.difference(GRID) is None
    assert image.notes == ()


def test_a_channel_is_one_volume_of_a_4d_file(tmp_path: Path) -> None:
    import nibabel

    stack = np.stack([counting(), counting() * 2]).T
    nibabel.save(nibabel.Nifti1Image(stack, np.eye(4)), tmp_path / "x.nii.gz")
    sources = {name: FileSource(path=str(tmp_path / "x.nii.gz"), volume=i) for i, name in enumerate(("T1", "T2"))}
    image = read_image(sources, (T1, T2), (), case="A")
    assert np.array_equal(image.array, np.stack([counting(), counting() * 2]))


def test_an_optional_channel_that_is_missing_is_zero_and_nowhere_valid(tmp_path: Path) -> None:
    image = read_image({"T1": save(tmp_path / "a.nii.gz", counting())}, (FLAIR, T1), (), case="A")
    assert image.valid is not None
    assert [bool(valid.all()) for valid in image.valid] == [False, True]
    assert not image.valid[0].any()
    assert not image.array[0].any()
    assert image.notes == ("channel FLAIR is missing; it is zero everywhere",)


@pytest.mark.parametrize("channels", [(T1, T2), (FLAIR,)])
def test_a_channel_that_must_be_there_is_named(channels: tuple[Channel, ...], tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", counting())
    with pytest.raises(DataError) as caught:
        read_image({"T1": source}, channels, (), case="A")
    assert caught.value.code == "missing_channel"
    assert channels[-1].name in caught.value.what
    assert str(caught.value).startswith("A: channel ")


def test_a_channel_on_another_grid_is_an_error_with_both_spacings(tmp_path: Path) -> None:
    other = GRID.model_copy(update={"spacing_mm": (3.0, 0.5, 0.5)})
    sources = {"T1": save(tmp_path / "a.nii.gz", counting()), "T2": save(tmp_path / "b.nii.gz", counting(), other)}
    with pytest.raises(DataError) as caught:
        read_image(sources, (T1, T2), (correction("resample_to_first", "FLAIR"),), case="A")
    assert str(caught.value) == (
        f"A: {tmp_path / 'b.nii.gz'}: channel T2 does not lie on the grid of the first channel: "
        "spacing (3, 0.5, 0.5) mm instead of (3, 1, 1) mm (z, y, x). "
        "Import with --register T2, or resample the file onto the first channel."
    )


@pytest.mark.parametrize("channel", [None, "T2"])
def test_a_channel_on_another_grid_is_resampled_on_request(
    channel: str | None, tmp_path: Path, shifting: list[int]
) -> None:
    other = part(Box(start=(1, 1, 1), stop=(4, 6, 8)))
    sources = {
        "T1": save(tmp_path / "a.nii.gz", counting()),
        "T2": save(tmp_path / "b.nii.gz", counting()[1:, 1:, 1:] + 5, other),
    }
    image = read_image(sources, (T1, T2), (correction("resample_to_first", channel),), case="A")
    assert image.valid is not None
    assert image.valid[0].all()
    assert image.valid[1].sum() == 3 * 5 * 7
    assert np.array_equal(image.array[1][image.valid[1]], counting()[1:, 1:, 1:].ravel() + 5)
    assert (image.array[1][~image.valid[1]] == 0).all()
    assert shifting == [1]
    assert "channel T2: resampled onto the first channel (shape (3, 5, 7)" in image.notes[0]


def test_a_channel_is_registered_on_request(tmp_path: Path) -> None:
    z, y, x = np.indices((24, 32, 32))
    ball = 100 * np.exp(-(((z - 10) / 4) ** 2 + ((y - 14) / 6) ** 2 + ((x - 18) / 8) ** 2)).astype(np.float32)
    grid = Grid(shape=(24, 32, 32), spacing_mm=(2.0, 2.0, 2.0))
    moved = grid.model_copy(update={"origin_mm": (6.0, 0.0, 0.0)})
    sources = {"T1": save(tmp_path / "a.nii.gz", ball, grid), "T2": save(tmp_path / "b.nii.gz", -ball, moved)}
    image = read_image(sources, (T1, T2), (correction("register_to_first", "T2"),), case="A")
    assert np.abs(image.array[0] + image.array[1]).max() < 10  # 6 mm away it would differ by 60
    assert "channel T2: registered onto the first channel (shifted by" in image.notes[0]
    assert image.valid is not None


def test_numbers_too_large_for_float32_are_not_finite(tmp_path: Path) -> None:
    array = np.ones(GRID.shape)
    array[0, 0, 1] = 1e300
    with pytest.raises(DataError, match=r"1 of 192 voxels are not finite, the first \(infinite\) at \(0, 0, 1\)"):
        read_image({"T1": save(tmp_path / "a.nii.gz", array)}, (T1,), (), case="A")


def test_a_channel_without_any_finite_voxel_is_not_filled(tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", np.full(GRID.shape, np.nan, np.float32))
    with pytest.raises(DataError, match="192 of 192 voxels"):
        read_image({"T1": source}, (T1,), (correction("fill_nan"),), case="A")


def test_masks_are_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="A: channel T1 is given as masks"):
        read_image({"T1": MaskSource(masks=())}, (T1,), (), case="A")


def test_values_of_the_files_become_inside_values(tmp_path: Path) -> None:
    array = np.zeros(GRID.shape, np.int32)
    array[0, 0, :4] = [5, 70000, 2, -1]
    labels = labels_of(5, 2, 70000, ignore=-1)
    found = read_labels(save(tmp_path / "a.nii.gz", array), labels, GRID, case="A")
    assert found.array.dtype == np.uint8
    assert found.array[0, 0, :5].tolist() == [1, 3, 2, 4, 0]
    assert found.grid == GRID


def test_many_structures_need_wider_voxels(tmp_path: Path) -> None:
    array = np.zeros(GRID.shape, np.int16)
    array[1, 2, 3] = 300
    found = read_labels(save(tmp_path / "a.nii.gz", array), labels_of(*range(1, 301)), GRID, case="A")
    assert found.array.dtype == np.int16
    assert found.array[1, 2, 3] == 300


def test_every_undeclared_value_is_counted(tmp_path: Path) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[0, 0, :3] = 7
    array[3, 0, :2] = 9
    with pytest.raises(DataError) as caught:
        read_labels(save(tmp_path / "a.nii.gz", array), labels_of(1, 2), GRID, case="A")
    assert "undeclared value 7 (3 voxels), 9 (2 voxels); declared are 0, 1, 2." in str(caught.value)


def test_an_image_taken_for_labels_ends_in_one_sentence(tmp_path: Path) -> None:
    array = np.arange(192, dtype=np.int64).reshape(GRID.shape) * 10**9
    with pytest.raises(DataError) as caught:
        read_labels(save(tmp_path / "a.nii.gz", array), labels_of(1), GRID, case="A")
    assert caught.value.code == "label_too_large"
    assert "and 186 more" in str(caught.value)


def test_the_sentence_of_a_wrong_spacing(tmp_path: Path) -> None:
    other = GRID.model_copy(update={"spacing_mm": (2.0, 0.98, 0.98)})
    image = GRID.model_copy(update={"spacing_mm": (2.0, 1.0, 1.0)})
    with pytest.raises(DataError) as caught:
        read_labels(save(tmp_path / "a.nii.gz", counting() * 0, other), labels_of(1), image, case="case_07")
    assert str(caught.value) == (
        f"case_07: {tmp_path / 'a.nii.gz'}: labels have spacing (2.00, 0.98, 0.98) mm (z, y, x) but the image has "
        "(2.00, 1.00, 1.00). Resample the labels onto the image, or leave the case out with --skip case_07."
    )


def test_less_than_half_a_voxel_is_forgiven(tmp_path: Path) -> None:
    near = GRID.model_copy(update={"origin_mm": (10.3, 20.0, 30.0)})
    array = (counting() > 100).astype(np.uint8)
    found = read_labels(save(tmp_path / "a.nii.gz", array, near), labels_of(1), GRID, case="A")
    assert np.array_equal(found.array, array)
    assert found.grid == GRID


def test_labels_on_another_grid_are_resampled_on_request(tmp_path: Path, shifting: list[int]) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[1:3, 2:4, 3:6] = 5
    flipped = GRID.model_copy(
        update={"origin_mm": (17.0, 20.0, 30.0), "direction": ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))}
    )
    source = save(tmp_path / "a.nii.gz", array[:, :, ::-1], flipped)
    found = read_labels(source, labels_of(5), GRID, case="A", corrections=(correction("resample_labels"),))
    assert np.array_equal(found.array, array // 5)
    assert shifting == [0]


def masks(tmp_path: Path, *parts: tuple[np.ndarray, Grid]) -> MaskSource:
    sources = [save(tmp_path / f"m{i}.nrrd", array, grid) for i, (array, grid) in enumerate(parts)]
    return MaskSource(masks=tuple(Mask(path=source.path, value=i + 1) for i, source in enumerate(sources)))


def test_masks_are_painted_in_order_and_the_later_wins(tmp_path: Path) -> None:
    first, second = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    first[1, 1, 0:4] = 255
    second[1, 1, 2:6] = 1
    found = read_labels(masks(tmp_path, (first, GRID), (second, GRID)), labels_of(1, 2), GRID, case="A")
    assert found.array[1, 1].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]
    assert found.array.sum() == 2 + 8


def test_a_mask_on_a_cutting_is_put_in_its_place(tmp_path: Path) -> None:
    box = Box(start=(1, 2, 3), stop=(3, 5, 6))
    cutting = np.arange(18, dtype=np.uint8).reshape(box.shape) % 2
    found = read_labels(masks(tmp_path, (cutting, part(box))), labels_of(1), GRID, case="A")
    assert np.array_equal(found.array[box.slices()], cutting)
    assert found.array.sum() == cutting.sum()


def test_a_mask_that_reaches_out_of_the_image_is_cut(tmp_path: Path) -> None:
    box = Box(start=(-1, 4, -2), stop=(2, 9, 3))
    cutting = np.random.default_rng(0).integers(0, 2, box.shape).astype(np.uint8)
    found = read_labels(masks(tmp_path, (cutting, part(box))), labels_of(1), GRID, case="A")
    kept = cutting[1:, :2, 2:]
    assert np.array_equal(found.array[:2, 4:, :3], kept)
    assert 0 < found.array.sum() == kept.sum()


def test_a_mask_between_the_voxels_takes_the_nearest(tmp_path: Path, shifting: list[int]) -> None:
    fine = Grid(shape=(6, 6, 6), spacing_mm=(1.5, 0.5, 0.5), origin_mm=(12.0, 21.0, 33.0))
    found = read_labels(masks(tmp_path, (np.ones(fine.shape, np.uint8), fine)), labels_of(1), GRID, case="A")
    z, y, x = np.nonzero(found.array)
    assert (z.min(), y.min(), x.min()) == (1, 1, 2)
    assert (z.max(), y.max(), x.max()) == (3, 3, 4)
    assert found.array.sum() == 27
    assert shifting == [0]


def test_a_mask_elsewhere_is_an_error_and_an_empty_one_is_none(tmp_path: Path) -> None:
    far = Grid(shape=(2, 2, 2), spacing_mm=(3.0, 1.0, 1.0), origin_mm=(510.0, 20.0, 30.0))
    empty = read_labels(masks(tmp_path, (np.zeros(far.shape, np.uint8), far)), labels_of(1), GRID, case="A")
    assert not empty.array.any()
    with pytest.raises(DataError, match=r"A: .*m0\.nrrd: mask lies outside of the image") as caught:
        read_labels(masks(tmp_path, (np.ones(far.shape, np.uint8), far)), labels_of(1), GRID, case="A")
    assert caught.value.code == "origin_mismatch"


def test_a_mask_of_the_images_shape_must_lie_where_the_image_does(tmp_path: Path) -> None:
    lost = GRID.model_copy(update={"origin_mm": (0.0, 0.0, 0.0)})
    with pytest.raises(DataError, match=r"m0\.nrrd: labels have origin"):
        read_labels(masks(tmp_path, (np.ones(GRID.shape, np.uint8), lost)), labels_of(1), GRID, case="A")


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    source = MaskSource(masks=(Mask(path=str(tmp_path / "gone.nrrd"), value=1),))
    with pytest.raises(DataError, match=r"A: .*gone\.nrrd: does not exist"):
        read_labels(source, labels_of(1), GRID, case="A")


def test_a_mask_that_was_cut_without_moving_its_origin_is_refused(tmp_path: Path) -> None:
    # Cut from the top, but still said to start at the bottom: pasted there, it would lie two slices too low.
    source = masks(tmp_path, (np.ones((2, 6, 8), np.uint8), GRID.model_copy(update={"shape": (2, 6, 8)})))
    with pytest.raises(
        DataError, match=r"shape \(2, 6, 8\) .* image has \(4, 6, 8\), .* without moving their"
    ) as caught:
        read_labels(source, labels_of(1), GRID, case="A")
    assert caught.value.code == "shape_mismatch"
    trusted = read_labels(source, labels_of(1), GRID, case="A", corrections=(correction("resample_labels"),))
    assert trusted.array.sum(axis=(1, 2)).tolist() == [48, 48, 0, 0]


def test_real_masks_that_lost_their_place_are_refused(real_data: Path, tmp_path: Path) -> None:
    """The masks cover the last 30 of 112 slices (spleen 33 +- 16 HU there), but their header says the first 30."""
    folder = real_data / "totalsegmentator" / "s0001"
    ct = read_image({"CT": FileSource(path=str(folder / "ct.nii.gz"))}, (Channel(name="CT", kind="ct"),), (), case="s")
    spleen = folder / "segmentations" / "spleen.nii.gz"
    stored, found = files.read_volume(spleen)
    source = MaskSource(masks=(Mask(path=str(spleen), value=1),))
    with pytest.raises(DataError, match=r"shape \(30, 101, 122\) .* \(112, 101, 122\), and both start at the same"):
        read_labels(source, labels_of(1), ct.grid, case="s")
    assert ct.array[0, :30][stored > 0].std() > 400
    x, y, z = found.origin_mm
    moved = found.model_copy(update={"origin_mm": (x, y, z + 82 * 3.0)})
    labels = MaskSource(masks=(Mask(path=save(tmp_path / "spleen.nii.gz", stored, moved).path, value=1),))
    placed = read_labels(labels, labels_of(1), ct.grid, case="s")
    assert ct.array[0][placed.array == 1].std() < 20


def test_real_slicer_masks_lie_on_the_patient(real_data: Path) -> None:
    array, grid = files.read_volume(real_data / "dicom_seg_liver" / "liver_seg.nrrd")
    paths = [real_data / "dicom_seg_liver" / f"{name}_seg.nrrd" for name in ("liver", "spine")]
    source = MaskSource(masks=tuple(Mask(path=str(path), value=i + 1) for i, path in enumerate(paths)))
    found = read_labels(source, labels_of(1, 2), grid, case="s")
    assert (found.array == 1).sum() == (array > 0).sum()  # the two do not overlap
    assert (found.array == 2).any()


def test_the_grid_alone_is_that_of_the_image(tmp_path: Path) -> None:
    volume = {"T2": save(tmp_path / "t2.nii.gz", counting()), "T1": save(tmp_path / "t1.nii.gz", counting(), GRID)}
    assert read_grid(volume, (T1, T2)).difference(read_image(volume, (T1, T2), (), case="a").grid) is None
    flat = Grid(shape=(1, 6, 8), spacing_mm=(1.0, 1.0, 1.0))
    names = tuple(str(tmp_path / f"{number}.png") for number in range(3))
    for name in names:
        files.write_volume(Path(name), np.zeros(flat.shape, np.uint8), flat)
    slices = {"T1": SlicesSource(paths=names, spacing_mm=(3.0, 1.5, 1.25))}
    assert read_grid(slices, (T1,)) == read_image(slices, (T1,), (), case="a").grid
