"""One volume that was sent to a server becomes its label map and, where it is asked for, its doubt."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.compute import archives
from autoseg.images import files
from autoseg.images.cases import read_image
from autoseg.records.dataset import Channel, FileSource, Source, check_name
from autoseg.records.errors import DataError, UsageError, UserError
from autoseg.records.quality import PredictedQuality
from autoseg.records.volumes import Image, Prediction
from autoseg.stages.predicting import Predictor, describe, outputs, written_values

ANSWERS = (*files.NIFTI_SUFFIXES, ".nrrd", ".mha")
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")


@dataclass(frozen=True)
class Wish:
    """What one request asks for.

    Attributes:
        case: Name of the scan, without its suffix.
        upload: Suffix of the file that is sent.
        answer: Suffix of the label map.
        uncertainty: Whether the Dice of every structure is predicted, too.
        maps: Whether the answer is a zip of label map, quality, and maps of entropy and disagreement.
        refer: Say whether a person must look before a Dice of so much is promised; None: nobody asked.
    """

    case: str
    upload: str
    answer: str
    uncertainty: bool = False
    maps: bool = False
    refer: float | None = None


@dataclass(frozen=True)
class Answer:
    """What is sent back: bytes under a file name, and what stands in the headers, ASCII."""

    content: bytes
    name: str
    kind: str
    headers: Mapping[str, str]


def wish_of(query: Mapping[str, str]) -> Wish:
    """Return what the words behind `/predict?` ask for.

    Raises:
        DataError: A name is not safe, or a format unknown.
        UsageError: A word has no such value.
    """
    name = check_name(query.get("name", "scan.nii.gz"), what="file name")
    case = files.strip_suffix(name)
    suffix = name[len(case) :].lower()
    answer = query.get("format", ".nii.gz" if suffix in files.PICTURE_SUFFIXES else suffix)
    for word, known in ((suffix, files.SUFFIXES), (answer, ANSWERS)):
        if word not in known:
            fix = f"Known are {', '.join(known)}."
            raise DataError(
                f"{word or name!r} is no format that is known here", case=case, fix=fix, code="unknown_format"
            )
    maps, refer = _switch(query, "maps"), _share(query, "refer")
    uncertainty = _switch(query, "uncertainty") or maps or refer is not None
    return Wish(case, suffix, answer, uncertainty, maps, refer)


def _switch(query: Mapping[str, str], word: str) -> bool:
    value = query.get(word, "0").lower()
    if value not in (*YES, *NO):
        raise UsageError(f"{word}={value} is neither yes nor no", fix=f"Write {word}=1, or leave it out.")
    return value in YES


def _share(query: Mapping[str, str], word: str) -> float | None:
    if word not in query:
        return None
    try:
        value = float(query[word])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError(f"{word}={query[word]} is no number from 0 to 1", fix=f"Write {word}=0.9.")
    return value


def answer(predictor: Predictor, upload: Path, folder: Path, wish: Wish, *, max_bytes: int) -> Answer:
    """Predict an uploaded volume and return what is sent back.

    Args:
        predictor: The model.
        upload: The volume; its suffix tells its format.
        folder: Empty, for files that are written on the way.
        wish: What is asked for.
        max_bytes: The most that the scan may take once it is unpacked.

    Raises:
        UserError: It cannot be read or predicted, or would take more than `max_bytes`.
    """
    image = _image(predictor, upload, case=wish.case, max_bytes=max_bytes)
    prediction = predictor.predict_image(image, case=wish.case, uncertainty=wish.uncertainty)
    target = folder / f"{wish.case}{wish.answer}"
    values = written_values(prediction.labels.array, predictor.labels)
    files.write_volume(target, values, prediction.labels.grid, description=predictor.description)
    headers = {"X-Autoseg-Seconds": f"{prediction.seconds:.2f}", **doubt_headers(prediction, wish)}
    if not wish.maps:
        return Answer(target.read_bytes(), target.name, "application/octet-stream", headers)
    written = outputs.write_doubt(folder, prediction, description=describe(predictor.plan))
    packed = folder / f"{wish.case}.zip"
    archives.pack(packed, {path.name: path for path in (target, *written)})
    return Answer(packed.read_bytes(), packed.name, "application/zip", headers)


def doubt_headers(prediction: Prediction, wish: Wish) -> dict[str, str]:
    """Return what headers say of the doubt.

    `X-Autoseg-Unlike`: `no`, or in what the scan is unlike those of the training; always, where the model can tell.
    `X-Autoseg-Quality`: structure -> [low, predicted Dice, high] as JSON; `X-Autoseg-Refer`: `yes` or `no`; as asked.
    """
    quality = outputs.quality_of(prediction)
    found = {}
    if quality.unlikeness is not None:
        found["X-Autoseg-Unlike"] = quality.unlikeness.line() if quality.unlikeness.flagged else "no"
    if wish.uncertainty:
        found["X-Autoseg-Quality"] = _short(quality)
    if wish.refer is not None:
        found["X-Autoseg-Refer"] = "yes" if quality.refers(wish.refer) else "no"
    return found


def _short(quality: PredictedQuality) -> str:
    rows = {item.structure: [round(value, 4) for value in (item.low, item.dice, item.high)] for item in quality.scores}
    return json.dumps(rows, separators=(",", ":"))


def _image(predictor: Predictor, path: Path, *, case: str, max_bytes: int) -> Image:
    channels = predictor.plan.channels
    try:
        header = files.read_header(path)
    except UserError as error:
        raise error.in_case(case) from None
    size = 4 * len(channels) * math.prod(header.grid.shape)
    if size > max_bytes:
        what = f"has {math.prod(header.grid.shape):,} voxels, {size / 1e6:,.0f} MB once it is unpacked"
        raise DataError(what, case=case, fix="Send a smaller scan, or start with more --max-mb.", code="too_large")
    return read_image(_sources(path, channels), channels, predictor.plan.corrections, case=case)


def _sources(path: Path, channels: tuple[Channel, ...]) -> dict[str, Source]:
    alone = len(channels) == 1
    return {
        item.name: FileSource(path=str(path), volume=None if alone else number) for number, item in enumerate(channels)
    }
