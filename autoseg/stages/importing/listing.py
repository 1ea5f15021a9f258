"""Image files of a folder by case id, so that every layout refuses and ignores the same things."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path

from autoseg.records.dataset import check_name
from autoseg.records.errors import DataError


def image_files(folder: Path) -> dict[str, Path]:
    """Return name without suffix -> file for every image of a folder, sorted by name.

    Files that no image reader knows, `._*`, `.DS_Store` and the like are passed over.

    Raises:
        DataError: The folder is missing, or two files differ by suffix or by upper and lower case alone.
    """
    from autoseg.images.files import is_image, strip_suffix

    if not folder.is_dir():
        raise DataError("is missing", file=folder, fix="Check the folder that was given.", code="missing_folder")
    files: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() or not is_image(path):
            continue
        stem = strip_suffix(path.name)
        other = seen.get(stem.lower())
        if other is not None:
            raise DataError(
                f"and {other.name} are the same case (suffix, and upper and lower case, do not count)",
                file=path,
                fix="Remove or rename one of them.",
                code="duplicate_case",
            )
        seen[stem.lower()] = path
        files[stem] = path
    return files


def check_ids(ids: Iterable[str], *, file: object) -> None:
    """Raise a DataError when an id cannot be part of a path, or two are the same but for upper and lower case."""
    seen: dict[str, str] = {}
    for id in ids:
        check_name(id, what="case id", file=file)
        other = seen.setdefault(id.lower(), id)
        if other != id:
            raise DataError(
                f"the case ids {other} and {id} differ by upper and lower case alone",
                file=file,
                fix="Rename one of them.",
                code="duplicate_case",
            )


def listed_file(source: Path, path: str, *, file: object) -> Path:
    """Return `source / path` for a path that a `dataset.json` lists.

    The check is of the words alone: links in a data set are its owner's, and may lead to another disk.

    Raises:
        DataError: The path is absolute or climbs out of the folder.
    """
    plain = posixpath.normpath(path.replace("\\", "/"))
    if plain.startswith(("/", "..", "~")) or ":" in plain.partition("/")[0] or "\0" in plain:
        raise DataError(
            f"lists {path!r}, which leads outside of {source}",
            file=file,
            fix="List paths below that folder.",
            code="unsafe_path",
        )
    return source / plain


def enumerate_cases(ids: Sequence[str], *, most: int = 5) -> str:
    """Return ids in words: `a, b, c, d, e and 12 more`."""
    listed = sorted(ids)
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text} and {len(listed) - most} more"
