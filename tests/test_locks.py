"""Two runs never write into one folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoseg.locks import locked
from autoseg.records.errors import ResourceError


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
