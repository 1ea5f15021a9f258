"""Paths, locks, and files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoseg.records.check import CheckReport
from autoseg.records.errors import DataError, ResourceError, UsageError
from autoseg.records.results import ModelId
from autoseg.workspace import (
    Workspace,
    check_writable,
    inside,
    locked,
    plans_folder,
    read_record,
    workspace_root,
    write_bytes,
    write_record,
    writing,
)

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


class TestLocked:
    def hold(self, folder: Path, **changes: object) -> Path:
        content = {"host": socket.gethostname(), "process": os.getppid(), "since": time.time() - 600}
        folder.mkdir(exist_ok=True)
        (folder / "lock").write_text(json.dumps(content | changes))
        return folder / "lock"

    def test_the_second_is_refused_and_the_first_lets_go(self, tmp_path: Path) -> None:
        with locked(tmp_path):
            with pytest.raises(ResourceError, match="another run") as caught, locked(tmp_path):
                pass
            assert f"process {os.getpid()}" in caught.value.what
            assert str(tmp_path / "lock") in caught.value.fix
        with locked(tmp_path):
            pass
        assert not (tmp_path / "lock").exists()

    def test_a_failure_inside_lets_go(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), locked(tmp_path):
            raise KeyboardInterrupt
        assert not (tmp_path / "lock").exists()

    def test_a_dead_process_is_taken_over(self, tmp_path: Path) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        self.hold(tmp_path, process=gone.pid)
        with locked(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()

    def test_another_host_is_believed(self, tmp_path: Path) -> None:
        self.hold(tmp_path, host="elsewhere", process=1)
        with pytest.raises(ResourceError, match=r"for 10 minutes \(host elsewhere, process 1\)"), locked(tmp_path):
            pass

    def test_what_a_killed_run_left_half_written_is_removed(self, tmp_path: Path) -> None:
        for name in (".tmp-abc.safetensors", "whole.safetensors"):
            (tmp_path / name).write_bytes(b"x")
        with locked(tmp_path):
            assert sorted(os.listdir(tmp_path)) == ["lock", "whole.safetensors"]

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("precious")
        with pytest.raises(ResourceError, match="cannot be written"), locked(tmp_path / "file" / "fold_0"):
            pass

    def test_half_a_lock_of_a_killed_run(self, tmp_path: Path) -> None:
        file = self.hold(tmp_path)
        file.write_text("")
        os.utime(file, (time.time() - 60,) * 2)
        with locked(tmp_path):
            assert str(os.getpid()) in file.read_text()


class TestLocate:
    def test_a_name_lies_below_the_root(self, tmp_path: Path) -> None:
        work = Workspace.locate("Knot", tmp_path)
        assert (work.folder, work.name) == (tmp_path / "Knot", "Knot")

    def test_a_path_is_taken_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert Workspace.locate("./x/Knot/", "/elsewhere").folder == tmp_path / "x" / "Knot"

    @pytest.mark.parametrize("name", ["", " ", ".hidden", "a b", "a..b", "-d", "x" * 101, "ü", "a\nb", "a\0b"])
    def test_unsafe_names(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match="is not a safe name"):
            Workspace.locate(name, tmp_path)

    def test_the_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("AUTOSEG_ROOT", raising=False)
        assert workspace_root() == tmp_path / "autoseg_data"
        monkeypatch.setenv("AUTOSEG_ROOT", str(tmp_path / "env"))
        assert workspace_root() == tmp_path / "env"
        assert workspace_root(tmp_path / "said") == tmp_path / "said"

    @pytest.mark.parametrize("variant", ["../evil", "a/b", ""])
    def test_a_model_stays_in_its_folder(self, tmp_path: Path, variant: str) -> None:
        model = ModelId(dataset="D", plan="default", configuration="c", variant=variant, fold="0")
        if variant:
            with pytest.raises(DataError, match="is not a safe name"):
                Workspace(tmp_path).model(model)

    def test_inside(self, tmp_path: Path) -> None:
        assert inside(tmp_path, "a/../b.nii") == (tmp_path / "b.nii").resolve()
        (tmp_path / "link").symlink_to("/etc")
        for path in ("../x", "/etc/passwd", "a/../../x", "link/passwd"):
            with pytest.raises(DataError, match="leads outside"):
                inside(tmp_path, path)

    def test_models_are_found_again(self, tmp_path: Path) -> None:
        work = Workspace(tmp_path / "D")
        wanted = tuple(
            ModelId(dataset="D", plan="default", configuration="c_3d", variant=variant, seed=seed, fold=fold)
            for variant, seed, fold in (("base", 0, "0"), ("base", 0, "all"), ("my_s1", 12, "3"))
        )
        for model in wanted:
            write_bytes(work.model(model) / "model.json", b"{}")
        (work.model(wanted[0]).parent / "stale_0123_fold_0").mkdir()
        (work.model(wanted[0]).parent / "stale_0123_fold_0" / "model.json").write_text("{}")
        assert work.trained() == wanted
        assert work.trained("other") == ()


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

    def test_a_plan_that_is_not_there_names_those_that_are(self, tmp_path: Path) -> None:
        (tmp_path / "plans" / "first").mkdir(parents=True)
        (tmp_path / "plans" / "first" / "plan.json").write_text("{}")
        with pytest.raises(UsageError, match=r"There are: first\."):
            Workspace(tmp_path).plan("second")


def test_the_presets_are_found_in_a_checkout() -> None:
    assert (plans_folder() / "presets" / "unet.toml").is_file()
