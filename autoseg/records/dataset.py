"""A data set as it was imported: where everything lies, who belongs to whom, and what is done to every scan."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autoseg.records.errors import DataError, UsageError
from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels
from autoseg.records.record import Record

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str, *, what: str, file: object = None) -> str:
    """Return `name` if it may become part of a path: letters, digits, `.`, `_` and `-`, at most 100.

    Raises:
        DataError: It may not (a separator, `..`, a leading dot, white space, or too long).
    """
    if not NAME_PATTERN.fullmatch(name) or ".." in name:
        raise DataError(
            f"{what} {name!r} is not a safe name",
            file=file,
            fix="Use letters, digits, '.', '_' and '-', starting with a letter or a digit, at most 100 characters.",
            code="unsafe_name",
        )
    return name


class Channel(Record):
    """One input of the network: `kind` decides the normalisation, `optional` whether a case may lack it."""

    name: str
    kind: Literal["ct", "mr", "pet", "us", "rgb", "other"]
    optional: bool = False


class FileSource(Record):
    """One file, or one volume of a 4D file (`volume` counts along its last axis in the file's own order)."""

    kind: Literal["file"] = "file"
    path: str
    volume: int | None = None

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return (self.path,)


class Mask(Record):
    """One binary mask file and the inside value that it stands for."""

    path: str
    value: int


class MaskSource(Record):
    """Labels kept as one binary mask a structure; where masks overlap, the later one in the list wins."""

    kind: Literal["masks"] = "masks"
    masks: tuple[Mask, ...]

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return tuple(mask.path for mask in self.masks)


class SlicesSource(Record):
    """One picture a slice, from z = 0 up; `spacing_mm` is (z, y, x), which pictures do not say."""

    kind: Literal["slices"] = "slices"
    paths: tuple[str, ...]
    spacing_mm: Triple

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return self.paths


class Combination(Record):
    """Classes that hold a pixel together (often just one), and the inside value that stands for them."""

    classes: tuple[str, ...]
    value: int


class RunLengthSource(Record):
    """Labels as run lengths in a table of `id,class,segmentation`: a row a slice and class, classes may overlap.

    Attributes:
        path: The table.
        prefix: Of the ids of this scan's rows; the slice's number follows it.
        first: Number of the slice at z = 0.
        combinations: Every set of classes that a pixel may have.
    """

    kind: Literal["run_lengths"] = "run_lengths"
    path: str
    prefix: str
    first: int
    combinations: tuple[Combination, ...]

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return (self.path,)


class DicomSource(Record):
    """A DICOM series: its files in any order; positions in the patient order them when they are read."""

    kind: Literal["dicom"] = "dicom"
    paths: tuple[str, ...]

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return self.paths


class DicomPart(Record):
    """One ROI of an RTSTRUCT file or one segment of a DICOM SEG file, and the inside value that it stands for.

    Attributes:
        path: The file.
        number: The ROI number or segment number within the file.
        value: Inside value.
    """

    path: str
    number: int
    value: int


class RtstructSource(Record):
    """Labels as contours in RTSTRUCT files; where two overlap, the later one in the list wins.

    Attributes:
        rois: In painting order.
        frame_of_reference: UID of the image's patient coordinates; contours in others are refused. "" is not asked.
    """

    kind: Literal["rtstruct"] = "rtstruct"
    rois: tuple[DicomPart, ...]
    frame_of_reference: str = ""

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return tuple(dict.fromkeys(part.path for part in self.rois))


class DicomSegSource(Record):
    """Labels as segments of DICOM SEG files; where two overlap, the later one in the list wins.

    Attributes:
        segments: In painting order.
        frame_of_reference: UID of the image's patient coordinates; segments in others are refused. "" is not asked.
    """

    kind: Literal["dicom_seg"] = "dicom_seg"
    segments: tuple[DicomPart, ...]
    frame_of_reference: str = ""

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that is read."""
        return tuple(dict.fromkeys(part.path for part in self.segments))


Source = Annotated[
    FileSource | MaskSource | SlicesSource | RunLengthSource | DicomSource | RtstructSource | DicomSegSource,
    Field(discriminator="kind"),
]


class Correction(Record):
    """One thing that every scan gets before anything else, in training and in prediction.

    Attributes:
        kind: `fill_nan` (non-finite voxels become `value`, or the channel's finite minimum when it is None),
            `resample_to_first` (a channel on another grid goes onto the first channel's, with a field-of-view mask),
            `register_to_first` (rigidly), `orient` (array axes along patient axes: LPS), `remap_labels` (values of
            the files become 1..K; they come back on export), `resample_labels` (labels onto the image, nearest),
            `n4` (the smooth shading of an MR channel is divided out), `drop_specks` (pieces of labels smaller than
            `value` mm3 are painted over), `crop_foreground` (what lies outside a box around the body, with a margin
            of `value` mm, becomes 0 and so is cropped; predictions come back on the whole scan).
            `keep_axes` (array axes stay as they are stored, wherever they point: only for models that were trained so
            elsewhere).
        channel: The channel it concerns, or None for all.
        value: See `kind`.
        because: The reason, for people.
    """

    kind: Literal[
        "fill_nan",
        "resample_to_first",
        "register_to_first",
        "orient",
        "remap_labels",
        "resample_labels",
        "n4",
        "drop_specks",
        "crop_foreground",
        "keep_axes",
    ]
    channel: str | None = None
    value: float | None = None
    because: str


class Case(Record):
    """One scan with its labels.

    Attributes:
        id: Unique without regard to case, safe as a file name.
        group: The patient; folds never split a group.
        images: Channel name -> where it lies. An optional channel may be missing.
        labels: Where the labels lie, or None when there are none.
        annotated: Names of the structures that were annotated here; None means all. *Not annotated* (the class may
            hide in the background) is not *absent* (annotated, and found nowhere).
        attributes: Facts such as site, scanner, disease.
    """

    id: str
    group: str
    images: dict[str, Source]
    labels: Source | None = None
    annotated: tuple[str, ...] | None = None
    attributes: dict[str, str] = {}

    def files(self) -> tuple[str, ...]:
        """Return the path of every file that the case is read from."""
        sources = [*self.images.values(), *([self.labels] if self.labels else [])]
        return tuple(path for source in sources for path in source.files())


class Fold(Record):
    """One split of the cases; `name` is "0", "1", ... or "all" (trained on everything, nothing held out)."""

    name: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]


class Dataset(Record):
    """Everything that an import knows of a data set; refers to the user's files, never copies them.

    Attributes:
        schema_version: Of this file.
        name: Safe as a folder name.
        source: The folder, or the one file, that was imported.
        layout: The layout that was recognised (`nnunet`, `decathlon`, `hanseg`, `bids`, ...).
        channels: In the order of the network's input.
        labels: What is segmented.
        cases: For training and cross-validation.
        test_cases: Locked away from planning, training and selection.
        folds: A partition of `cases` by group, and "all".
        grouping: How the groups came about, for people.
        corrections: The chain that every scan goes through, in order.
        notes: What the import wants people to know (a warning a line).
    """

    schema_version: Literal[1] = 1
    name: str
    source: str
    layout: str
    channels: tuple[Channel, ...]
    labels: Labels
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()
    folds: tuple[Fold, ...]
    grouping: str
    corrections: tuple[Correction, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> Self:
        seen: set[str] = set()
        for case in (*self.cases, *self.test_cases):
            check_name(case.id, what="case id")
            if case.id.lower() in seen:
                raise DataError(
                    "two cases have this id (upper and lower case count as the same)",
                    case=case.id,
                    fix="Rename one of them.",
                    code="duplicate_case",
                )
            seen.add(case.id.lower())
        return self

    def case(self, id: str) -> Case:
        """Return the case with this id, training or test.

        Raises:
            UsageError: There is none; the message lists the nearest.
        """
        for case in (*self.cases, *self.test_cases):
            if case.id == id:
                return case
        raise UsageError(f"data set {self.name} has no case {id!r}", fix=f"It has {self.cases[0].id}, ...")

    def fold(self, name: str) -> Fold:
        """Return the fold with this name ("0", "1", ... or "all").

        Raises:
            UsageError: There is none; the message lists those there are.
        """
        for fold in self.folds:
            if fold.name == name:
                return fold
        there = ", ".join(fold.name for fold in self.folds)
        raise UsageError(f"data set {self.name} has no fold {name}", fix=f"There are: {there}.")
