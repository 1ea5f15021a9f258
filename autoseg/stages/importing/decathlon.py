"""The layout of the Medical Segmentation Decathlon: `dataset.json` lists pairs of image and label files.

Several modalities lie in one 4D image, channels last. Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from autoseg.records.dataset import Case, Channel, FileSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError
from autoseg.stages.importing.channels import read_channels
from autoseg.stages.importing.descriptions import read_description
from autoseg.stages.importing.draft import Draft, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases, image_files, listed_file
from autoseg.stages.importing.structures import read_structures


def recognise(source: Path) -> bool:
    """Return whether `dataset.json` lists its training pairs and the images are not split into channel files."""
    try:
        entries = read_description(source / "dataset.json").get("training")
    except DataError:
        return False
    if not isinstance(entries, list) or not any(isinstance(e, Mapping) and "image" in e for e in entries):
        return False
    # nnU-Net's first version lists pairs as well, but its files are called case_0000, which no entry is.
    images = [entry["image"] for entry in entries if isinstance(entry, Mapping) and "image" in entry]
    listed = {PurePosixPath(str(path)).name for path in images}
    split = [p.name for p in (source / "imagesTr").glob("*_0000.*") if not p.name.startswith("._")]
    return not split or bool(set(split) & listed) or any((source / str(path)).is_file() for path in images)


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds.

    Raises:
        DataError: `dataset.json` is wrong, an entry leads outside of the folder, or files are missing (all listed).
    """
    file = source / "dataset.json"
    description = read_description(file)
    channels = read_channels(description.get("modality", description.get("channel_names")), file=file)
    labels, _ = read_structures(description.get("labels"), file=file)  # the inverse form is this layout's own
    pairs = _pairs(source, description["training"], file)
    skipped = frozenset(options.skip) & pairs.keys()
    kept = sorted(pairs.keys() - skipped)
    _check_files({id: pairs[id] for id in kept}, source)
    cases = tuple(
        Case(id=id, group=id, images=_sources(image, channels), labels=FileSource(path=str(truth)))
        for id in kept
        for image, truth in [pairs[id]]
    )
    return Draft(
        channels=channels,
        labels=labels,
        cases=cases,
        notes=_remarks(source, description, pairs),
        skipped=skipped,
    )


def _pairs(source: Path, entries: Sequence[Any], file: Path) -> dict[str, tuple[Path, Path]]:
    from autoseg.images.files import strip_suffix

    pairs: dict[str, tuple[Path, Path]] = {}
    for number, entry in enumerate(entries):
        image, truth = _entry(entry, number, file)
        if PurePosixPath(image).name.startswith("._"):
            continue
        id = strip_suffix(PurePosixPath(image).name)
        if id in pairs:
            raise DataError(
                "is listed twice", case=id, file=file, fix="Keep one of the two entries.", code="duplicate_case"
            )
        pairs[id] = (listed_file(source, image, file=file), listed_file(source, truth, file=file))
    if not pairs:
        raise DataError("lists no training case", file=file, fix="Check the file.", code="no_cases")
    check_ids(pairs, file=file)
    return pairs


def _entry(entry: Any, number: int, file: Path) -> tuple[str, str]:
    if isinstance(entry, Mapping):
        image, truth = entry.get("image"), entry.get("label")
        if isinstance(image, str) and isinstance(truth, str):
            return image, truth
    raise DataError(
        f"entry {number} of 'training' is not understood",
        file=file,
        fix='It must be {"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}.',
        code="bad_entry",
    )


def _check_files(pairs: Mapping[str, tuple[Path, Path]], source: Path) -> None:
    missing = [id for id, files in pairs.items() if not all(path.is_file() for path in files)]
    if missing:
        first = next(path for path in pairs[missing[0]] if not path.is_file())
        raise DataError(
            f"{len(missing)} of {len(pairs)} cases lack a file that dataset.json lists: {enumerate_cases(missing)}",
            file=first,
            fix="Add the files, or leave these cases out with --skip.",
            code="missing_file",
        )


def _sources(image: Path, channels: Sequence[Channel]) -> dict[str, DataSource]:
    if len(channels) == 1:
        return {channels[0].name: FileSource(path=str(image))}
    return {channel.name: FileSource(path=str(image), volume=number) for number, channel in enumerate(channels)}


def _remarks(source: Path, description: Mapping[str, Any], pairs: Mapping[str, object]) -> tuple[str, ...]:
    notes = []
    said = description.get("numTraining")
    if said is not None and said != len(pairs):
        notes.append(f"dataset.json says numTraining {said}, but lists {len(pairs)} cases; the list counts.")
    tests = source / "imagesTs"
    if tests.is_dir():
        count = len(image_files(tests))
        notes.append(f"imagesTs holds {count} images that were not imported: they have no labels.")
    return tuple(notes)
