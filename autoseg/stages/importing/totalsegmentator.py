"""The layout of TotalSegmentator: `s0001/ct.nii.gz` (or `mri.nii.gz`) and `s0001/segmentations/<structure>.nii.gz`.

One binary mask a structure. An empty mask says that the structure is absent; a structure without a file was *not
annotated*. `meta.csv` tells which cases are for testing. Source: Wasserthal et al. 2023, doi:10.1148/ryai.230024.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.records.dataset import Case, Channel, FileSource, Mask, MaskSource
from autoseg.records.errors import DataError
from autoseg.records.labels import Labels
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases, image_files
from autoseg.stages.importing.structures import make_labels
from autoseg.stages.importing.tables import read_table

CHANNELS = {"ct": Channel(name="CT", kind="ct"), "mri": Channel(name="MRI", kind="mr")}
SPLITS = ("train", "val", "test")
GROUPING = (
    "Every case is taken for another patient: the layout does not say who is who. "
    "If some belong together, say so with --groups."
)


@dataclass(frozen=True)
class Scan:
    """The files of one case folder: `ct` or `mri` -> image, name of a structure -> mask."""

    images: dict[str, Path]
    masks: dict[str, Path]


def recognise(source: Path) -> bool:
    """Return whether some folder has an image and a folder `segmentations`; `source` itself counts."""
    return any(_images(folder) and (folder / "segmentations").is_dir() for folder in _case_folders(source))


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds; no voxel is read.

    Raises:
        DataError: Cases lack their image or their masks, or have images of two kinds (all are listed); `meta.csv`
            is not understood.
    """
    scans = {folder.name: _scan(folder) for folder in _case_folders(source)}
    skipped = frozenset(options.skip) & scans.keys()
    kept = {id: scan for id, scan in sorted(scans.items()) if id not in skipped}
    check_ids(kept, file=source)
    kind = _kind(kept, source)
    labels = _labels(kept, source)
    tests, notes = _tests(source, scans.keys())
    return Draft(
        channels=(CHANNELS[kind],),
        labels=labels,
        cases=tuple(_case(id, scan, kind, labels) for id, scan in kept.items()),
        notes=(*_notes(kept, labels), *notes),
        skipped=skipped,
        grouping=Grouping({id: id for id in kept}, GROUPING, 0.0),
        test_cases=tuple(id for id in kept if id in tests),
    )


def _case_folders(source: Path) -> list[Path]:
    """Return the folder itself when it is a case, else the cases in it."""
    if _is_case(source):
        return [source]
    if not source.is_dir():
        return []
    return [path for path in sorted(source.iterdir()) if not path.name.startswith(".") and _is_case(path)]


def _is_case(folder: Path) -> bool:
    return (folder / "segmentations").is_dir() or bool(_images(folder))


def _images(folder: Path) -> dict[str, Path]:
    found = {}
    for kind in CHANNELS:
        paths = [folder / f"{kind}{suffix}" for suffix in (".nii.gz", ".nii")]
        there = [path for path in paths if path.is_file()]
        if there:
            found[kind] = there[0]
    return found


def _scan(folder: Path) -> Scan:
    masks = folder / "segmentations"
    return Scan(images=_images(folder), masks=image_files(masks) if masks.is_dir() else {})


def _kind(scans: Mapping[str, Scan], source: Path) -> str:
    """Return which of the images all cases have."""
    for lacking, what in (
        ([id for id, scan in scans.items() if not scan.images], "lack ct.nii.gz (or mri.nii.gz)"),
        ([id for id, scan in scans.items() if not scan.masks], "have no mask in their folder 'segmentations'"),
    ):
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(scans)} cases {what}: {enumerate_cases(lacking)}",
                file=source,
                fix="Add the files, or leave these cases out with --skip.",
                code="missing_image" if "lack" in what else "missing_labels",
            )
    for kind in CHANNELS:
        if all(kind in scan.images for scan in scans.values()):
            return kind
    others = [id for id, scan in scans.items() if "ct" not in scan.images]
    raise DataError(
        f"{len(others)} of {len(scans)} cases have mri.nii.gz where the others have ct.nii.gz: "
        f"{enumerate_cases(others)}",
        file=source,
        fix="Import CT and MR as two data sets.",
        code="mixed_images",
    )


def _labels(scans: Mapping[str, Scan], source: Path) -> Labels:
    """Return the structures of all cases together, by name."""
    names = {name for scan in scans.values() for name in scan.masks}
    if not names:
        raise DataError("no case is left", file=source, fix="Skip fewer cases.", code="no_cases")
    return make_labels(dict(enumerate(sorted(names, key=lambda name: (name.lower(), name)), start=1)))


def _case(id: str, scan: Scan, kind: str, labels: Labels) -> Case:
    there = [item for item in labels.structures if item.name in scan.masks]
    complete = len(there) == len(labels.structures)
    masks = tuple(Mask(path=str(scan.masks[item.name]), value=item.value) for item in there)
    return Case(
        id=id,
        group=id,
        images={CHANNELS[kind].name: FileSource(path=str(scan.images[kind]))},
        labels=MaskSource(masks=masks),
        annotated=None if complete else tuple(item.name for item in there),
    )


def _tests(source: Path, known: Collection[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the ids that `meta.csv` keeps for testing, and notes; one case folder by itself is not asked."""
    file = source / "meta.csv"
    if not file.is_file() or _is_case(source):
        return frozenset(), ()
    splits = _read_splits(file)
    tests = frozenset(id for id, split in splits.items() if split == "test" and id in known)
    notes = [f"meta.csv keeps {len(tests)} cases for testing; they are locked away."] if tests else []
    if "val" in splits.values():
        notes.append("Cases that meta.csv calls 'val' are trained on: the folds hold out cases of their own.")
    unlisted = [id for id in known if id not in splits]
    if unlisted:
        notes.append(f"{len(unlisted)} cases have no row in meta.csv and are trained on: {enumerate_cases(unlisted)}.")
    absent = [id for id in splits if id not in known]
    if absent:
        notes.append(f"{len(absent)} rows of meta.csv are of cases that are not here: {enumerate_cases(absent)}.")
    return tests, tuple(notes)


def _read_splits(file: Path) -> dict[str, str]:
    columns, rows = read_table(file)
    if not {"image_id", "split"} <= set(columns):
        raise DataError(
            f"has the columns {', '.join(columns)}",
            file=file,
            fix="It needs image_id and split, separated by ';' or ','.",
            code="bad_table",
        )
    places = columns.index("image_id"), columns.index("split")
    splits: dict[str, str] = {}
    for number, cells in rows:
        id, split = (cells[place] if place < len(cells) else "" for place in places)
        if not id or split.lower() not in SPLITS or splits.get(id, split.lower()) != split.lower():
            raise DataError(
                f"line {number}: case {id!r} has the split {split!r}",
                file=file,
                fix="Every row names a case once and says train, val or test.",
                code="bad_splits",
            )
        splits[id] = split.lower()
    return splits


def _notes(scans: Mapping[str, Scan], labels: Labels) -> tuple[str, ...]:
    notes = ["Where two masks overlap, the structure that comes later in the alphabet wins."]
    partial = [id for id, scan in scans.items() if len(scan.masks) < len(labels.structures)]
    if partial:
        notes.append(
            f"{len(partial)} of {len(scans)} cases have no file for some of the {len(labels.structures)} structures "
            f"({enumerate_cases(partial)}): not annotated there, which is not the same as absent (an empty mask)."
        )
    return tuple(notes)
