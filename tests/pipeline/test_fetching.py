"""`autoseg fetch` against a server on loopback: checksum, going on, and what a person is told."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from autoseg.pipeline import fetching
from autoseg.pipeline.fetching import PublicDataset, fetch, find, known
from autoseg.records.errors import DataError, ResourceError, UsageError
from tests.command_line import done, refused
from tests.compute.test_archives import write_tar

VOXELS = random.Random(0).randbytes(300_000)
FILES = [("Task04_Tiny/dataset.json", b"{}"), ("Task04_Tiny/imagesTr/a.nii.gz", VOXELS)]


@dataclass
class Place:
    """A server that hands out one archive.

    Attributes:
        content: What it hands out.
        cut: How many bytes it sends before it hangs up, once a request; empty: it sends all.
        ranges: Whether it can go on in the middle.
        asked: The `Range` of every request.
    """

    content: bytes
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    state = Place(write_tar(tmp_path / "published.tar", FILES).read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            start = int(wanted[6:-1]) if wanted and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            rest = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.cut.pop(0)] if state.cut else rest)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/Task04_Tiny.tar"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def listed(place: Place, content: bytes | None = None) -> dict[str, PublicDataset]:
    md5 = hashlib.md5(content or place.content).hexdigest()
    return {"Tiny": PublicDataset(name="Tiny", about="two files", url=place.url, md5=md5, licence="CC0")}


def test_it_is_there_and_nothing_else(place: Place, tmp_path: Path) -> None:
    folder = fetch("tiny", tmp_path / "to", datasets=listed(place))
    assert folder == tmp_path / "to" / "Task04_Tiny"
    assert (folder / "imagesTr" / "a.nii.gz").read_bytes() == VOXELS
    assert list((tmp_path / "to").iterdir()) == [folder]
    assert place.asked == [None]


def test_a_broken_connection_goes_on_where_it_stopped(place: Place, tmp_path: Path) -> None:
    place.cut = [2 * fetching.CHUNK, fetching.CHUNK]
    folder = fetch("Tiny", tmp_path / "to", datasets=listed(place))
    assert (folder / "imagesTr" / "a.nii.gz").read_bytes() == VOXELS
    assert place.asked == [None, "bytes=131072-", "bytes=196608-"]


def test_a_later_command_goes_on(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TRIES", 1)
    place.cut = [70_000, 0]
    with pytest.raises(ResourceError, match="goes on where it stopped"):
        fetch("Tiny", tmp_path / "to", datasets=listed(place))
    assert (tmp_path / "to" / "Tiny.part").read_bytes() == place.content[:65536]
    fetch("Tiny", tmp_path / "to", datasets=listed(place))
    assert place.asked[-1] == "bytes=65536-"


def test_a_server_that_cannot_go_on_starts_again(place: Place, tmp_path: Path) -> None:
    place.cut, place.ranges = [70_000], False
    folder = fetch("Tiny", tmp_path / "to", datasets=listed(place))
    assert (folder / "imagesTr" / "a.nii.gz").read_bytes() == VOXELS


def test_a_part_that_is_whole_is_taken(place: Place, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "Tiny.part").write_bytes(place.content)
    assert fetch("Tiny", tmp_path / "to", datasets=listed(place)).is_dir()


def test_f88_another_checksum_is_refused_and_removed(place: Place, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not have the checksum") as caught:
        fetch("Tiny", tmp_path / "to", datasets=listed(place, b"something else"))
    assert caught.value.code == "bad_checksum"
    assert list((tmp_path / "to").iterdir()) == []


def test_f86_an_archive_that_climbs_out_is_refused(place: Place, tmp_path: Path) -> None:
    place.content = write_tar(tmp_path / "evil.tar", [*FILES, ("../evil", b"!")]).read_bytes()
    with pytest.raises(DataError, match="not a safe path"):
        fetch("Tiny", tmp_path / "to", datasets=listed(place))
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "to" / "Task04_Tiny").exists()


def test_nobody_answers(tmp_path: Path) -> None:
    gone = {"Tiny": PublicDataset(name="Tiny", about="", url="http://127.0.0.1:9/x.tar", md5="0" * 32)}
    with pytest.raises(ResourceError, match="could not be downloaded") as caught:
        fetch("Tiny", tmp_path / "to", datasets=gone)
    assert caught.value.code == "unreachable"


def test_an_address_that_is_gone(place: Place, tmp_path: Path) -> None:
    place.content = b""
    with pytest.raises((ResourceError, DataError)):
        fetch("Tiny", tmp_path / "to", datasets=listed(place, b"x"))


class TestWhatIsKnown:
    def test_every_entry_is_complete(self) -> None:
        there = known()
        assert len([item for item in there.values() if item.url]) == 10
        for item in there.values():
            assert item.about
            assert bool(item.url) != bool(item.ask)
            if item.url:
                assert item.url.startswith("https://")
                assert len(bytes.fromhex(item.md5)) == 16
                assert item.licence

    @pytest.mark.parametrize("name", ["Hippocampus", "hippocampus", "Task04_Hippocampus", "task04-hippocampus"])
    def test_names_as_people_type_them(self, name: str) -> None:
        assert find(name, known()).name == "Hippocampus"

    def test_an_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(UsageError, match=r"no public data set 'kidney'.*There are: BrainTumour, "):
            find("kidney", known())

    @pytest.mark.parametrize("name", ["HaN-Seg", "UW-Madison", "TotalSegmentator", "BrainMetastases"])
    def test_what_must_be_asked_for_is_said(self, name: str, tmp_path: Path) -> None:
        said = refused("fetch", name, "--to", tmp_path / "to", code=2)
        assert "then `autoseg import" in said
        assert not (tmp_path / "to").exists()

    def test_commands_that_download_nothing(self) -> None:
        assert {"Hippocampus", "HaN-Seg"} <= {row["name"] for row in done("fetch", "--json").json()}
        assert "Task04_Hippocampus.tar" in done("fetch", "Hippocampus", "--dry-run").out
