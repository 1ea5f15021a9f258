"""PET becomes SUV, or every missing fact is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from autoseg.images.dicom import series, suv
from autoseg.records.dataset import DicomSource
from autoseg.records.errors import DataError
from tests.images.dicom import writers


def drug(**tags: Any) -> list[Dataset]:
    data = Dataset()
    for name, value in (
        {"RadionuclideTotalDose": 350e6, "RadionuclideHalfLife": 6586.2, "RadiopharmaceuticalStartTime": "090000"}
        | tags
    ).items():
        if value is not None:
            setattr(data, name, value)
    return [data]


def pet(folder: Path, **tags: Any) -> list[Path]:
    values = {
        "Modality": "PT", "Units": "BQML", "DecayCorrection": "START", "PatientWeight": 70.0, "SeriesDate": "20200102",
        "SeriesTime": "100000.00", "AcquisitionDate": "20200102", "AcquisitionTime": "100130",
        "RadiopharmaceuticalInformationSequence": drug(), "RescaleSlope": 1.5, "RescaleIntercept": 0,
    } | tags  # fmt: skip
    array = 1.5 * np.arange(2 * 4 * 4).reshape(2, 4, 4)
    return writers.series(folder, array, **values)


def test_a_worked_example(tmp_path: Path) -> None:
    """350 MBq at 9:00, scan at 10:00: 3600 of 6586.2 s leave 68.5 %, 239.6 MBq; 70 kg over that is 0.000292 a Bq/ml."""
    path = pet(tmp_path)[0]
    assert suv.factor(path) == pytest.approx(70_000 / (350e6 * 2 ** (-3600 / 6586.2)))
    assert suv.factor(path) == pytest.approx(0.000292, rel=2e-3)
    read, header = series.read(DicomSource(paths=tuple(str(item) for item in tmp_path.iterdir())))
    np.testing.assert_allclose(read.ravel(), 1.5 * np.arange(32) * suv.factor(path), rtol=1e-6)
    assert header.notes == (suv.NOTE,)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    for z, slope in enumerate((1.0, 4.0)):
        place = (0.0, 0.0, 3.0 * z)
        writers.slice_file(tmp_path / f"{z}", np.full((4, 4), 8.0), uid=f"1.{z + 1}", position=place, Modality="PT",
                           Units="GML", RescaleSlope=slope, RescaleIntercept=0)  # fmt: skip
    read, _ = series.read(DicomSource(paths=tuple(str(item) for item in tmp_path.iterdir())))
    assert (read == 8.0).all()


def test_other_ways_to_say_it(tmp_path: Path) -> None:
    admin = pet(tmp_path / "a", DecayCorrection="ADMIN")[0]
    assert suv.factor(admin) == pytest.approx(70_000 / 350e6)
    late = pet(tmp_path / "b", SeriesTime="235959")[0]  # written after the acquisition: the acquisition's time counts
    assert suv.factor(late) == pytest.approx(70_000 / (350e6 * 2 ** (-3690 / 6586.2)))
    assert suv.factor(pet(tmp_path / "c", Units="GML")[0]) == 1.0


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PatientWeight": None, "RadiopharmaceuticalInformationSequence": None}, "PatientWeight, RadionuclideTotal"),
        ({"RadiopharmaceuticalInformationSequence": drug(RadionuclideHalfLife=None)}, "lacks RadionuclideHalfLife"),
        ({"DecayCorrection": "NONE"}, "found NONE"),
        ({"Units": "CNTS"}, "unit CNTS"),
        ({"RadiopharmaceuticalInformationSequence": drug(RadiopharmaceuticalStartTime="110000")}, "-60 minutes"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        suv.factor(pet(tmp_path, **tags)[0])
