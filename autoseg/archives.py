"""Archives: the one module that opens them, and all that is checked before a byte of their content is unpacked.

A zip from anywhere is refused as a whole when one of its members could harm: a name that leads outside (absolute, `..`,
a drive, a backslash), a link or a device, two members of one name, members that overlap, an encrypted one, too many of
them, too many bytes, or bytes that swell too much. Nothing is unpacked to find out.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from autoseg.records.errors import DataError
from autoseg.workspace import writing

COPY_AGAIN = "Copy it again from where it came; do not unpack it by hand if you do not know its origin."
# The first moment that a zip can hold: no clock enters an archive, so that equal content gives equal bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
# Of one member in the table at the end: 46 bytes, its name, and what programs add to it.
DIRECTORY_BYTES = 1024
END, END_64, LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        members: Files and folders.
        total_bytes: Of all members, unpacked.
        ratio: Bytes unpacked over bytes packed, of all members together.
    """

    members: int = 10_000
    total_bytes: int = 64 * 2**30
    ratio: float = 200.0


@dataclass(frozen=True)
class Archive:
    """A zip that was checked as a whole; its members are read one at a time.

    Attributes:
        path: The file.
        sizes: Name of each member that is a file -> its bytes unpacked.
    """

    path: Path
    sizes: Mapping[str, int]
    _zip: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """Return a member's content; never more bytes than the archive said it has.

        Raises:
            DataError: There is no such member, or it is damaged.
        """
        if name not in self.sizes:
            raise _refusal(self.path, f"has no member {name!r}", code="no_member")
        try:
            with self._zip.open(name) as stream:
                content = stream.read(self.sizes[name])
                whole = len(content) == self.sizes[name] and not stream.read(1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise _refusal(self.path, f"member {name!r} is damaged ({error})", code="damaged_archive") from None
        if not whole:
            raise _refusal(self.path, f"member {name!r} is cut short", code="damaged_archive")
        return content


@contextlib.contextmanager
def opened(path: Path, limits: Limits | None = None) -> Iterator[Archive]:
    """Open a zip once all of its members have passed every check.

    Raises:
        DataError: It is missing, no zip, damaged, or one of its members is unsafe; the first is named.
    """
    limits = limits or Limits()
    try:
        with open(path, "rb") as stream:
            _check_directory(path, stream, limits)
            with zipfile.ZipFile(stream) as content:
                yield Archive(path, _checked(path, content.infolist(), limits), content)
    except FileNotFoundError:
        raise DataError("does not exist", file=path, fix="Check the path.", code="no_archive") from None
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError) as error:
        raise _refusal(path, f"is no whole zip file ({error})", code="damaged_archive") from None
    except IsADirectoryError:
        raise _refusal(path, "is a folder where a zip file is expected", code="damaged_archive") from None


def write(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write a zip so that it is there whole or not at all; the same members in the same order give the same bytes.

    Members are stored as they are: weights do not shrink, and another release of zlib would give other bytes.

    Args:
        path: The file.
        members: Name -> content, or a file that holds it; files are copied piece by piece.

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
            with open(content, "rb") as source, target.open(info, "w") as stream:
                while piece := source.read(2**22):
                    stream.write(piece)


def _check_directory(path: Path, stream: BinaryIO, limits: Limits) -> None:
    """Refuse a table of contents that is too long before it is read: a million members would take minutes."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 2**16 - 98))
    tail = stream.read()
    stream.seek(0)
    end = tail.rfind(END)
    if end < 0 or len(tail) < end + 22:
        raise _refusal(path, "is no zip file, or its end is missing", code="damaged_archive")
    counts, lengths = list(struct.unpack_from("<H", tail, end + 10)), list(struct.unpack_from("<L", tail, end + 12))
    if end >= 76 and tail[end - 20 : end - 16] == LOCATOR_64 and tail[end - 76 : end - 72] == END_64:
        large_count, length = struct.unpack_from("<QQ", tail, end - 76 + 32)
        counts, lengths = [large_count], [length]
    if max(counts) > limits.members or max(lengths) > limits.members * DIRECTORY_BYTES:
        raise _refusal(path, f"has more than {limits.members:,} members", code="archive_too_large")


def _checked(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> dict[str, int]:
    """Return the size of each file, once every member has passed."""
    if len(members) > limits.members:
        raise _refusal(path, f"has more than {limits.members:,} members", code="archive_too_large")
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename
        _check_name(path, name)
        _check_kind(path, member)
        key = name.rstrip("/").casefold()
        if key in seen:
            raise _refusal(path, f"has two members {name!r} (upper and lower case count as the same)")
        seen.add(key)
    _check_bytes(path, members, limits)
    return {member.filename: member.file_size for member in members if not member.is_dir()}


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    odd = not name.isprintable() or "\\" in name or ":" in name or len(name) > 500
    if odd or not parts or name.startswith("/") or ".." in parts:
        raise _refusal(path, f"has a member with the unsafe name {name[:200]!r}")


def _check_kind(path: Path, member: zipfile.ZipInfo) -> None:
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(path, f"member {member.filename!r} is a link or a device, not a file")
    if member.flag_bits & 0x1:
        raise _refusal(path, f"member {member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refusal(path, f"member {member.filename!r} is packed in a way that autoseg does not open")
    if member.is_dir() and member.file_size:
        raise _refusal(path, f"member {member.filename!r} is a folder with content")


def _check_bytes(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse what would swell: declared sizes bind `Archive.read`, and shared bytes could be unpacked many times."""
    unpacked, packed = (sum(getattr(m, field) for m in members) for field in ("file_size", "compress_size"))
    if unpacked > limits.total_bytes:
        words = f"would unpack to {unpacked / 2**30:,.1f} GiB, more than the {limits.total_bytes / 2**30:,.1f} allowed"
        raise _refusal(path, words, code="archive_too_large")
    if unpacked > 2**20 and unpacked > limits.ratio * max(1, packed):
        words = f"would swell {unpacked / max(1, packed):,.0f} times, more than the {limits.ratio:g} allowed"
        raise _refusal(path, words, code="archive_too_large")
    ordered = sorted(members, key=lambda member: member.header_offset)
    ends = [member.header_offset + member.compress_size for member in ordered]
    if any(end > following.header_offset for end, following in zip(ends, ordered[1:])):
        raise _refusal(path, "has members that overlap")


def _refusal(path: Path, what: str, *, code: str = "unsafe_archive") -> DataError:
    return DataError(what, file=path, fix=COPY_AGAIN, code=code)
