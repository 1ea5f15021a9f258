"""What every layout hands over, and what a user may say about an import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.records.dataset import Case, Channel, Correction
from autoseg.records.labels import Labels


@dataclass(frozen=True)
class ImportOptions:
    """What a user may say about an import; everything has a default.

    Attributes:
        groups: Who belongs together: a regular expression with one group that is applied to the case ids
            (`(\\d+)_day`), the path of a CSV or JSON table case -> group, or arithmetic on the number in the id
            (`(id+1)//2`). None: guessed, and the guess is said.
        splits: nnU-Net's `splits_final.json`; its splits become the folds.
        folds_by: Attribute of the cases (`site`), or path of a CSV or JSON table case -> value: a fold a value.
        test_cases: Ids that are locked away from planning, training and selection.
        skip: Ids to leave out.
        folds: How many folds, where the groups suffice.
        seed: Another seed deals the groups to other folds.
        register: Channels to be registered rigidly onto the first one.
        optional: Channels that cases may lack.
        fill_nan: What non-finite voxels become: "min" (the channel's finite minimum), a number, or None (refused).
        resample_labels: Whether labels on another grid may be brought onto the image's, nearest.
        roi_table: CSV with the columns `roi` and `name`: what ROIs and segments of DICOM files are called.
        n4: Channels whose bias field is corrected, or `all-mr` for every MR channel.
        drop_specks_mm3: Pieces of labels smaller than this are removed; None removes none.
        crop_foreground: Whether scans are cropped to the body.
        channel_kinds: Channel name -> kind, where the name alone does not tell it.
    """

    groups: str | None = None
    splits: Path | None = None
    folds_by: str | None = None
    test_cases: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    folds: int = 5
    seed: int = 0
    register: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    fill_nan: str | float | None = None
    resample_labels: bool = False
    roi_table: Path | None = None
    n4: tuple[str, ...] = ()
    drop_specks_mm3: float | None = None
    crop_foreground: bool = False
    channel_kinds: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grouping:
    """Which case belongs to whom.

    Attributes:
        groups: Case id -> group.
        how: How this came about, for people.
        confidence: 1 for what was given or published, lower for a guess, 0 when nothing spoke for any sibling.
    """

    groups: dict[str, str]
    how: str
    confidence: float


@dataclass(frozen=True)
class Draft:
    """A data set as its layout describes it, before groups, folds and corrections are settled.

    Attributes:
        channels: In the order of the network's input.
        labels: What is segmented.
        cases: Every case that is not skipped, sorted by id; `group` is the id until groups are settled.
        corrections: What the layout itself asks for.
        notes: What people should know, a line each.
        skipped: Ids of `ImportOptions.skip` that were met.
        grouping: Where the layout says who belongs to whom.
        held_out: Case id -> number of the fold that holds it out (None: none does), where the layout says so.
        test_cases: Ids that the layout itself locks away.
        presence: Case id -> names of the structures in it, where the layout tells without opening label files.
    """

    channels: tuple[Channel, ...]
    labels: Labels
    cases: tuple[Case, ...]
    corrections: tuple[Correction, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    grouping: Grouping | None = None
    held_out: Mapping[str, int | None] | None = None
    test_cases: tuple[str, ...] = ()
    presence: Mapping[str, frozenset[str]] | None = None
