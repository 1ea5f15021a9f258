"""HTTP over one loaded model: POST a volume, get its label map back. For viewers and scripts on the same machine.

    GET  /health    {"status": "ok", "running": 0, "waiting": 0}; 503 while it is stopping
    GET  /          what the model is, its channels and labels, and how to call it
    POST /predict   the bytes of a volume -> the bytes of its label map, on the same grid
                    ?name=scan.nii.gz   the suffix tells the format of the upload: NIfTI, nrrd, mha, png, tif
                    ?format=.nrrd       of the answer; without it the upload's (NIfTI for a picture)
                    ?uncertainty=1      also the Dice that each structure is thought to have, as a header
                    ?refer=0.9          the same, and a header that says whether a person must look at the scan
                    ?maps=1             the same, and the answer is a zip with maps of entropy and disagreement

Where the model can tell, each answer says in X-Autoseg-Unlike whether the scan is like those of the training.

Answers: 200; 404, 405; 411 without a Content-Length; 413 too large; 422 a scan that cannot be predicted, with the one
sentence as JSON; 503 the queue is full or the server is stopping. Several channels come as the volumes of one 4D file.
"""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from autoseg import __version__
from autoseg.pipeline import answering
from autoseg.records.errors import ResourceError, UserError
from autoseg.stages.predicting import Predictor

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
# A packed upload may unpack to this many times the largest upload.
SWELLS_AT_MOST = 20
PIECE = 2**20
# An unanswered client must not hold a place in the queue for ever.
SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """What a server takes: bytes of an upload, and cases that wait beside the one that is computed."""

    max_bytes: int = 10**9
    queue: int = 4


@dataclass
class Queue:
    """Who may come in: one case is computed, `limit` wait; when it is closed, those that wait are turned away."""

    limit: int
    inside: int = 0
    closed: bool = False
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _count: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            _Refused: There is none.
        """
        with self._count:
            if self.closed:
                raise _stopping()
            if self.inside > self.limit:
                what = f"{self.inside} cases are here already, as many as there may be"
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, what, "Try again later.")
            self.inside += 1
        try:
            yield
        finally:
            with self._count:
                self.inside -= 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn of a case that has a place.

        Raises:
            _Refused: The server was stopped meanwhile.
        """
        with self._turn:
            if self.closed:
                raise _stopping()
            yield


class _Refused(Exception):
    """A request that is answered with a status and a sentence instead of a label map."""

    def __init__(self, status: HTTPStatus, what: str, fix: str):
        super().__init__(what)
        self.status = status
        self.content = {"error": {"code": status.name.lower(), "what": what, "fix": fix}}


def _stopping() -> _Refused:
    return _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping", "Ask another server.")


class Server(ThreadingHTTPServer):
    """One model, its limits and its queue; a thread a connection."""

    # Who only holds a connection open must not hold up the end; who asked something is waited for in `finish`.
    daemon_threads = True
    block_on_close = False

    def __init__(self, predictor: Predictor, host: str, port: int, limits: Limits):
        self.predictor, self.limits, self.queue = predictor, limits, Queue(limits.queue)
        self.allowed_hosts = {*LOOPBACK, host} if host in LOOPBACK else None
        self.asking, self._quiet = 0, threading.Condition()
        super().__init__((host, port), _Handler)

    def stop(self) -> None:
        """Take no more cases, finish the one at hand, and let `serve_forever` return."""
        self.queue.closed = True
        threading.Thread(target=self.shutdown).start()  # it waits for the loop, which may be this very thread

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request while it is answered."""
        with self._quiet:
            self.asking += 1
        try:
            yield
        finally:
            with self._quiet:
                self.asking -= 1
                self._quiet.notify_all()

    def finish(self) -> None:
        """Wait until every request has its answer, and stop listening."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self.asking)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a broken connection in one line; a bug keeps its traceback."""
        log.debug("connection of %s ended", client_address, exc_info=True)


def make_server(
    predictor: Predictor, *, host: str = "127.0.0.1", port: int = 0, limits: Limits | None = None
) -> Server:
    """Return a server that listens and does not answer yet.

    Raises:
        ResourceError: The port is taken or the address is not this machine's.
    """
    try:
        return Server(predictor, host, port, limits or Limits())
    except OSError as error:
        raise ResourceError(
            f"cannot listen on {host}:{port} ({error.strerror or error})", fix="Choose another --port.", code="no_port"
        ) from None


def serve(
    predictor: Predictor,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    tell: Callable[[str], None] = log.info,
) -> None:
    """Answer until SIGTERM or Ctrl-C; the case at hand is finished and its answer sent.

    Args:
        predictor: The one model, loaded.
        host: Where to listen; only loopback is safe, because nobody is asked who they are.
        port: 0 takes a free one.
        limits: Of uploads and of the queue.
        tell: Told where it listens, and that it stops.

    Raises:
        ResourceError: The port is taken.
    """
    server = make_server(predictor, host=host, port=port, limits=limits)
    before = {sign: signal.signal(sign, lambda *_: server.stop()) for sign in (signal.SIGTERM, signal.SIGINT)}
    try:
        tell(f"listening on http://{host}:{server.server_address[1]}")
        if host not in LOOPBACK:
            tell("anyone who reaches this address may send scans: there are no passwords and no encryption")
        server.serve_forever(poll_interval=0.1)
        tell("stopping; the case at hand is finished")
    finally:
        server.finish()
        for sign, handler in before.items():
            signal.signal(sign, handler)


def about(predictor: Predictor, limits: Limits) -> dict[str, Any]:
    """Return what `GET /` says."""
    package = predictor.package
    return {
        "autoseg": __version__,
        "model": predictor.digest,
        "name": package.name if package else predictor.plan.dataset,
        "licence": package.licence if package else "",
        "intended_use": package.intended_use if package else "",
        "channels": list(predictor.channels),
        "labels": {str(value): name for value, name in sorted(predictor.names.items())},
        "max_bytes": limits.max_bytes,
        "queue": limits.queue,
        "how": "POST the bytes of a volume to /predict?name=scan.nii.gz; the answer is its label map. Several channels "
        "are the volumes of one 4D file, in the order given here. &uncertainty=1, &refer=0.9 and &maps=1 ask for the "
        "doubt.",
    }


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "autoseg", ""
    timeout = SILENCE_SECONDS

    def do_GET(self) -> None:
        """Answer `/` and `/health`."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer `/predict`."""
        self._answer(self._post)

    def _answer(self, work: Callable[[], None]) -> None:
        with self.server.request():
            self._try(work)

    def _try(self, work: Callable[[], None]) -> None:
        self.received = False
        try:
            self._check_host()
            work()
        except _Refused as refusal:
            self._swallow()
            self._send_json(refusal.status, refusal.content)
        except UserError as error:
            self._swallow()
            failed = isinstance(error, ResourceError)
            status = HTTPStatus.INSUFFICIENT_STORAGE if failed else HTTPStatus.UNPROCESSABLE_ENTITY
            self._send_json(status, {"error": error.as_json() | {"file": None, "sentence": _sentence(error)}})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            log.exception("a request failed")
            fix = "Look at the server's messages."
            content = _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the server has a fault", fix).content
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, content)

    def _check_host(self) -> None:
        """Refuse a web page that reaches for this server through the user's browser under another name."""
        allowed = self.server.allowed_hosts
        if allowed is None:
            return
        named = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        origin = self.headers.get("Origin")
        if named not in allowed or (origin and urlsplit(origin).hostname not in allowed):
            raise _Refused(HTTPStatus.FORBIDDEN, "this server answers to its own machine only", "Use 127.0.0.1.")

    def _get(self) -> None:
        path, queue = urlsplit(self.path).path, self.server.queue
        if path == "/health":
            status = HTTPStatus.SERVICE_UNAVAILABLE if queue.closed else HTTPStatus.OK
            word = "stopping" if queue.closed else "ok"
            running, waiting = min(1, queue.inside), max(0, queue.inside - 1)
            self._send_json(status, {"status": word, "running": running, "waiting": waiting})
        elif path == "/":
            self._send_json(HTTPStatus.OK, about(self.server.predictor, self.server.limits))
        else:
            self._refuse_path(path)

    def _post(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != "/predict":
            self._refuse_path(parts.path)
        wish = answering.wish_of({key: values[-1] for key, values in parse_qs(parts.query).items()})
        length = self._length()
        with self.server.queue.place(), tempfile.TemporaryDirectory(prefix="autoseg-") as folder:
            upload, place = _places(Path(folder), wish.upload)
            self._receive(upload, length)
            with self.server.queue.turn():
                most = SWELLS_AT_MOST * self.server.limits.max_bytes
                found = answering.answer(self.server.predictor, upload, place, wish, max_bytes=most)
        headers = {**found.headers, "Content-Disposition": f'attachment; filename="{found.name}"'}
        self._send(HTTPStatus.OK, found.content, found.kind, headers)

    def _refuse_path(self, path: str) -> None:
        known = {"/": "GET", "/health": "GET", "/predict": "POST"}
        if path in known:
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {known[path]}", f"Use {known[path]}.")
        raise _Refused(HTTPStatus.NOT_FOUND, "there is no such address", f"There are: {', '.join(known)}.")

    def _length(self) -> int:
        said = self.headers.get("Content-Length", "")
        if not said.isdecimal():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "the upload does not say its length", "Send Content-Length.")
        if int(said) > self.server.limits.max_bytes:
            most = f"{self.server.limits.max_bytes / 1e6:g} MB"
            what = f"the upload has {int(said) / 1e6:,.1f} MB, and this server takes {most}"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what, "Start the server with more --max-mb.")
        return int(said)

    def _receive(self, path: Path, length: int) -> None:
        self.received = True
        with open(path, "wb") as stream:
            while length:
                piece = self.rfile.read(min(PIECE, length))
                if not piece:
                    raise ConnectionAbortedError
                if self.server.queue.closed:
                    raise _stopping()
                stream.write(piece)
                length -= len(piece)

    def _swallow(self) -> None:
        """Read what was sent with a refused request, within reason: a client that still sends would miss the answer."""
        said = self.headers.get("Content-Length", "")
        if self.received or not said.isdecimal():
            return
        left = min(int(said), 2 * self.server.limits.max_bytes)
        while left and (piece := self.rfile.read(min(PIECE, left))):
            left -= len(piece)

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode() + b"\n", "application/json")

    def _send(
        self, status: HTTPStatus, content: bytes, kind: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Autoseg-Model", self.server.predictor.digest)
        for name, value in headers.items():
            self.send_header(name, value)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "10")
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Note a request without its query: a name may be a patient's."""
        log.debug("%s %s", self.command, urlsplit(getattr(self, "path", "")).path)


def _places(folder: Path, suffix: str) -> tuple[Path, Path]:
    """Return where the upload goes, and a folder for what is answered: the upload may be called as the answer is."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    return folder / "in" / f"scan{suffix}", folder / "out"


def _sentence(error: UserError) -> str:
    """Return the error as one line without the path of the copy on this machine."""
    return str(type(error)(error.what, case=error.case, fix=error.fix, code=error.code))
