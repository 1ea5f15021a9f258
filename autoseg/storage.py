"""How a file comes to be there whole or not at all, and how a record is read back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from autoseg.records.errors import DataError, ResourceError, UsageError
from autoseg.records.record import Record

R = TypeVar("R", bound=Record)


def read_record(path: Path, kind: type[R], *, missing: str = "") -> R:
    """Return the record stored at `path`.

    Raises:
        UsageError: There is no such file; `missing` says what to do.
        DataError: The file is damaged, of another version, or cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        words = re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()
        raise UsageError(f"there is no {words} yet", file=path, fix=missing, code="missing_record") from None
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror or error}",
            file=path,
            fix="Restore the file, or remove what stands in its place and run the command that writes it.",
            code="cannot_read",
        ) from None
    return kind.parse(text, file=str(path))


def write_record(path: Path, record: Record, *, durable: bool = True) -> None:
    """Write a record so that it is there whole or not at all; see `writing` for `durable`."""
    write_bytes(path, record.to_json().encode(), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` so that the file is there whole or not at all; see `writing` for `durable`."""
    with writing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path` and move it there once the block ends without an error.

    The content reaches the disk before the name does, so a power cut leaves the old file or the new one. Where
    `durable` is off it need not: only for files that a hash elsewhere vouches for and that can be made again. The
    temporary name keeps the suffixes, because many writers choose the format by them.

    Raises:
        ResourceError: The disk is full or the folder cannot be written; the old file stays.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # also of a file that a writer has put in the place of the empty one
        if durable:
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename not in (None, str(temporary), str(path)):
            raise
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return an empty new file beside `path`, whose folder is made where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return Path(name)


def _cannot_write(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"cannot be written: {error.strerror or error}",
        file=path,
        fix="Free some space or choose a folder that can be written, then run the same command again.",
        code="cannot_write",
    )


def check_writable(folder: Path) -> None:
    """Make a folder and try to write into it: known before hours of work, not after them.

    Raises:
        ResourceError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(folder, error) from error


def inside(root: Path, path: str | os.PathLike[str]) -> Path:
    """Return `root / path` if it stays below `root`.

    Raises:
        DataError: It leads outside.
    """
    full = (root / path).resolve()
    if not full.is_relative_to(root.resolve()):
        raise DataError(f"leads outside of {root}", file=path, fix="Use a path below that folder.", code="unsafe_path")
    return full


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
