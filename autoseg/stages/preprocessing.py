"""Case + Preparation -> PreprocessedCase; on disk case by case, so that a broken run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.compute.workers import map_cases, suited
from autoseg.images import kept_fields
from autoseg.images.normalize import normalize
from autoseg.images.positions import draw_positions, read_positions, write_positions
from autoseg.images.regrid import to_network
from autoseg.images.store import REDO, check_file, file_digest, open_array, write_array
from autoseg.locks import locked
from autoseg.records.configuration import Configuration, Preparation
from autoseg.records.dataset import Case, Dataset, Source
from autoseg.records.errors import DataError, UserError
from autoseg.records.markers import CaseMarker
from autoseg.records.volumes import CaseRegions, Image, LabelMap, PreprocessedCase
from autoseg.storage import read_record, write_record

log = logging.getLogger(__name__)

# Raised when the same inputs would give other arrays, so that old ones are made again.
METHOD_VERSION = 2
# Scans that keep their own distance of slices are read a slice at a time; else chunks follow 3D patches. That
# hangs on what all configurations of a data key have in common, so a case that is done again has the same bytes.
CHUNK_OF_SLICES = (1, 1, 256, 256)


@dataclass(frozen=True)
class _Task:
    """All that a worker needs for one case."""

    case: Case
    dataset: Dataset
    preparation: Preparation
    folder: Path
    digest: str
    kept: Path | None


def prepare(
    image: Image,
    labels: LabelMap | None,
    preparation: Configuration | Preparation,
    *,
    case: str,
    annotated: Sequence[int] = (),
    ignore: int | None = None,
) -> PreprocessedCase:
    """Return one case as the network of a configuration sees it, in memory.

    Args:
        image: (C, Z, Y, X) as read, in any orientation.
        labels: Inside values on the image's grid; None in prediction.
        preparation: Of the configuration, or the configuration itself.
        case: Its id; the sample of positions depends on it and on nothing else.
        annotated: Inside values that were annotated in this case.
        ignore: The inside value that is no structure and gets no positions.

    Raises:
        DataError: The image has another number of channels than the preparation.
    """
    rule = partial(_normalize, preparation=preparation)
    try:
        array, _, seen, passage = to_network(image, labels, preparation, normalize=rule)
    except UserError as error:
        raise error.in_case(case) from None
    return PreprocessedCase(
        id=case,
        image=array,
        labels=seen,
        previous=None,
        passage=passage,
        positions={} if seen is None else draw_positions(seen, case=case, ignore=ignore),
        annotated=tuple(annotated),
    )


def preprocess(
    dataset: Dataset,
    preparation: Preparation,
    folder: Path,
    *,
    cases: Sequence[str] | None = None,
    workers: int | None = None,
    on_case: Callable[[int, int], None] = lambda done, count: None,
    kept: Path | None = None,
) -> dict[str, UserError]:
    """Preprocess cases into `folder`; those that are there already, whole and up to date, are left alone.

    Args:
        dataset: Where the cases lie.
        preparation: Of a configuration; all configurations with its `data_key` share the folder.
        folder: `workspace.preprocessed(preparation.data_key)`.
        cases: Ids; None means every training case.
        workers: Processes, as for `map_cases`.
        on_case: Called after every case with how many are done, and of how many; what it raises ends the work.
        kept: Folder in which registrations and bias fields are kept.

    Returns:
        Case id -> error of every case that failed; empty when all are there.

    Raises:
        ResourceError: Another run works in this folder.
        UsageError: The data set has no such case.
    """
    wanted = [dataset.case(id) for id in cases] if cases is not None else list(dataset.cases)
    failures: dict[str, UserError] = {}
    tasks: list[_Task] = []
    for case in wanted:
        try:
            digest = inputs_digest(dataset, case, preparation)
            tasks.append(_Task(case, dataset, preparation, folder, digest, kept))
        except UserError as error:
            failures[case.id] = error.in_case(case.id)
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        current = list(pool.map(_is_current, tasks))
    todo = [task for task, done in zip(tasks, current, strict=True) if not done]
    log.info("%d cases to preprocess, %d are there", len(todo), len(tasks) - len(todo))
    if not todo:
        return failures
    with locked(folder):
        count = suited(workers, (path for task in todo for path in task.case.files()))
        results = map_cases(_write_case, [(t.case.id, t) for t in todo], workers=count, label="preprocessing")
        for done, (id, result) in enumerate(results, start=1):
            if isinstance(result, UserError):
                failures[id] = result
            on_case(done, len(todo))
    return failures


def open_case(
    folder: Path, case_id: str, *, previous: Path | None = None, regions: CaseRegions | None = None
) -> PreprocessedCase:
    """Return a preprocessed case whose arrays read from disk the window asked for.

    Args:
        folder: Of the configuration's `data_key`.
        case_id: Which case.
        previous: A `.b2nd` file with what the previous stage predicted, (Z, Y, X) on this case's network grid.
        regions: Where windows lie in it.

    Raises:
        DataError: The case is not there, not finished, or its files have changed since they were written.
    """
    marker = _marker(folder, case_id)
    for name, sha256 in marker.files.items():
        try:
            check_file(folder / name, sha256)
        except UserError as error:
            raise error.in_case(case_id) from None
    has_labels = f"{case_id}.labels.b2nd" in marker.files
    return PreprocessedCase(
        id=case_id,
        image=open_array(folder / f"{case_id}.image.b2nd"),
        labels=open_array(folder / f"{case_id}.labels.b2nd") if has_labels else None,
        previous=None if previous is None else _open_previous(previous, marker),
        passage=marker.passage,
        positions=read_positions(folder / f"{case_id}.positions.npz") if has_labels else {},
        annotated=marker.annotated,
        regions=regions,
    )


def cases_digest(folder: Path, ids: Sequence[str]) -> str:
    """Return a digest of what was preprocessed for these cases, whatever their order.

    It follows from the arrays, the passage and what was annotated: cases that were done again from a file that was
    only touched keep their digest.

    Raises:
        DataError: A case is not there or not finished.
    """
    markers = (_marker(folder, id).model_copy(update={"inputs_digest": ""}) for id in sorted(ids))
    rows = [marker.digest() for marker in markers]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def inputs_digest(dataset: Dataset, case: Case, preparation: Preparation) -> str:
    """Return a digest of everything that the preprocessed case follows from.

    Source files count with path, size and time of change, not with their content: reading them all would take as long
    as preprocessing.

    Raises:
        DataError: A source file is missing.
    """
    facts = {
        "method": METHOD_VERSION,
        "channels": [channel.model_dump() for channel in dataset.channels],
        "images": {name: _source_facts(source) for name, source in sorted(case.images.items())},
        "labels": None if case.labels is None else _source_facts(case.labels),
        "annotated": case.annotated,
        "names": dataset.labels.model_dump(),
        "corrections": [correction.model_dump(exclude={"because"}) for correction in dataset.corrections],
        "axis_order": preparation.axis_order,
        "spacing_mm": preparation.spacing_mm,
        "normalizations": [rule.model_dump() for rule in preparation.normalizations],
    }
    if any(correction.kind == "n4" for correction in dataset.corrections):
        facts["n4"] = kept_fields.METHOD_VERSION
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _normalize(image: np.ndarray, valid: np.ndarray | None, *, preparation: Configuration | Preparation) -> np.ndarray:
    return normalize(image, preparation.normalizations, valid)


def _write_case(task: _Task) -> None:
    """Read, prepare and write one case; the marker comes last and says that the rest is whole."""
    marker = task.folder / f"{task.case.id}.json"
    marker.unlink(missing_ok=True)
    names = task.dataset.labels
    image, labels = _read(task)
    case = prepare(image, labels, task.preparation, case=task.case.id, annotated=_annotated(task),
                   ignore=names.ignore_value)  # fmt: skip
    files = {name: file_digest(task.folder / name) for name in _write_arrays(task, case)}
    voxels = [int(np.count_nonzero(case.labels == item.value)) for item in names.structures] if labels else []
    write_record(
        marker,
        CaseMarker(
            case=case.id,
            inputs_digest=task.digest,
            files=files,
            annotated=case.annotated,
            passage=case.passage,
            voxels=tuple(voxels),
        ),
        durable=False,  # a marker that is lost, or torn, is a case to be done again
    )


def _read(task: _Task) -> tuple[Image, LabelMap | None]:
    # Imported here so that a stage that only opens cases does not load the readers of every format.
    from autoseg.images.cases import read_image, read_labels

    case, dataset = task.case, task.dataset
    image = read_image(case.images, dataset.channels, dataset.corrections, case=case.id, kept=task.kept)
    if case.labels is None:
        return image, None
    labels = read_labels(case.labels, dataset.labels, image.grid, case=case.id, corrections=dataset.corrections)
    return image, labels


def _write_arrays(task: _Task, case: PreprocessedCase) -> list[str]:
    """Write the arrays of a case and return the names of their files.

    Not waiting for the disk: the marker holds their hashes, and a case that does not fit its marker is done again.
    """
    chunk = CHUNK_OF_SLICES if task.preparation.spacing_mm[0] is None else None
    names = [f"{case.id}.image.b2nd"]
    write_array(task.folder / names[0], case.image, chunk=chunk, durable=False)
    if case.labels is not None:
        names += [f"{case.id}.labels.b2nd", f"{case.id}.positions.npz"]
        write_array(task.folder / names[1], case.labels, chunk=chunk and chunk[1:], durable=False)
        write_positions(task.folder / names[2], case.positions, durable=False)
    return names


def _annotated(task: _Task) -> tuple[int, ...]:
    named = task.case.annotated
    return tuple(item.value for item in task.dataset.labels.structures if named is None or item.name in named)


def _is_current(task: _Task) -> bool:
    """Return whether the case is there, whole, and made from what its inputs are now."""
    try:
        marker = _marker(task.folder, task.case.id)
        if marker.inputs_digest != task.digest:
            return False
        for name, sha256 in marker.files.items():
            check_file(task.folder / name, sha256)
    except UserError as error:
        log.debug("%s is preprocessed: %s", task.case.id, error)
        return False
    return True


def _marker(folder: Path, case_id: str) -> CaseMarker:
    path = folder / f"{case_id}.json"
    if not path.exists():
        raise DataError("is not preprocessed, or only in part", case=case_id, file=path, fix=REDO, code="no_case")
    return read_record(path, CaseMarker)


def _open_previous(path: Path, marker: CaseMarker) -> Any:
    array = open_array(path)
    if tuple(array.shape) != marker.passage.network.shape:
        raise DataError(
            f"the previous stage predicted {tuple(array.shape)} voxels instead of {marker.passage.network.shape}",
            case=marker.case,
            file=path,
            fix="Predict the previous stage again.",
            code="previous_shape",
        )
    return array


def _source_facts(source: Source) -> list[Any]:
    """Return what tells whether a source has changed."""
    facts: list[Any] = [source.model_dump()]
    for path in source.files():
        try:
            status = Path(path).stat()
        except OSError:
            raise DataError(
                "is missing", file=path, fix="Restore it, or import the data set again.", code="missing_file"
            ) from None
        facts.append([path, status.st_size, status.st_mtime_ns])
    return facts
