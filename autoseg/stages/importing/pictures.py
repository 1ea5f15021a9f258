"""Pictures with masks: `images/x.png` and `masks/x.png` (or `labels/`), or `x.png` beside `x_mask.png`.

Folders may hold further folders, such as one a split; cases of a folder `test` are locked away. Masks may be 0/255,
hold one value a structure, store grey as equal colours, or be painted in one colour a structure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.records.dataset import Case, Channel, FileSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError, UserError
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.groups import guess_from_names
from autoseg.stages.importing.listing import check_ids, enumerate_cases
from autoseg.stages.importing.unnamed import MOST_FILES, name_colours, name_structures, spread

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label")
TEST_FOLDERS = ("test", "tests", "testing")
MARKED = re.compile(r"(.+)[-_](?:masks?|labels?)", re.IGNORECASE)
NUMBERED = re.compile(r"(.*\d.*?)[-_.](?:im|img|image|slice|sl|frame)[-_]?\d+.*", re.IGNORECASE)
DEEPEST = 5
GREY = (Channel(name="image", kind="other"),)
COLOURS = tuple(Channel(name=name, kind="rgb") for name in ("red", "green", "blue"))
PIXELS = "Pictures do not say how large their pixels are: they are taken for squares of 1 mm, and so are distances."

Key = tuple[str, ...]  # folders below the source, those called images or masks left out, and the name


@dataclass(frozen=True)
class Pictures:
    """What was found: pairs of image and mask, and what has no partner."""

    pairs: dict[Key, tuple[Path, Path]]
    images: dict[Key, Path]
    masks: dict[Key, Path]


def recognise(source: Path) -> bool:
    """Return whether some picture has a mask."""
    return source.is_dir() and bool(_match(source).pairs)


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds.

    Raises:
        DataError: Images or masks lack their partner, some pictures are coloured and others grey (all are listed),
            two files are the same case, or the masks hold no labels.
    """
    found = _match(source)
    names = _name([*found.pairs, *found.images, *found.masks])
    check_ids([names[key] for key in found.pairs], file=source)
    skipped = frozenset(options.skip) & set(names.values())
    unlabelled = _check_pairs(found, names, skipped, source)
    pairs = {names[key]: pair for key, pair in found.pairs.items() if names[key] not in skipped}
    kept = {id: pairs[id] for id in sorted(pairs)}
    if not kept:
        raise DataError("no case is left", file=source, fix="Skip fewer cases.", code="no_cases")
    channels = _channels({id: image for id, (image, _) in kept.items()}, source)
    masks = [mask for _, mask in kept.values()]
    labels, notes = (name_colours if _are_painted(masks) else name_structures)(masks, source=source)
    tests = tuple(sorted(names[key] for key in found.pairs if _is_test(key) and names[key] in kept))
    return Draft(
        channels=channels,
        labels=labels,
        cases=tuple(_case(id, image, mask, channels) for id, (image, mask) in kept.items()),
        notes=(PIXELS, *notes, *_remarks(unlabelled, tests)),
        skipped=skipped,
        grouping=group_by_name(list(kept)),
        test_cases=tests,
    )


def group_by_name(ids: Sequence[str]) -> Grouping | None:
    """Return groups by what stands before the number of the picture (`p1-IM-0001-0048.dcm` is of `p1`), or None.

    The suffix of a file that was turned into a picture is not looked at.
    """
    found = {id: NUMBERED.fullmatch(id) for id in ids}
    groups = {id: match[1] for id, match in found.items() if match}
    counts = Counter(groups.values())
    if len(groups) == len(ids) and 1 < len(counts) < len(ids):
        group, count = counts.most_common(1)[0]
        how = (
            f"Guessed: {len(ids)} pictures are of {len(counts)} patients, as what stands before their number suggests; "
            f"for example {count} are of {group}. Confirm, or say otherwise with --groups."
        )
        return Grouping(groups, how, 0.9)
    short = {id: re.sub(r"\.[A-Za-z]{2,4}$", "", id) for id in ids}
    guess = guess_from_names(list(short.values())) if len(set(short.values())) == len(ids) else None
    return None if guess is None else Grouping({id: guess.groups[short[id]] for id in ids}, guess.how, guess.confidence)


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the pictures below a folder; links are followed, and a depth keeps a ring of them from going on."""
    from autoseg.images.files import PICTURE_SUFFIXES

    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if depth < DEEPEST:
                yield from _walk(path, depth + 1)
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            yield path


def _match(source: Path) -> Pictures:
    images: dict[Key, Path] = {}
    masks: dict[Key, Path] = {}
    for path in _walk(source):
        key, is_mask = _classify(path.relative_to(source))
        table = masks if is_mask else images
        if key in table:
            _refuse_twins(path, table[key])
        table[key] = path
    for key in [key for key in masks if key not in images]:
        marked = MARKED.fullmatch(key[-1])
        plain = (*key[:-1], marked[1]) if marked else key
        if plain in images and plain != key:
            if plain in masks:
                _refuse_twins(masks[key], masks[plain])
            masks[plain] = masks.pop(key)
    pairs = {key: (images[key], masks[key]) for key in images if key in masks}
    return Pictures(
        pairs=pairs,
        images={key: path for key, path in images.items() if key not in pairs},
        masks={key: path for key, path in masks.items() if key not in pairs},
    )


def _classify(path: Path) -> tuple[Key, bool]:
    """Return the key of a file, and whether it is a mask: its folder says so, else the end of its name."""
    from autoseg.images.files import strip_suffix

    stem = strip_suffix(path.name)
    folders = [part for part in path.parts[:-1] if part.lower() not in (*IMAGE_FOLDERS, *MASK_FOLDERS)]
    named = [part.lower() for part in path.parts[:-1] if part.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS)]
    is_mask = named[-1] in MASK_FOLDERS if named else MARKED.fullmatch(stem) is not None
    return (*folders, stem), is_mask


def _refuse_twins(path: Path, other: Path) -> None:
    raise DataError(
        f"and {other.name} are the same picture, or masks of the same one",
        file=path,
        fix="Keep one file for the image and one for its mask, with one value a structure.",
        code="duplicate_case",
    )


def _name(keys: Sequence[Key]) -> dict[Key, str]:
    """Return key -> id: the file's name, with its folders where names come more than once."""
    distinct = len({key[-1].lower() for key in keys}) == len(set(keys))
    return {key: key[-1] if distinct else "_".join(key) for key in keys}


def _check_pairs(found: Pictures, names: Mapping[Key, str], skipped: frozenset[str], source: Path) -> int:
    """Return how many images of a test folder have no mask; refuse other images and masks without a partner."""
    unlabelled = [key for key in found.images if _is_test(key)]
    lonely = [names[key] for key in found.images if not _is_test(key) and names[key] not in skipped]
    masks = [names[key] for key in found.masks if names[key] not in skipped]
    for ids, what, code in (
        (lonely, "pictures have no mask", "missing_labels"),
        (masks, "masks have no picture", "missing_image"),
    ):
        if ids:
            raise DataError(
                f"{len(ids)} {what} (and {len(found.pairs)} have both): {enumerate_cases(ids)}",
                file=source,
                fix="Masks lie in masks/ or labels/ under the name of the picture, or beside it as x_mask.png; "
                "or leave these out with --skip.",
                code=code,
            )
    return len(unlabelled)


def _is_test(key: Key) -> bool:
    return any(part.lower() in TEST_FOLDERS for part in key[:-1])


def _channels(images: Mapping[str, Path], source: Path) -> tuple[Channel, ...]:
    """Return one grey channel or three colours, as the first picture that can be read has it.

    Raises:
        DataError: Others differ (all that were looked at are listed), or there are neither one nor three colours.
    """
    from autoseg.images.files import read_header

    counts: dict[str, int] = {}
    ids = {path: id for id, path in images.items()}
    for path in spread(list(ids), most=MOST_FILES):
        try:
            counts[ids[path]] = read_header(path).volumes
        except UserError:
            continue  # the check says what is wrong with this file
    usual = next(iter(counts.values()), 1)
    odd = [id for id, count in counts.items() if count != usual]
    if odd:
        raise DataError(
            f"{len(odd)} of {len(counts)} pictures do not have {usual} colour{'s' * (usual > 1)} as the first one has: "
            f"{enumerate_cases(odd)}",
            file=source,
            fix="Save all of them grey or all coloured, or leave these out with --skip.",
            code="mixed_images",
        )
    if usual not in (1, 3):
        raise DataError(
            f"pictures have {usual} colours",
            file=next(iter(images.values())),
            fix="Save them grey or with red, green and blue, without transparency.",
            code="extra_channel",
        )
    return GREY if usual == 1 else COLOURS


def _are_painted(masks: Sequence[Path]) -> bool:
    """Whether some of the masks that are looked at have colours that differ."""
    from autoseg.images.files import read_header

    for path in spread(masks, most=MOST_FILES):
        try:
            if read_header(path).volumes >= 3:
                return True
        except UserError:
            continue  # the check says what is wrong with this file
    return False


def _case(id: str, image: Path, mask: Path, channels: Sequence[Channel]) -> Case:
    one = len(channels) == 1
    images: dict[str, DataSource] = {
        channel.name: FileSource(path=str(image), volume=None if one else number)
        for number, channel in enumerate(channels)
    }
    return Case(id=id, group=id, images=images, labels=FileSource(path=str(mask)))


def _remarks(unlabelled: int, tests: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if tests:
        notes.append(f"{len(tests)} cases of the folder 'test' are locked away for testing.")
    if unlabelled:
        notes.append(f"{unlabelled} pictures of the folder 'test' have no mask and were not imported.")
    return tuple(notes)
