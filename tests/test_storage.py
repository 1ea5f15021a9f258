"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoseg.records.check import CheckReport
from autoseg.records.errors import DataError, ResourceError, UsageError
from autoseg.storage import check_writable, inside, read_record, write_bytes, write_record, writing

REPORT = CheckReport(dataset="D", dataset_digest="0" * 16, cases=3, problems=())


class TestWriting:
    def test_the_file_appears_at_the_end(self, tmp_path: Path) -> None:
        file = tmp_path / "deep" / "down" / "a.nii.gz"
        with writing(file) as temporary:
            assert temporary.parent == file.parent
            assert temporary.name.endswith(".nii.gz")
            temporary.write_bytes(b"new")
            assert not file.exists()
        assert file.read_bytes() == b"new"
        assert [path.name for path in file.parent.iterdir()] == ["a.nii.gz"]

    @pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_what_breaks_in_the_middle_leaves_the_old_file(self, tmp_path: Path, failure: type) -> None:
        file = tmp_path / "a.json"
        write_bytes(file, b"old")

        def breaks() -> None:
            with writing(file) as temporary:
                temporary.write_bytes(b"ne")
                raise failure

        with pytest.raises(failure):
            breaks()
        assert file.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["a.json"]

    def test_the_content_is_on_the_disk_before_the_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda stream: (order.append("fsync"), fsync(stream))[1])
        monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
        write_bytes(tmp_path / "a", b"x")
        assert order == ["fsync", "replace"]

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("precious")
        with pytest.raises(ResourceError, match="cannot be written") as caught:
            write_bytes(tmp_path / "file" / "a.json", b"x")
        assert caught.value.file == str(tmp_path / "file" / "a.json")
        assert "Free some space" in caught.value.fix
        with pytest.raises(ResourceError) as other:
            check_writable(tmp_path / "file")
        assert other.value.code == "cannot_write"

    def test_permissions_follow_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_bytes(tmp_path / "a", b"x")
        finally:
            os.umask(before)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640

    def test_a_missing_file_inside_the_block_is_not_called_a_full_disk(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), writing(tmp_path / "a"):
            (tmp_path / "other").read_bytes()

    def test_check_writable_leaves_nothing(self, tmp_path: Path) -> None:
        check_writable(tmp_path / "new")
        assert list((tmp_path / "new").iterdir()) == []


class TestRecords:
    def test_there_and_back(self, tmp_path: Path) -> None:
        write_record(tmp_path / "check.json", REPORT)
        assert read_record(tmp_path / "check.json", CheckReport) == REPORT

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"there is no check report yet\. Do this\.") as caught:
            read_record(tmp_path / "check.json", CheckReport, missing="Do this.")
        assert caught.value.file == str(tmp_path / "check.json")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            REPORT.to_json().encode()[:-9],
            REPORT.to_json().replace('"cases"', '"casses"').encode(),
            REPORT.to_json().replace('"schema_version": 1', '"schema_version": 2').encode(),
            b"[" * 100_000,
        ],
        ids=["empty", "open", "list", "null", "bytes", "cut", "other key", "other version", "deep"],
    )
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "check.json"
        file.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_record(file, CheckReport)
        assert caught.value.file == str(file)
        assert "\n" not in str(caught.value)

    def test_a_folder_in_place_of_a_record(self, tmp_path: Path) -> None:
        (tmp_path / "check.json").mkdir()
        with pytest.raises(DataError) as caught:
            read_record(tmp_path / "check.json", CheckReport)
        assert caught.value.file == str(tmp_path / "check.json")


def test_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/../b.nii") == (tmp_path / "b.nii").resolve()
    (tmp_path / "link").symlink_to("/etc")
    for path in ("../x", "/etc/passwd", "a/../../x", "link/passwd"):
        with pytest.raises(DataError, match="leads outside"):
            inside(tmp_path, path)
