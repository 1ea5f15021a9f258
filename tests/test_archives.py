"""F86, F87: an archive from anywhere is refused as a whole before a byte of it is unpacked."""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from autoseg import archives
from autoseg.archives import Limits
from autoseg.records.errors import DataError


def packed(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = False) -> Path:
    """A zip with members as they are given, two of one name included."""
    twice = len({str(name) for name, _ in members}) < len(members)
    warned = pytest.warns(UserWarning, match="Duplicate") if twice else contextlib.nullcontext()
    with warned, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as target:
        for name, content in members:
            target.writestr(name, content)
    return path


def renamed(path: Path, before: bytes, after: bytes) -> Path:
    """The same zip with other bytes of the same length in every place."""
    assert len(before) == len(after)
    path.write_bytes(path.read_bytes().replace(before, after))
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def read_all(path: Path, limits: Limits | None) -> dict[str, bytes]:
    with archives.opened(path, limits) as archive:
        return {name: archive.read(name) for name in archive.sizes}


def refusal(path: Path, limits: Limits | None = None) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        read_all(path, limits)
    assert sorted(path.parent.rglob("*")) == before, "nothing is unpacked"
    return str(caught.value)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w" * 5_000_000)
    archives.write(tmp_path / "a.zip", {"manifest.json": b"{}", "models/0": tmp_path / "weights"})
    with archives.opened(tmp_path / "a.zip") as archive:
        assert dict(archive.sizes) == {"manifest.json": 2, "models/0": 5_000_000}
        assert archive.read("manifest.json") == b"{}"
        assert archive.read("models/0") == b"w" * 5_000_000
        with pytest.raises(DataError, match="no member 'other'"):
            archive.read("other")


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    for name in ("a.zip", "b.zip"):
        archives.write(tmp_path / name, {"x": b"1", "y": tmp_path / "file"})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\x", "C:x", "a\x1b[2Jx", "."])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    plain = "n" * len(name)
    path = packed(tmp_path / "a.zip", ("good", b"1"), (plain, b"2"))
    assert "unsafe name" in refusal(renamed(path, plain.encode(), name.encode()))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    assert "link or a device" in refusal(packed(tmp_path / "a.zip", (special("x", kind), b"/etc/passwd")))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("plan.json", b"1"), ("PLAN.json", b"2"))
    assert "two members" in refusal(path)
    assert "two members" in refusal(packed(tmp_path / "b.zip", ("x", b"1"), ("x", b"2")))


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("zeros", bytes(20_000_000)), deflate=True)
    assert "would swell" in refusal(path)
    assert "would unpack to" in refusal(path, Limits(total_bytes=10_000_000))


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"x" * 100), ("b", b"y" * 100))
    content = bytearray(path.read_bytes())
    second = content.rfind(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<L", 0)  # where the second member begins
    path.write_bytes(content)
    assert "overlap" in refusal(path)


def test_a_million_members_are_refused_before_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", *((str(number), b"") for number in range(50)))
    assert "more than 49 members" in refusal(path, Limits(members=49))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: pytest.fail("the table was read"))
    assert "more than 49 members" in refusal(path, Limits(members=49))


def test_a_size_that_lies_is_found(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"x" * 1000), deflate=True)
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<L", 10)
    path.write_bytes(content)
    assert "'a' is " in refusal(path)


def test_encrypted_and_foreign_packing_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"x"))
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refusal(path)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as target:
        target.writestr("a", b"x")
    assert "does not open" in refusal(tmp_path / "b.zip")


@pytest.mark.parametrize("kept", [0, 10, 150])
def test_half_a_download_is_refused(tmp_path: Path, kept: int) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"x" * 1000))
    path.write_bytes(path.read_bytes()[:kept])
    assert "no zip file" in refusal(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = renamed(packed(tmp_path / "a.zip", ("a", b"content")), b"content", b"contend")
    assert "damaged" in refusal(path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"), archives.opened(tmp_path / "none.zip"):
        pass
    with pytest.raises(DataError, match="is a folder"), archives.opened(tmp_path):
        pass
