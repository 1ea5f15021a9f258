"""The server over real HTTP on loopback: what a script or a viewer sees."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoseg import Predictor, serving
from autoseg.images.files import read_volume, write_volume
from autoseg.images.signs import SIGNS
from autoseg.records.quality import QualityModel
from autoseg.records.volumes import Image, Prediction
from autoseg.stages.ensembling import fit_likeness
from tests.command_line import done, environment, refused
from tests.conftest import WholeWay
from tests.faults import builders

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def model(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("served") / "knot.zip"
    done("export", "-d", "Knot", "--root", whole_way.root, "-o", file)
    return file


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model, device="cpu", mirror=False, step_fraction=1.0)


@pytest.fixture
def server(predictor: Predictor) -> Iterator[serving.Server]:
    with running(predictor, serving.Limits(max_bytes=200_000, queue=1)) as server:
        yield server


@contextmanager
def running(predictor: Predictor, limits: serving.Limits) -> Iterator[serving.Server]:
    server = serving.make_server(predictor, limits=limits)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(20)
        server.finish()
    assert not thread.is_alive()


def ask(server: serving.Server | int, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    port = server if isinstance(server, int) else server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def sentence(answer: Answer, status: int) -> dict[str, Any]:
    assert answer[0] == status, answer
    error: dict[str, Any] = json.loads(answer[2])["error"]
    assert error["what"]
    assert error["fix"]
    return error


def scan(whole_way: WholeWay) -> bytes:
    return builders.image_file(whole_way.raw, builders.CASES[0]).read_bytes()


class TestAnswers:
    def test_a_volume_becomes_its_label_map(
        self, server: serving.Server, whole_way: WholeWay, predictor: Predictor, tmp_path: Path
    ) -> None:
        status, headers, content = ask(server, "POST", "/predict?name=head.nii.gz", scan(whole_way))
        assert status == 200, content
        (tmp_path / "answer.nii.gz").write_bytes(content)
        found, grid = read_volume(tmp_path / "answer.nii.gz")
        array, own = read_volume(builders.image_file(whole_way.raw, builders.CASES[0]))
        assert grid == own
        expected = predictor.predict(array, own.spacing_mm, direction=own.direction).labels
        assert np.array_equal(found, expected)
        assert headers["x-autoseg-model"] == predictor.digest
        assert float(headers["x-autoseg-seconds"]) >= 0
        assert headers["content-disposition"] == 'attachment; filename="head.nii.gz"'

    def test_nrrd_in_and_out(self, server: serving.Server, whole_way: WholeWay, tmp_path: Path) -> None:
        array, grid = read_volume(builders.image_file(whole_way.raw, builders.CASES[0]))
        write_volume(tmp_path / "scan.nrrd", array, grid)
        content = (tmp_path / "scan.nrrd").read_bytes()
        for query, name in (("", "a.nrrd"), ("&format=.nii.gz", "a.nii.gz")):
            status, _, answer = ask(server, "POST", f"/predict?name=a.nrrd{query}", content)
            assert status == 200, answer
            (tmp_path / name).write_bytes(answer)
        first, second = (read_volume(tmp_path / name) for name in ("a.nrrd", "a.nii.gz"))
        assert np.array_equal(first[0], second[0])
        assert first[1].difference(grid) is None

    def test_it_says_what_it_is(self, server: serving.Server, predictor: Predictor) -> None:
        status, _, content = ask(server, "GET", "/")
        said = json.loads(content)
        assert status == 200
        assert said["labels"] == {"1": "core", "5": "rim"}
        assert said["channels"] == ["MRI"]
        assert said["model"] == predictor.digest
        assert "/predict" in said["how"]
        status, _, content = ask(server, "GET", "/health")
        assert (status, json.loads(content)) == (200, {"status": "ok", "running": 0, "waiting": 0})

    def test_one_connection_may_ask_again(self, server: serving.Server, whole_way: WholeWay) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
        for _ in range(2):
            connection.request("POST", "/predict", scan(whole_way))
            response = connection.getresponse()
            assert response.status == 200
            assert response.read()
        connection.close()

    def test_nothing_is_left_on_the_disk(
        self, server: serving.Server, whole_way: WholeWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        assert ask(server, "POST", "/predict", scan(whole_way))[0] == 200
        assert ask(server, "POST", "/predict", b"rubbish")[0] == 422
        assert not list(tmp_path.iterdir())


def sure(predictor: Predictor, dice: float = 0.9) -> Predictor:
    """The model as one that learnt to predict a Dice; `core` always the same, half a width of 0.05."""
    weights = (dice, *(0.0 for _ in SIGNS))
    core = QualityModel(
        structure="core", features=SIGNS, weights=weights, half_width=0.05, coverage=0.9, spearman=0.5, cases=20
    )
    return replace(predictor, reliability=predictor.reliability.model_copy(update={"quality": (core,)}))


class TestDoubt:
    def test_headers_say_what_predict_would_write(self, predictor: Predictor, whole_way: WholeWay) -> None:
        with running(sure(predictor), serving.Limits()) as server:
            status, plain, labels = ask(server, "POST", "/predict", scan(whole_way))
            assert status == 200
            assert "x-autoseg-quality" not in plain
            assert "x-autoseg-refer" not in plain
            status, headers, content = ask(server, "POST", "/predict?uncertainty=1", scan(whole_way))
            assert content == labels, "doubt does not change the label map"
            assert json.loads(headers["x-autoseg-quality"]) == {"core": [0.85, 0.9, 0.95]}
            assert "x-autoseg-refer" not in headers
            for limit, word in (("0.8", "no"), ("0.86", "yes")):
                _, headers, _ = ask(server, "POST", f"/predict?refer={limit}", scan(whole_way))
                assert headers["x-autoseg-refer"] == word, limit
                assert "x-autoseg-quality" in headers

    def test_what_was_learnt_by_the_signs_of_another_version_says_nothing(
        self, predictor: Predictor, whole_way: WholeWay
    ) -> None:
        known = sure(predictor)
        (core,) = known.reliability.quality
        renamed = core.model_copy(update={"features": ("unheard_of", *core.features[1:])})
        other = replace(known, reliability=known.reliability.model_copy(update={"quality": (renamed,)}))
        array, grid = read_volume(builders.image_file(whole_way.raw, builders.CASES[0]))
        found = [item.predict(array, grid.spacing_mm, uncertainty=True) for item in (known, other)]
        assert [item.knows_its_signs for item in (known, other)] == [True, False]
        assert [len(item.quality) for item in found] == [1, 0]
        np.testing.assert_array_equal(found[0].entropy, found[1].entropy)

    def test_maps_come_in_a_zip_as_predict_writes_them(
        self, model: Path, predictor: Predictor, whole_way: WholeWay, tmp_path: Path
    ) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "head.nii.gz").write_bytes(scan(whole_way))
        options = ("--no-mirror", "--step", "1", "--device", "cpu", "--uncertainty")
        done("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out", *options)
        with running(predictor, serving.Limits()) as server:
            status, headers, content = ask(server, "POST", "/predict?name=head.nii.gz&maps=1", scan(whole_way))
        assert status == 200, content
        assert headers["content-type"] == "application/zip"
        assert headers["content-disposition"] == 'attachment; filename="head.zip"'
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            packed.extractall(tmp_path / "answer")
        own = sorted(file.relative_to(tmp_path / "answer").as_posix() for file in (tmp_path / "answer").rglob("*"))
        assert own == ["head.nii.gz", "head_disagreement.nii.gz", "head_entropy.nii.gz", "head_quality.json"]
        for name in own:
            written = tmp_path / "out" / ("" if name == "head.nii.gz" else "uncertainty") / name
            assert (tmp_path / "answer" / name).read_bytes() == written.read_bytes(), name

    def test_a_scan_unlike_those_of_the_training_is_said_without_being_asked(
        self, predictor: Predictor, whole_way: WholeWay, tmp_path: Path
    ) -> None:
        array, grid = read_volume(builders.image_file(whole_way.raw, builders.CASES[0]))
        likeness = fit_likeness([f"p{i}" for i in range(20)], [{"spacing": np.zeros(3) + 0.01 * i} for i in range(20)])
        strict = replace(predictor, reliability=predictor.reliability.model_copy(update={"likeness": likeness}))
        z, y, x = grid.spacing_mm
        write_volume(tmp_path / "scan.nii.gz", array, grid.model_copy(update={"spacing_mm": (5 * z, y, x)}))
        with running(strict, serving.Limits()) as server:
            _, headers, _ = ask(server, "POST", "/predict", (tmp_path / "scan.nii.gz").read_bytes())
            assert headers["x-autoseg-unlike"].startswith("unlike the training scans in spacing (")
            _, headers, _ = ask(server, "POST", "/predict?refer=0", (tmp_path / "scan.nii.gz").read_bytes())
            assert headers["x-autoseg-refer"] == "yes"

    @pytest.mark.parametrize("query", ["refer=often", "refer=1.5", "refer=nan", "uncertainty=perhaps", "maps=2"])
    def test_words_that_mean_nothing(self, server: serving.Server, query: str) -> None:
        error = sentence(ask(server, "POST", f"/predict?{query}", b"x"), 422)
        assert query in error["what"]


class TestRefusals:
    def test_what_is_no_image(self, server: serving.Server) -> None:
        error = sentence(ask(server, "POST", "/predict?name=head.nii.gz", b"<html>Log in</html>"), 422)
        assert error["case"] == "head"
        assert "web page" in error["what"] or "gzip" in error["what"]
        assert error["file"] is None
        assert error["sentence"].startswith("head: ")
        assert "/tmp" not in json.dumps(error)

    def test_an_upload_that_was_cut_short_on_its_way(self, server: serving.Server, whole_way: WholeWay) -> None:
        sentence(ask(server, "POST", "/predict", scan(whole_way)[:-200]), 422)

    def test_nan(self, server: serving.Server, tmp_path: Path) -> None:
        file = tmp_path / "nan.nii.gz"
        values = builders.scan(1)[0].astype(np.float32)
        values[0, 0, 0] = np.nan
        builders.save(file, values)
        assert "not finite" in sentence(ask(server, "POST", "/predict", file.read_bytes()), 422)["what"]

    def test_too_large(self, server: serving.Server) -> None:
        error = sentence(ask(server, "POST", "/predict", bytes(200_001)), 413)
        assert "this server takes 0.2 MB" in error["what"]

    def test_a_small_upload_that_unpacks_to_more(self, server: serving.Server, tmp_path: Path) -> None:
        import nibabel

        header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
        header.set_data_shape((1000, 1000, 1000))
        header["vox_offset"] = 352
        head = header.binaryblock + bytes(4)
        content = gzip.compress(head + bytes(100_000))
        error = sentence(ask(server, "POST", "/predict", content), 422)
        assert "4,000 MB once it is unpacked" in error["what"]

    def test_without_a_length(self, server: serving.Server) -> None:
        with socket.create_connection(server.server_address[:2], timeout=20) as link:
            link.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert b" 411 " in link.recv(100)

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/etc/passwd", 404), ("GET", "/predict", 405), ("POST", "/health", 405), ("POST", "/x", 404)],
    )
    def test_other_addresses(self, server: serving.Server, method: str, path: str, status: int) -> None:
        sentence(ask(server, method, path, b"" if method == "POST" else None), status)

    @pytest.mark.parametrize(
        "query", ["name=../../x.nii.gz", "name=x.exe", "name=x.nii.gz&format=.exe", "name=a/b.nii"]
    )
    def test_names_that_are_not_safe(self, server: serving.Server, query: str) -> None:
        sentence(ask(server, "POST", f"/predict?{query}", b"x"), 422)

    def test_a_web_page_under_another_name(self, server: serving.Server) -> None:
        assert ask(server, "GET", "/", Host="evil.example")[0] == 403
        assert ask(server, "POST", "/predict", b"x", Origin="https://evil.example")[0] == 403
        assert ask(server, "GET", "/", Host="localhost:80", Origin="http://localhost:80")[0] == 200


class Slow:
    """A model that computes until it is told to end."""

    def __init__(self, predictor: Predictor):
        self.predictor, self.started, self.go_on = predictor, threading.Semaphore(0), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def predict_image(self, image: Image, *, case: str, uncertainty: bool) -> Prediction:
        self.started.release()
        assert self.go_on.wait(20)
        return self.predictor.predict_image(image, case=case, uncertainty=uncertainty)


@contextmanager
def two_cases(predictor: Predictor, upload: bytes) -> Iterator[tuple[serving.Server, Slow, list[int]]]:
    """Give a server that computes one case and lets one wait, and the statuses that both will have got at the end."""
    slow = Slow(predictor)
    statuses: list[int] = []
    with running(slow, serving.Limits(queue=1)) as server:  # type: ignore[arg-type]

        def post() -> None:
            statuses.append(ask(server, "POST", "/predict", upload)[0])

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert slow.started.acquire(timeout=20)
        wait_for(lambda: server.queue.inside == 2)
        yield server, slow, statuses
        slow.go_on.set()
        for thread in threads:
            thread.join(20)


class TestQueue:
    def test_one_is_computed_one_waits_and_the_third_is_turned_away(
        self, predictor: Predictor, whole_way: WholeWay
    ) -> None:
        with two_cases(predictor, scan(whole_way)) as (server, slow, statuses):
            assert json.loads(ask(server, "GET", "/health")[2]) == {"status": "ok", "running": 1, "waiting": 1}
            refusal = ask(server, "POST", "/predict", scan(whole_way))
            sentence(refusal, 503)
            assert int(refusal[1]["retry-after"]) > 0
            assert not slow.started.acquire(blocking=False), "only one is computed at a time"
        assert statuses == [200, 200]

    def test_stopping_finishes_the_case_at_hand_and_turns_away_the_next(
        self, predictor: Predictor, whole_way: WholeWay
    ) -> None:
        with two_cases(predictor, scan(whole_way)) as (server, _, statuses):
            server.stop()
        assert sorted(statuses) == [200, 503]


def wait_for(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited for 20 s")


def test_the_command_answers_and_ends_by_sigterm(model: Path, whole_way: WholeWay) -> None:
    words = [
        sys.executable,
        "-m",
        "autoseg",
        "serve",
        "-m",
        str(model),
        "--port",
        "0",
        "--no-mirror",
        "--device",
        "cpu",
    ]
    with subprocess.Popen(words, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("listening on http://127.0.0.1:"), first
            port = int(first.rsplit(":", 1)[1])
            assert ask(port, "POST", "/predict", scan(whole_way))[0] == 200
            os.kill(process.pid, signal.SIGTERM)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert rest == "stopping; the case at hand is finished\n"


def test_a_port_that_is_taken(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused("serve", "-m", model, "--port", port, code=5)
    assert f"cannot listen on 127.0.0.1:{port}" in message
    assert "--port" in message
