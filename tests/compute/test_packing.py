"""Writing archives: what was packed comes back, and equal content gives equal bytes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from autoseg.compute import archives
from autoseg.records.errors import DataError


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w" * 3_000_000)
    archives.pack(tmp_path / "a.zip", {"manifest.json": b"{}", "models/0": tmp_path / "weights"})
    found = archives.list_members(tmp_path / "a.zip")
    assert [(item.name, item.size) for item in found] == [("manifest.json", 2), ("models/0", 3_000_000)]
    assert archives.read_member(tmp_path / "a.zip", "manifest.json", most_bytes=2) == b"{}"
    assert archives.read_member(tmp_path / "a.zip", "models/0", most_bytes=3_000_000) == b"w" * 3_000_000


def test_equal_content_gives_equal_bytes_whenever_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"123")
    archives.pack(tmp_path / "a.zip", {"x": b"1", "y": tmp_path / "file"})
    os.utime(tmp_path / "file", (2_000_000_000, 2_000_000_000))
    later = time.time() + 10**7
    monkeypatch.setattr(time, "time", lambda: later)
    archives.pack(tmp_path / "b.zip", {"x": b"1", "y": tmp_path / "file"})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_old_archive_stays_when_packing_fails(tmp_path: Path) -> None:
    archives.pack(tmp_path / "a.zip", {"x": b"1"})
    before = (tmp_path / "a.zip").read_bytes()
    with pytest.raises(OSError):
        archives.pack(tmp_path / "a.zip", {"x": b"2", "y": tmp_path / "missing"})
    assert (tmp_path / "a.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    archives.pack(tmp_path / "a.zip", {"x": b"content"})
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"content", b"contend"))
    with pytest.raises(DataError, match="damaged"):
        archives.read_member(tmp_path / "a.zip", "x", most_bytes=7)
