"""Public data sets: from a name to a folder that can be imported, or a sentence about where to get it."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoseg.compute import archives
from autoseg.pipeline import Tell, quiet
from autoseg.records.errors import DataError, ResourceError, UsageError, reason_of
from autoseg.records.record import Record, describe
from autoseg.storage import check_writable
from autoseg.workspace import plans_folder

log = logging.getLogger("autoseg")

CHUNK = 1 << 16  # what of it has not arrived when the connection breaks is lost
TRIES = 5
WAIT_SECONDS = 30.0


class PublicDataset(Record):
    """One data set that anybody can have.

    Attributes:
        name: What people type.
        about: What is in it.
        url: Of its archive at the official place, or "" where it cannot be had without agreeing to something.
        md5: Of the archive.
        licence: What the data may be used for.
        ask: Where to get it and what to agree to, where there is no `url`.
    """

    name: str
    about: str
    url: str = ""
    md5: str = ""
    licence: str = ""
    ask: str = ""


def known(file: Path | None = None) -> dict[str, PublicDataset]:
    """Return name -> data set, as `plans/datasets.toml` lists them."""
    file = file or plans_folder() / "datasets.toml"
    try:
        return {name: PublicDataset(name=name, **entry) for name, entry in tomllib.loads(file.read_text()).items()}
    except ValidationError as error:
        raise DataError(describe(error), file=file, fix="Restore the file.") from None


def fetch(name: str, folder: Path, *, tell: Tell = quiet, datasets: Mapping[str, PublicDataset] | None = None) -> Path:
    """Download a public data set below `folder`, unpack it there, and return the folder to import.

    What was downloaded is kept as `NAME.part` until it is whole, so the same command goes on after an interruption.

    Raises:
        UsageError: There is no such name, or the data set must be asked for; the message says where.
        DataError: What arrived is not what was published (checksum), or its archive is unsafe.
        ResourceError: The server cannot be reached, or the disk is full.
    """
    item = find(name, datasets or known())
    if not item.url:
        raise UsageError(f"{item.name} cannot be downloaded without you", fix=item.ask, code="ask_for_it")
    check_writable(folder)
    archive = _download(item, folder, tell)
    (place,) = _one_folder(archives.unpack(archive, folder), archive)
    archive.unlink()
    return place


def find(name: str, datasets: Mapping[str, PublicDataset]) -> PublicDataset:
    """Return the data set of this name; upper and lower case, `_` and `-`, and `Task04_` do not count.

    Raises:
        UsageError: There is none; the message lists those there are.
    """
    plain = {_plain(key): item for key, item in datasets.items()}
    if _plain(name) not in plain:
        fix = f"There are: {', '.join(datasets)}."
        raise UsageError(f"no public data set {name!r} is known", fix=fix, code="unknown_dataset")
    return plain[_plain(name)]


def _plain(name: str) -> str:
    words = name.lower().replace("-", "_").split("_")
    return "".join(word for word in words if not word.startswith("task"))


def _download(item: PublicDataset, folder: Path, tell: Tell) -> Path:
    import pooch

    log.info("%s, licence: %s, from %s", item.about, item.licence, item.url)
    part = folder / f"{item.name}.part"

    def downloader(url: str, output: Any, _: Any) -> None:
        _resume(url, part, item.name, tell)
        part.replace(output)

    name = f"{item.name}.archive"
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        found = pooch.retrieve(item.url, f"md5:{item.md5}", fname=name, path=folder, downloader=downloader)
    except ValueError:
        raise DataError(
            "what arrived does not have the checksum that was published; it was removed",
            file=item.url,
            fix="Run the same command again; if it happens twice, the data set was changed at its source.",
            code="bad_checksum",
        ) from None
    except OSError as error:
        raise _unreachable(item.url, error) from error
    return Path(found)


def _resume(url: str, part: Path, name: str, tell: Tell) -> None:
    """Download into `part` behind what it holds already; a broken connection is tried again while it makes progress."""
    import requests

    failures = 0
    while True:
        before = _size(part)
        try:
            return _stream(url, part, name, tell)
        except requests.RequestException as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= TRIES or getattr(error, "response", None) is not None:
                raise _unreachable(url, error) from error


def _stream(url: str, part: Path, name: str, tell: Tell) -> None:
    import requests

    have = _size(part)
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=WAIT_SECONDS) as answer:
        if answer.status_code == 416:  # nothing is left to send
            return
        answer.raise_for_status()
        again = answer.status_code != 206  # the server sends all of it from the start
        done = 0 if again else have
        whole = done + int(answer.headers.get("Content-Length", 0))
        with part.open("wb" if again else "ab") as out:
            for block in answer.iter_content(CHUNK):
                out.write(block)
                done += len(block)
                tell(
                    f"download {name} ({done / 2**20:.0f} of {whole / 2**20:.0f} MiB)", done / max(whole, done, 1), None
                )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unreachable(url: str, error: Exception) -> ResourceError:
    return ResourceError(
        f"could not be downloaded ({reason_of(error)})",
        file=url,
        fix="Check the connection, then run the same command again: it goes on where it stopped.",
        code="unreachable",
    )


def _one_folder(found: list[Path], archive: Path) -> list[Path]:
    if len(found) == 1 and found[0].is_dir():
        return found
    raise DataError("does not hold one folder", file=archive, fix="Unpack and import it by hand.", code="bad_archive")
