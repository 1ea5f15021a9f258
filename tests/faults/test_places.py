"""F05, F06: data behind links, in folders that cannot be written, under names with spaces and accents."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.command_line import done
from tests.faults import builders


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_f06_spaces_and_accents_in_the_path(tmp_path: Path) -> None:
    raw = builders.healthy(tmp_path / "données à lire", cases=2)
    root = tmp_path / "mon espace"
    done("import", raw, "--as", "Knot", "--root", root)
    assert "no problem found" in done("check", "-d", "Knot", "--workers", 1, "--root", root).said


def test_f05_links_are_followed_and_originals_stay_as_they_are(tmp_path: Path) -> None:
    raw = builders.healthy(tmp_path / "elsewhere", cases=2)
    linked = tmp_path / "linked"
    for folder in ("imagesTr", "labelsTr"):
        (linked / folder).mkdir(parents=True)
        for path in (raw / folder).iterdir():
            (linked / folder / path.name).symlink_to(path)
    (linked / "dataset.json").symlink_to(raw / "dataset.json")
    before = hashes(raw)
    root = tmp_path / "workspace"
    done("import", linked, "--as", "Knot", "--root", root)
    done("check", "-d", "Knot", "--workers", 1, "--root", root)
    assert hashes(raw) == before


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_f05_a_folder_that_cannot_be_written_is_enough(tmp_path: Path) -> None:
    raw = builders.healthy(tmp_path / "raw", cases=2)
    folders = [raw, raw / "imagesTr", raw / "labelsTr"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        root = tmp_path / "workspace"
        before = sorted(raw.rglob("*"))
        done("import", raw, "--as", "Knot", "--root", root)
        done("check", "-d", "Knot", "--workers", 1, "--root", root)
        assert sorted(raw.rglob("*")) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)
