"""PET in Bq/ml to SUV by body weight, decay-corrected.

Source: the vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance (QIBA, "SUV calculation").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.images.dicom.facts import read_dataset
from autoseg.records.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

NOTE = "PET values are SUV by body weight"
TAGS = (
    "Units", "CorrectedImage", "DecayCorrection", "PatientWeight", "SeriesDate", "SeriesTime", "AcquisitionDate",
    "AcquisitionTime", "RadiopharmaceuticalInformationSequence", "SUVType",
)  # fmt: skip
LONGEST_WAIT_SECONDS = 24 * 3600.0


def factor(path: Path) -> float:
    """Return what the rescaled values of a PET slice are multiplied with to become SUV (g/ml).

    Raises:
        DataError: Facts are missing (all of them are named), or the unit is none of Bq/ml and g/ml.
    """
    data = read_dataset(path, tags=TAGS)
    unit = str(data.get("Units") or "").upper()
    if unit == "GML" and str(data.get("SUVType") or "BW") == "BW":
        return 1.0
    if unit != "BQML":
        raise DataError(
            f"PET values have the unit {unit or 'nothing'}, where BQML or GML by body weight is expected",
            file=path,
            fix="Export the series in Bq/ml, or convert it to SUV and give it as NIfTI.",
            code="pet_unit",
        )
    return _from_becquerel(data, path)


def _from_becquerel(data: Dataset, path: Path) -> float:
    drug = (data.get("RadiopharmaceuticalInformationSequence") or [None])[0]
    correction = str(data.get("DecayCorrection") or "").upper()
    weight = _number(data, "PatientWeight")
    dose = _number(drug, "RadionuclideTotalDose")
    missing = [] if weight else ["PatientWeight"]
    missing += [] if dose else ["RadionuclideTotalDose"]
    if correction == "ADMIN":
        _require(missing, path)
        return 1000.0 * weight / dose
    if correction != "START":
        missing.append(f"DecayCorrection START or ADMIN (found {correction or 'nothing'})")
    half_life = _number(drug, "RadionuclideHalfLife")
    injected, scanned = _injection(drug, data), _scan_start(data)
    missing += [] if half_life else ["RadionuclideHalfLife"]
    missing += [] if injected else ["RadiopharmaceuticalStartTime"]
    missing += [] if scanned else ["SeriesTime or AcquisitionTime"]
    _require(missing, path)
    assert injected is not None
    assert scanned is not None
    wait = (scanned - injected).total_seconds()
    if not 0 <= wait <= LONGEST_WAIT_SECONDS:
        raise DataError(
            f"the scan began {wait / 60:.0f} minutes after the injection ({injected} to {scanned})",
            file=path,
            fix="Correct RadiopharmaceuticalStartTime or the time of the series.",
            code="pet_times",
        )
    return 1000.0 * weight / (dose * math.pow(2.0, -wait / half_life))


def _require(missing: Sequence[str], path: Path) -> None:
    if missing:
        raise DataError(
            f"PET cannot become SUV; the header lacks {', '.join(missing)}",
            file=path,
            fix="Export the series with these facts, or convert it to SUV and give it as NIfTI.",
            code="pet_facts",
        )


def _number(data: Dataset | None, key: str) -> float:
    value = None if data is None else data.get(key)
    return float(value) if value not in (None, "") and float(value) > 0 else 0.0


def _scan_start(data: Dataset) -> datetime | None:
    """Return when the series began; where its time was written later than the acquisition, the acquisition's."""
    series, acquired = (_moment(data, f"{name}Date", f"{name}Time") for name in ("Series", "Acquisition"))
    return acquired if series is None or (acquired is not None and series > acquired) else series


def _injection(drug: Dataset | None, data: Dataset) -> datetime | None:
    if drug is None:
        return None
    full = str(drug.get("RadiopharmaceuticalStartDateTime") or "")
    if full:
        return _parse(full[:8], full[8:])
    scan = _scan_start(data)
    return _parse(scan.strftime("%Y%m%d"), str(drug.get("RadiopharmaceuticalStartTime") or "")) if scan else None


def _moment(data: Dataset, date: str, time: str) -> datetime | None:
    return _parse(str(data.get(date) or ""), str(data.get(time) or ""))


def _parse(date: str, time: str) -> datetime | None:
    plain = time.partition(".")[0].partition("+")[0].replace(":", "").strip()
    try:
        return datetime.strptime(date.strip() + plain.ljust(6, "0")[:6], "%Y%m%d%H%M%S") if plain else None
    except ValueError:
        return None
