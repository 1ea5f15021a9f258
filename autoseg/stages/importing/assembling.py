"""From a folder to a Dataset: the layout is recognised, and groups, folds and corrections are settled."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from autoseg.records.dataset import Case, Dataset, Fold, check_name
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing import (
    bids,
    corrections,
    datalist,
    decathlon,
    dicom_rt,
    gi_tract,
    hanseg,
    manifest,
    nnunet,
    pictures,
    totalsegmentator,
    volumes,
)
from autoseg.stages.importing.channels import with_kinds, with_optional
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.folds import folds_by_value, listed_folds, make_folds, read_splits
from autoseg.stages.importing.groups import given_groups, guess_from_names, guess_siblings
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.presence import find_classes
from autoseg.stages.importing.siblings import measure_scans

# In this order: the Decathlon's folders look like nnU-Net's and are told apart by their dataset.json.
LAYOUTS: tuple[tuple[str, ModuleType, str], ...] = (
    ("decathlon", decathlon, "a dataset.json that lists image and label pairs (Medical Segmentation Decathlon)"),
    ("nnunet", nnunet, "imagesTr, labelsTr and dataset.json (nnU-Net)"),
    ("hanseg", hanseg, "set_1/case_01/case_01_IMG_CT.nrrd (HaN-Seg)"),
    ("totalsegmentator", totalsegmentator, "s0001/ct.nii.gz and s0001/segmentations (TotalSegmentator)"),
    ("bids", bids, "dataset_description.json, sub-01/ct/sub-01_ct.nii.gz and derivatives with labels (BIDS)"),
    ("gi_tract", gi_tract, "train.csv and train/case1/case1_day0/scans (UW-Madison GI tract)"),
    ("datalist", datalist, "one .json that lists images, labels and folds (MONAI)"),
    ("dicom", dicom_rt, "DICOM series with RTSTRUCT or SEG files, in any folders (DICOM)"),
    ("pictures", pictures, "images/x.png and masks/x.png, or x.png and x_mask.png (pictures)"),
    (
        "volumes",
        volumes,
        "x.nii.gz and x_seg.nii.gz, images/ and labels/, or a folder a case with channels and labels",
    ),
    ("manifest", manifest, "a .csv or .json file with the columns case, image:<channel> and label (a manifest)"),
)
ONE_FILE_LAYOUTS = tuple(layout for layout in LAYOUTS if layout[0] in ("datalist", "manifest"))


def import_dataset(source: Path, name: str, *, options: ImportOptions) -> Dataset:
    """Return the data set that a folder holds; nothing is copied or changed.

    Args:
        source: The folder, or a list in one file.
        name: What autoseg calls it, safe as a folder name.
        options: What the user says about it.

    Raises:
        DataError: No layout is recognised, or what is there is damaged or incomplete.
        UsageError: An option names a case or channel that does not exist.
    """
    check_name(name, what="data set name")
    source = Path(source).expanduser().resolve()
    layout, module = recognise(source)
    draft: Draft = module.read(source, options)
    if not draft.cases:
        raise DataError("no case is left", file=source, fix="Skip fewer cases.", code="no_cases")
    _check_known(options, draft)
    channels = with_optional(with_kinds(draft.channels, options.channel_kinds), options.optional)
    draft = Draft(**{**vars(draft), "channels": channels})
    grouping = _group(draft, options)
    everyone = [case.model_copy(update={"group": grouping.groups[case.id]}) for case in draft.cases]
    locked = {*options.test_cases, *draft.test_cases}
    cases = [case for case in everyone if case.id not in locked]
    tests = [case for case in everyone if case.id in locked]
    if not cases:
        raise DataError("every case is a test case", file=source, fix="Leave some to train on.", code="no_cases")
    folds, notes = _fold(cases, draft, options)
    return Dataset(
        name=name,
        source=str(source),
        layout=layout,
        channels=draft.channels,
        labels=draft.labels,
        cases=tuple(cases),
        test_cases=tuple(tests),
        folds=folds,
        grouping=grouping.how,
        corrections=corrections.settle(draft, options),
        notes=(*draft.notes, *_skipped(draft), *_leaks(cases, tests), *notes),
    )


def recognise(source: Path) -> tuple[str, ModuleType]:
    """Return the name and the module of the layout that a folder, or a list in one file, has.

    Raises:
        DataError: It has none; the message says what is there and which layouts exist.
    """
    if not source.exists():
        fix = "Give the folder that holds the data set."
        raise DataError("does not exist", file=source, fix=fix, code="missing_folder")
    for name, module, _ in LAYOUTS if source.is_dir() else ONE_FILE_LAYOUTS:
        if module.recognise(source):
            return name, module
    if not source.is_dir():
        raise DataError(
            "is a file that lists no cases in a form that is known",
            file=source,
            fix=f"Give the folder that holds the data set, or {'; '.join(words for _, _, words in ONE_FILE_LAYOUTS)}.",
            code="unknown_layout",
        )
    there = sorted(p.name + ("/" if p.is_dir() else "") for p in source.iterdir() if not p.name.startswith("."))
    raise DataError(
        f"no known layout; it holds {enumerate_cases(there) if there else 'nothing'}",
        file=source,
        fix=f"Known are: {'; '.join(words for _, _, words in LAYOUTS)}.",
        code="unknown_layout",
    )


def _check_known(options: ImportOptions, draft: Draft) -> None:
    """Refuse to skip or to lock away a case that does not exist: a slip of the pen would go unseen."""
    ids = [case.id for case in draft.cases]
    unknown = [id for id in options.skip if id not in draft.skipped]
    unknown += [id for id in options.test_cases if id not in ids and id not in draft.skipped]
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*ids, *draft.skipped], n=3) or ids[:3]
        raise UsageError(
            f"there is no case {unknown[0]!r}", fix=f"Did you mean {' or '.join(near)}?", code="unknown_case"
        )


def _group(draft: Draft, options: ImportOptions) -> Grouping:
    if options.groups:
        return given_groups(options.groups, draft.cases)
    if draft.grouping is not None:
        return draft.grouping
    named = guess_from_names([case.id for case in draft.cases])
    return named or guess_siblings(draft.cases, measure_scans(draft.cases))


def _fold(cases: Sequence[Case], draft: Draft, options: ImportOptions) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    if options.splits is not None:
        return read_splits(options.splits, cases, left_out=(*options.skip, *options.test_cases, *draft.test_cases))
    if options.folds_by is not None:
        return folds_by_value(cases, _values(options.folds_by, cases), options.folds_by)
    if draft.held_out is not None:
        return listed_folds(draft.held_out, cases)
    presence = find_classes(cases, draft.labels) if draft.presence is None else draft.presence
    folds = make_folds(cases, presence, count=options.folds, seed=options.seed)
    groups = len({case.group for case in cases})
    if groups == 1:
        return folds, ("Warning: there is one patient, so nothing can be held out; only the fold 'all' exists.",)
    if groups < options.folds:
        return folds, (f"There are {groups} patients, so there are {groups} folds instead of {options.folds}.",)
    return folds, ()


def _values(attribute: str, cases: Sequence[Case]) -> dict[str, str]:
    """Return the attribute of each case, from the data set or from a table."""
    if Path(attribute).is_file():
        return dict(given_groups(attribute, cases).groups)
    return {case.id: case.attributes.get(attribute, "") for case in cases}


def _skipped(draft: Draft) -> tuple[str, ...]:
    if not draft.skipped:
        return ()
    return (f"{len(draft.skipped)} cases were left out as asked: {enumerate_cases(sorted(draft.skipped))}.",)


def _leaks(cases: Sequence[Case], tests: Sequence[Case]) -> tuple[str, ...]:
    """Warn of patients who have test scans and training scans."""
    shared = {case.group for case in cases} & {case.group for case in tests}
    if not shared:
        return ()
    words = enumerate_cases(sorted(shared))
    return (f"Warning: {len(shared)} patients have test scans and training scans ({words}); test scores leak.",)
