"""Archives (zip, tar, tar.gz) that came from elsewhere: the one room that opens them.

Every name and size is judged before anything is written; a member that would leave the folder, a link, a name that
comes twice, or more than the limits refuse the whole archive. Nothing that is there already is replaced.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from autoseg.records.errors import DataError, ResourceError
from autoseg.storage import writing

CHUNK = 1 << 20
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    struct.error,
    UnicodeDecodeError,
    NotImplementedError,
)
LONGEST_NAME = 240
# The first moment that a zip can hold: no clock enters an archive, so that equal content gives equal bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
ENTRY_BYTES = 512  # of a zip's directory, a member on average: names and extra fields


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        members: Files and folders.
        unpacked_gb: Of all files together.
        ratio: Unpacked bytes to the archive's own; medical images rarely pack better than 1 to 20.
    """

    members: int = 200_000
    unpacked_gb: float = 500.0
    ratio: float = 200.0

    def check(self, path: Path, members: int, size: int) -> None:
        """Raise a DataError when so many members, or so many bytes, are too many."""
        if members > self.members:
            _refuse(path, f"holds more than {self.members:,} members", "too_many_members")
        if size > self.unpacked_gb * 2**30:
            _refuse(path, f"unpacks to more than {self.unpacked_gb:g} GiB", "too_large")
        if size > max(CHUNK, self.ratio * path.stat().st_size):
            _refuse(path, f"unpacks to more than {self.ratio:g} times its own size", "archive_bomb")


@dataclass(frozen=True)
class Member:
    """One file: its name with `/` between folders, and how many bytes it says it unpacks to."""

    name: str
    size: int


def list_members(path: Path, *, limits: Limits | None = None) -> tuple[Member, ...]:
    """Return every file of an archive, after all of its names and sizes were judged.

    Raises:
        DataError: It is no archive or damaged, a member is unsafe, or it exceeds the limits.
    """
    with _opened(Path(path), limits or Limits()) as archive:
        return archive.members


def read_member(path: Path, name: str, *, most_bytes: int, limits: Limits | None = None) -> bytes:
    """Return the content of one file of an archive.

    Raises:
        DataError: As `list_members`; or there is no such file, or it holds more than `most_bytes`.
    """
    with _opened(Path(path), limits or Limits()) as archive:
        found = next((member for member in archive.members if member.name == name), None)
        if found is None:
            _refuse(path, f"has no {name!r}", "missing_member")
        with archive.open(found) as stream:
            content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            _refuse(path, f"{name!r} holds more than {most_bytes:,} bytes", "too_large")
        return content


def unpack(path: Path, folder: Path, *, limits: Limits | None = None) -> list[Path]:
    """Unpack a whole archive below `folder` and return what stands there now at its top.

    Files come to be in a hidden folder first and move when all of them are there, so that an archive is unpacked
    wholly or not at all. Litter of macOS (`._x`, `__MACOSX`) stays behind.

    Raises:
        DataError: As `list_members`; or something of that name stands in `folder` already; nothing was written.
        ResourceError: The disk is full.
    """
    path, folder = Path(path), Path(folder)
    with _opened(path, limits or Limits()) as archive:
        wanted = [member for member in archive.members if not _is_litter(member.name)]
        tops = sorted({member.name.partition("/")[0] for member in wanted})
        there = [name for name in tops if (folder / name).exists()]
        if there:
            fix = "Remove or rename it, or unpack into another folder."
            raise DataError("is there already", file=folder / there[0], fix=fix, code="already_there")
        with _staging(folder) as staging:
            for member in wanted:
                _write(archive, member, staging / member.name, path)
            for name in tops:
                os.replace(staging / name, folder / name)
    return [folder / name for name in tops]


def pack(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write a zip so that it is there whole or not at all; the same members in the same order give the same bytes.

    Members are stored as they are: weights do not shrink, and another release of zlib would give other bytes.

    Args:
        path: The file.
        members: Name -> content, or a file that holds it, which is copied piece by piece.

    Raises:
        ResourceError: The disk is full or the folder cannot be written; an old file stays.
    """
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as target:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if isinstance(content, bytes):
                target.writestr(info, content)
                continue
            info.file_size = content.stat().st_size
            with content.open("rb") as source, target.open(info, "w") as stream:
                shutil.copyfileobj(source, stream, CHUNK)


class _Archive:
    """An open archive whose members were judged."""

    def __init__(self, members: tuple[Member, ...], file: zipfile.ZipFile | tarfile.TarFile):
        self.members = members
        self._file = file

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """Give a stream of a member's bytes."""
        if isinstance(self._file, zipfile.ZipFile):
            with self._file.open(member.name) as stream:
                yield stream
            return
        found = self._file.extractfile(member.name)
        assert found is not None  # only plain files were admitted
        with found:
            yield found


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[_Archive]:
    if not path.is_file():
        raise DataError("is missing", file=path, fix="Check the path.", code="missing_file")
    try:
        if zipfile.is_zipfile(path):
            _check_directory(path, limits)
            with zipfile.ZipFile(path) as file:
                yield _Archive(_judge(path, map(_zip_member, file.infolist()), limits), file)
        else:
            with tarfile.open(path) as tar:
                yield _Archive(_judge(path, map(_tar_member, tar), limits), tar)
    except DAMAGED as error:
        raise DataError(
            f"is damaged, or no zip or tar archive ({error})",
            file=path,
            fix="Download or copy it again.",
            code="bad_archive",
        ) from None


def _check_directory(path: Path, limits: Limits) -> None:
    """Refuse a zip whose directory is too long before it is read into memory (F87)."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 65557))
        tail = stream.read()
        place = tail.rfind(b"PK\5\6")
        count, size = struct.unpack_from("<HL", tail, place + 10) if place >= 0 else (0, 0)
        locator = tail.rfind(b"PK\6\7")
        if locator >= 0 and (count == 0xFFFF or size == 0xFFFFFFFF):
            stream.seek(struct.unpack_from("<Q", tail, locator + 8)[0])
            count, size = struct.unpack_from("<32xQQ", stream.read(56))
    if size > limits.members * ENTRY_BYTES:
        count = max(count, limits.members + 1)
    limits.check(path, count, 0)


def _zip_member(item: zipfile.ZipInfo) -> tuple[str, int, str]:
    """Return name, size and what it is: `file`, `folder`, or a word for what is refused."""
    mode = item.external_attr >> 16
    if item.is_dir():
        return item.filename, 0, "folder"
    if stat.S_ISLNK(mode):
        return item.filename, 0, "a link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return item.filename, 0, "a device"
    if item.flag_bits & 1:
        return item.filename, 0, "encrypted"
    return item.filename, item.file_size, "file"


def _tar_member(item: tarfile.TarInfo) -> tuple[str, int, str]:
    if item.isdir():
        return item.name, 0, "folder"
    if item.issym() or item.islnk():
        return item.name, 0, "a link"
    return item.name, item.size, "file" if item.isreg() and not item.issparse() else "a device"


def _judge(path: Path, items: Iterable[tuple[str, int, str]], limits: Limits) -> tuple[Member, ...]:
    """Return the files; the first item that is unsafe or too much refuses the archive, before the next is read."""
    found: list[Member] = []
    files: set[str] = set()
    folders: set[str] = set()
    total = 0
    for count, (name, size, kind) in enumerate(items, start=1):
        total += size
        limits.check(path, count, total)
        if kind not in ("file", "folder"):
            _refuse(path, f"holds {name!r}, which is {kind}", "unsafe_member")
        plain = _safe_name(path, name).lower()
        folders |= {"/".join(plain.split("/")[:depth]) for depth in range(1, plain.count("/") + 1)}
        if kind == "folder":
            folders.add(plain)
            continue
        if plain in files:
            _refuse(path, f"holds {name!r} twice (upper and lower case do not count)", "duplicate_member")
        files.add(plain)
        found.append(Member(name, size))
    both = files & folders
    if both:
        _refuse(path, f"holds {min(both)!r} as a file and as a folder", "duplicate_member")
    return tuple(found)


def _safe_name(path: Path, name: str) -> str:
    """Return a name without `./`; refuse one that could lead anywhere but below the folder (F86)."""
    plain = posixpath.normpath(name)
    parts = name.rstrip("/").split("/")
    absolute = name.startswith(("/", "~")) or ":" in parts[0]
    odd = any(part == ".." or len(part) > LONGEST_NAME or part != part.strip() for part in parts)
    if not name or absolute or odd or "\\" in name or not name.isprintable():
        _refuse(path, f"holds {name!r}, which is not a safe path below a folder", "unsafe_member")
    return plain


def _is_litter(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith("._") or parts[-1] == ".DS_Store"


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        yield staging
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(archive: _Archive, member: Member, target: Path, path: Path) -> None:
    """Copy one file; a member that holds more than it said is refused (it lied to pass the limits)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copied = 0
    with archive.open(member) as stream, target.open("xb") as out:
        while part := stream.read(CHUNK):
            copied += len(part)
            if copied > member.size:
                break
            out.write(part)
    if copied != member.size:
        _refuse(path, f"{member.name!r} does not hold the {member.size:,} bytes that it says", "bad_archive")


def _cannot_write(folder: Path, error: OSError) -> ResourceError:
    fix = "Free some space or choose a folder that can be written, then run the same command again."
    return ResourceError(f"cannot be written: {error.strerror or error}", file=folder, fix=fix, code="cannot_write")


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    fix = "Nothing was unpacked. Get the archive from its official source again."
    raise DataError(what, file=path, fix=fix, code=code)
