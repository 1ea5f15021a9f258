"""F86, F87: an archive is judged as a whole before anything of it is written."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from autoseg.compute.archives import Limits, Member, list_members, read_member, unpack
from autoseg.records.errors import DataError

PLAIN = [("Task/dataset.json", b"{}"), ("Task/imagesTr/a.nii.gz", b"voxels"), ("Task/imagesTr/._a.nii.gz", b"litter")]


def write_zip(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return path


WRITERS = {"zip": write_zip, "tar": write_tar, "tgz": lambda path, files: write_tar(path, files, "w:gz")}


def nothing_was_written(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("kind", WRITERS)
def test_everything_is_there_but_the_litter(tmp_path: Path, kind: str) -> None:
    archive = WRITERS[kind](tmp_path / "x", PLAIN)
    assert [member.name for member in list_members(archive)] == [name for name, _ in PLAIN]
    assert unpack(archive, tmp_path / "out") == [tmp_path / "out" / "Task"]
    files = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert files == dict(PLAIN[:2])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Task"]
    assert read_member(archive, "Task/dataset.json", most_bytes=2) == b"{}"


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "C:/x", "C:\\x", "a\\..\\x", "~/x", "a/x\n", "a/ /x", "a" * 241, "a/.."],
)
def test_a_name_that_leads_elsewhere_refuses_all(tmp_path: Path, kind: str, name: str) -> None:
    archive = WRITERS[kind](tmp_path / "x", [*PLAIN, (name, b"!")])
    with pytest.raises(DataError, match="not a safe path") as caught:
        unpack(archive, tmp_path / "out")
    assert caught.value.code == "unsafe_member"
    assert nothing_was_written(tmp_path / "out")


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        item = tarfile.TarInfo("link")
        item.type, item.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(item)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    for name in ("x.tar", "x.zip"):
        with pytest.raises(DataError, match="'link', which is a link"):
            list_members(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path, kind: str) -> None:
    archive = WRITERS[kind](tmp_path / "x", [("zeros", bytes(30 * 2**20))])
    with pytest.raises(DataError, match="more than 200 times its own size"):
        unpack(archive, tmp_path / "out")
    assert nothing_was_written(tmp_path / "out")
    assert unpack(archive, tmp_path / "out", limits=Limits(ratio=2000)) == [tmp_path / "out" / "zeros"]


@pytest.mark.parametrize("kind", WRITERS)
def test_limits_of_members_and_size(tmp_path: Path, kind: str) -> None:
    archive = WRITERS[kind](tmp_path / "x", [(f"{n}", b"x" * 1000) for n in range(20)])
    with pytest.raises(DataError, match="more than 19 members"):
        list_members(archive, limits=Limits(members=19))
    with pytest.raises(DataError, match=r"more than .* GiB"):
        list_members(archive, limits=Limits(unpacked_gb=19_999 / 2**30))
    assert len(list_members(archive, limits=Limits(members=20, unpacked_gb=20_000 / 2**30))) == 20


def test_a_directory_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "x", [(f"{n}", b"") for n in range(3000)])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(DataError, match="more than 2,999 members"):
        list_members(archive, limits=Limits(members=2999))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("twins", [("a", "A"), ("a/b", "A/B"), ("a", "a/b")])
def test_names_that_would_meet_are_refused(tmp_path: Path, kind: str, twins: tuple[str, str]) -> None:
    archive = WRITERS[kind](tmp_path / "x", [(name, b"1") for name in twins])
    with pytest.raises(DataError, match=r"twice|as a file and as a folder"):
        list_members(archive)


def test_a_size_that_lies_is_found(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x", [("a", b"x" * 5000)])
    content = archive.read_bytes()
    place = content.index(b"PK\1\2")
    archive.write_bytes(content[: place + 24] + struct.pack("<L", 100) + content[place + 28 :])
    with pytest.raises(DataError, match=r"damaged|does not hold"):
        unpack(archive, tmp_path / "out")
    assert nothing_was_written(tmp_path / "out")


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "Task").mkdir()
    (tmp_path / "Task" / "mine").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        unpack(write_zip(tmp_path / "x", PLAIN), tmp_path)
    assert [path.name for path in (tmp_path / "Task").iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, kind: str) -> None:
    import random

    archive = WRITERS[kind](tmp_path / "x", [("a", random.Random(0).randbytes(50_000)), ("b", b"2")])
    archive.write_bytes(archive.read_bytes()[:30_000])
    with pytest.raises(DataError, match="damaged") as caught:
        unpack(archive, tmp_path / "out")
    assert caught.value.code == "bad_archive"
    assert nothing_was_written(tmp_path / "out")


def test_one_member_is_bounded(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x", PLAIN)
    assert Member("Task/dataset.json", 2) in list_members(archive)
    with pytest.raises(DataError, match="more than 1 bytes"):
        read_member(archive, "Task/dataset.json", most_bytes=1)
    with pytest.raises(DataError, match="has no 'x'"):
        read_member(archive, "x", most_bytes=1)
