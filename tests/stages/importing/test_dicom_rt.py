"""DICOM folders: series and labels find each other, names become TG-263's, absent is not unannotated."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.images.cases import read_image, read_labels
from autoseg.images.dicom.facts import read_facts
from autoseg.records.dataset import Channel, Dataset, DicomSegSource, RtstructSource
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.scans import find_scans
from tests.images.dicom import writers
from tests.images.dicom.conftest import RealCt, drawn, real_ct, real_series  # noqa: F401
from tests.images.dicom.test_rtstruct import ring, structure_set
from tests.stages.importing import dicom


def imported(folder: Path, **options: object) -> Dataset:
    return import_dataset(folder, "study", options=ImportOptions(**options))  # type: ignore[arg-type]


def labels_of(dataset: Dataset, place: int = 0) -> np.ndarray:
    case = dataset.cases[place]
    assert case.labels is not None
    image = read_image(case.images, dataset.channels, dataset.corrections, case=case.id)
    return read_labels(case.labels, dataset.labels, image.grid, case=case.id).array


def names(dataset: Dataset) -> list[str]:
    return [item.name for item in dataset.labels.structures]


def test_contours_become_labels_under_standard_names(tmp_path: Path) -> None:
    dataset = imported(dicom.studies(tmp_path, range(2)))
    assert dataset.layout == "dicom"
    assert names(dataset) == ["Liver", "Spleen"]
    assert "Named by TG-263: Milz is Spleen." in dataset.notes
    array = labels_of(dataset)
    for value, cube in ((1, "liver"), (2, "spleen")):
        z, y, x = dicom.CUBES[cube]
        assert (array == value).sum() == 27
        assert (array[z : z + 3, y : y + 3, x : x + 3] == value).all()
    assert isinstance(dataset.cases[0].labels, RtstructSource)


def test_ids_are_pseudonyms_and_patients_stay_together(tmp_path: Path) -> None:
    """F91: two series of one patient are one group; neither name nor number is told."""
    dicom.studies(tmp_path, range(2))
    again = {"SeriesInstanceUID": "1.2.50.1", "FrameOfReferenceUID": "1.2.50.9", "StudyInstanceUID": "1.2.50"}
    dicom.study(tmp_path / "later", 0, {"Liver": "liver", "Spleen": "spleen"}, **again)
    dataset = imported(tmp_path)
    assert len(dataset.cases) == 3
    assert len({case.group for case in dataset.cases}) == 2
    told = dataset.model_copy(update={"cases": tuple(c.model_copy(update={"images": {}}) for c in dataset.cases)})
    told = told.model_copy(update={"source": "", "cases": tuple(c.model_copy(update={"labels": None}) for c in
                                                               told.cases)})  # fmt: skip
    assert "MRN" not in told.to_json()
    assert "Doe" not in told.to_json()


def test_what_nobody_drew_is_not_annotated(tmp_path: Path) -> None:
    dicom.study(tmp_path / "a", 0, {"Liver": "liver", "Spleen": "spleen"})
    dicom.study(tmp_path / "b", 1, {"Liver": "liver"})
    dataset = imported(tmp_path)
    annotated = {case.annotated for case in dataset.cases}
    assert annotated == {None, ("Liver",)}
    assert any("not annotated there, which is not the same as absent" in note for note in dataset.notes)


def test_unknown_names_stay_when_common_and_are_suggested_for(tmp_path: Path) -> None:
    dicom.study(tmp_path / "a", 0, {"gizmo": "liver", "Splen_": "spleen"})
    dicom.study(tmp_path / "b", 1, {"Gizmo": "liver", "Spleem": "spleen"})
    dicom.study(tmp_path / "c", 2, {"gizmo": "liver"})
    dataset = imported(tmp_path)
    assert names(dataset) == ["gizmo", "Spleen"]
    assert any("kept as named: gizmo" in note for note in dataset.notes)
    assert any("Spleem (is it Spleen?)" in note for note in dataset.notes)


def test_a_table_of_the_user_comes_first(tmp_path: Path) -> None:
    dicom.studies(tmp_path / "data", range(2))
    table = tmp_path / "names.csv"
    table.write_text("roi,name\nliver,my liver\nmilz,\n")
    dataset = imported(tmp_path / "data", roi_table=table)
    assert names(dataset) == ["my liver"]
    table.write_text("roi,name\nliver,a\nLIVER,b\n")
    with pytest.raises(DataError, match="line 3: ROI 'LIVER' has two names"):
        imported(tmp_path / "data", roi_table=table)
    table.write_text("from,to\nliver,a\n")
    with pytest.raises(DataError, match="has the columns from, to"):
        imported(tmp_path / "data", roi_table=table)


def test_segmentations_are_labels_too(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    for number in range(2):
        dicom.study_with_seg(tmp_path / str(number), number, ("liver", "spleen"))
    dataset = imported(tmp_path)
    assert isinstance(dataset.cases[0].labels, DicomSegSource)
    assert names(dataset) == ["Liver", "Spleen"]
    z, y, x = dicom.CUBES["spleen"]
    assert (labels_of(dataset)[z : z + 3, y : y + 3, x : x + 3] == 2).all()


def test_the_foreign_segmentation_imports_in_one_command(real_data: Path) -> None:
    dataset = imported(real_data / "dicom_seg_liver")
    assert names(dataset) == ["Liver"]
    assert labels_of(dataset).sum(axis=(1, 2)).tolist() == [36233, 35645, 35220]


def test_labels_of_another_frame_of_reference_are_said(tmp_path: Path) -> None:
    """F43."""
    dicom.studies(tmp_path, range(2))
    structure_set(tmp_path / "lost", ("Liver", dicom.cube_mm("liver")), frame="9.9.9")
    dataset = imported(tmp_path)
    assert any("lost was passed over: no series lies in its frame of reference 9.9.9" in n for n in dataset.notes)
    shutil.rmtree(tmp_path / "Doe_0")
    shutil.rmtree(tmp_path / "Doe_1" / "rs")
    with pytest.raises(DataError, match="no RTSTRUCT or SEG belongs to any series"):
        imported(tmp_path)


def test_images_without_labels_are_for_prediction(tmp_path: Path) -> None:
    writers.series(tmp_path, writers.volume())
    with pytest.raises(DataError, match="1 series of DICOM images and 0 RTSTRUCT or SEG files") as error:
        imported(tmp_path)
    assert "autoseg predict -i" in str(error.value)


def test_pet_and_ct_of_one_study_are_two_channels(tmp_path: Path) -> None:
    for number in range(2):
        dicom.study(tmp_path / str(number), number, {"Liver": "liver"})
        pet = dicom.tags(number, SeriesInstanceUID=f"1.2.{number + 1}.2", Modality="PT", Units="GML")
        writers.series(tmp_path / str(number) / "pet", writers.volume((4, 9, 9)), step=3.0, **pet)
    dataset = imported(tmp_path)
    assert [(item.name, item.kind) for item in dataset.channels] == [("CT", "ct"), ("PET", "pet")]
    assert dataset.corrections[0].kind == "resample_to_first"
    case = dataset.cases[0]
    assert read_image(case.images, dataset.channels, dataset.corrections, case=case.id).array.shape[0] == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_structure_set_made_by_rt_utils_imports(real_ct: RealCt, tmp_path: Path) -> None:  # noqa: F811
    rt_utils = pytest.importorskip("rt_utils")
    builder = rt_utils.RTStructBuilder.create_new(dicom_series_path=str(real_ct.folder))
    truth = {"ring": drawn("ring", 1, ring(real_ct)), "Leber": real_ct.structures(5)[0]}
    for name, item in truth.items():
        builder.add_roi(mask=item.mask().transpose(1, 2, 0), name=name)
    shutil.copytree(real_ct.folder, tmp_path / "a" / "images")
    builder.save(str(tmp_path / "a" / "rt"))
    dataset = imported(tmp_path / "a")
    assert names(dataset) == ["Liver", "ring"]
    array, expected = labels_of(dataset), np.zeros(real_ct.stack.grid.shape, np.uint8)
    source = dataset.cases[0].labels
    assert isinstance(source, RtstructSource)
    for part in source.rois:  # the later one wins
        expected[truth["Leber" if part.value == 1 else "ring"].mask()] = part.value
    for value in (1, 2):
        assert (array == value).sum() == pytest.approx((expected == value).sum(), rel=0.01)
    assert (array == expected).mean() > 0.9999


CT = (Channel(name="CT", kind="ct"),)


def test_scans_to_predict_are_series(tmp_path: Path) -> None:
    dicom.studies(tmp_path, range(2))
    pet = dicom.tags(0, SeriesInstanceUID="1.2.1.2", Modality="PT", Units="GML")
    writers.series(tmp_path / "pet", writers.volume(), **pet)
    (tmp_path / "preview.png").write_bytes(b"")
    cases = find_scans(tmp_path, CT)
    assert len(cases) == 2
    assert all(case.id.startswith("p") and "_CT_" in case.id for case in cases)
    one = find_scans(tmp_path / "Doe_0", CT)
    assert one[0].id in {case.id for case in cases}
    both = (*CT, Channel(name="PET", kind="pet", optional=True))
    assert sorted(len(case.images) for case in find_scans(tmp_path, both)) == [1, 2]
    with pytest.raises(UsageError, match="no series of modality MR; there are: CT"):
        find_scans(tmp_path / "Doe_0", (Channel(name="T1", kind="mr"),))


def test_a_study_with_two_candidates_is_told_apart_by_description(tmp_path: Path) -> None:
    both = (Channel(name="T1", kind="mr"), Channel(name="T2", kind="mr"))
    for number, words in enumerate(("ax T1 se", "ax T2 tse")):
        tags = dicom.tags(0, SeriesInstanceUID=f"1.2.1.{number + 1}", Modality="MR", SeriesDescription=words)
        writers.series(tmp_path / words[3:5], writers.volume(seed=number), **tags)
    (case,) = find_scans(tmp_path, both)
    assert Path(case.images["T2"].files()[0]).parent.name == "T2"
    with pytest.raises(DataError, match="2 series fit channel FLAIR"):
        find_scans(tmp_path, (both[0], Channel(name="FLAIR", kind="mr")))


def test_a_series_with_a_gap_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    """F42."""
    dicom.studies(tmp_path, range(2))
    middle = next(path for path in (tmp_path / "Doe_0" / "ct").iterdir() if read_facts(path).position_mm[2] == 34.0)  # type: ignore[index]
    middle.unlink()
    dataset = imported(tmp_path)
    assert len(dataset.cases) == 1
    assert any("was left out" in note and "1 slices are missing" in note for note in dataset.notes)
    shutil.rmtree(tmp_path / "Doe_1")
    with pytest.raises(DataError, match="1 slices are missing"):
        imported(tmp_path)


def test_a_structure_beside_the_scan_is_left_out_and_said(tmp_path: Path) -> None:
    dicom.studies(tmp_path, range(2))
    far = [(kind, points + np.array([0.0, 0.0, 500.0])) for kind, points in dicom.cube_mm("spleen")]
    rois = (("Liver", dicom.cube_mm("liver")), ("Spleen", far))
    structure_set(tmp_path / "Doe_0" / "rs" / "RS.1", *rois, frame="1.2.1.9")
    dataset = imported(tmp_path)
    assert any("ROI 'Spleen' lies outside of the image" in note for note in dataset.notes)
    assert {case.annotated for case in dataset.cases} == {None, ("Liver",)}
