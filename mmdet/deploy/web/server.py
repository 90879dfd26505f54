"""The web page's server, on the standard library: three static files and one question, "which faces?".

    curl --data-binary @photo.jpg 'localhost:8000/detect?threshold=0.5'

The browser sends a picture's bytes and gets every face above a low score; it draws them and moves the
threshold by itself, which gives what a new detection at that threshold would (in greedy NMS a face is never
removed by a worse one).
"""

import hmac
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from mmdet.deploy.cli.draw import draw_faces
from mmdet.deploy.cli.inputs import IMAGES, decode_complete
from mmdet.deploy.cli.video import is_utf8
from mmdet.deploy.cli.writers import encode_image, to_plain
from mmdet.deploy.runtime.ort_detector import FaceDetector
from mmdet.deploy.web.limits import (
    BODY_S,
    LARGE_BODIES,
    REQUEST_S,
    SMALL_BODIES,
    SMALL_BODY,
    Budget,
    BusyError,
    LimitedServer,
    Turns,
    framing_mistake,
    is_host_known,
)
from mmdet.deploy.web.request import LOWEST_SCORE, read_query, uploaded_picture
from mmdet.errors import ConfigError, DataError, DeviceError, MMDetError
from mmdet.images import TooManyPixelsError

LARGEST_UPLOAD = 64 << 20  # bytes
MAX_DIGITS = 11  # of a Content-Length
DETECT_S = 120.0  # with the time to wait for a turn
FORBIDDEN = HTTPStatus.FORBIDDEN
LARGEST_DISCARDED = 1 << 30  # of a body that is refused; then the connection is closed
HERE = Path(__file__).parent
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/openapi.json": ("openapi.json", "application/json"),
}
# The page may load nothing from elsewhere and send nothing elsewhere.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class App:
    """What all requests share.

    Args:
        detector: one picture at a time goes through it.
        examples: folder of pictures offered on the page; None for none. A link that leads out of it is none.
        token: what a request must know; "" for nothing.
        hosts: names of this computer that a request may use, beside addresses and localhost.
    """

    def __init__(
        self,
        detector: FaceDetector,
        examples: Path | None = None,
        token: str = "",
        hosts: Sequence[str] = (),
    ) -> None:
        self.detector, self.turns = detector, Turns()
        self.small, self.large = Budget(SMALL_BODIES), Budget(LARGE_BODIES)
        self.token, self.hosts = token, tuple(name.lower() for name in hosts)
        self.examples: dict[str, Path] = {}
        if examples is not None:
            self.examples = {file.name: file for file in _find_pictures(examples)}
            if not self.examples:
                raise DataError(f"--examples {examples}: no folder with pictures")

    def detect(self, data: bytes, query: dict[str, str], client: str) -> tuple[bytes, str]:
        """Return width, height, time and faces of an encoded picture, or the picture with them; and its type.

        Args:
            data: the file's bytes.
            query: see request.QUERY; "threshold" is the lowest score (default: LOWEST_SCORE), "two_scale" "1"
                or "0" for or against a second look for close-ups, "draw" "1" for the picture.
            client: its address; clients take turns.

        Raises:
            DataError: it cannot be read, or states more pixels than tools/web_demo.py allows.
            ConfigError: a parameter is unknown, or its value is.
        """
        asked = read_query(query)
        is_drawn = asked.pop("draw", False)
        default = None if is_drawn else LOWEST_SCORE
        options = self.detector.options.changed(score_thr=default).changed(**asked)
        with self.turns.one(len(data) > SMALL_BODY, client):  # decoding takes most memory
            image = decode_complete(data, "the picture")
            started = time.perf_counter()
            (found,) = self.detector.find([image], options)
            time_ms = 1000 * (time.perf_counter() - started)
        if is_drawn:
            return encode_image(draw_faces(image, found, self.detector.classes), ".jpg"), "image/jpeg"
        content = {"width": image.shape[1], "height": image.shape[0], "time_ms": round(time_ms, 1)}
        content["faces"] = to_plain(found, self.detector.classes)
        return json.dumps(content).encode(), "application/json"

    def read_example(self, name: str) -> bytes | None:
        """Return the bytes of an example; None if there is none, or no more."""
        try:
            path = self.examples.get(name)
            if path is None or not _is_inside(path) or path.stat().st_size > LARGEST_UPLOAD:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def about(self) -> dict[str, Any]:
        """Return what the page says about the model."""
        model = self.detector.model
        height, width = self.detector.input_hw
        return {
            "model": Path(model.name).name,
            "input": f"{width}x{height}",
            "provider": model.providers[0].removesuffix("ExecutionProvider"),
            "threshold": self.detector.options.score_thr,
            "lowest": LOWEST_SCORE,
            "largest_bytes": LARGEST_UPLOAD,
            "examples": list(self.examples),
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: LimitedServer

    def __init__(self, app: App, *args: Any) -> None:
        self.app = app
        super().__init__(*args)

    def _is_welcome(self, is_post: bool) -> bool:
        """Say whether to answer the request; if not, say why to the client and close the connection."""
        self.server.expect(self.connection, BODY_S)
        mistake = framing_mistake(self.headers, is_post)
        status = HTTPStatus.BAD_REQUEST
        if not mistake and not is_host_known(self.headers.get("Host"), self.app.hosts):
            mistake = "Host is no name of this computer; use its address, or start the page with --allow-host"
            status = HTTPStatus.MISDIRECTED_REQUEST
        if not mistake and not self._knows_token():
            mistake, status = (
                "the token is missing: open the address that the page was started with",
                FORBIDDEN,
            )
        if mistake:
            self.close_connection = True
            self._send_json(status, {"error": mistake})
        return not mistake

    def _knows_token(self) -> bool:
        """Say whether the request has the token: in its address, a header, or a cookie."""
        if not self.app.token:
            return True
        given = parse_qs(urlsplit(self.path).query).get("token", [])
        given += [self.headers.get("Authorization", "").removeprefix("Bearer ")]
        given += [pair.strip().removeprefix("token=") for pair in self.headers.get("Cookie", "").split(";")]
        return any(hmac.compare_digest(self.app.token.encode(), text.encode()) for text in given)

    def do_GET(self) -> None:  # noqa: N802
        """Send the page, the facts about the model, or an example picture."""
        if urlsplit(self.path).path == "/detect":
            self.refuse_method()
            return
        if not self._is_welcome(is_post=False):
            return
        path = unquote(urlsplit(self.path).path)
        if path in STATIC:
            name, kind = STATIC[path]
            self._send(HTTPStatus.OK, (HERE / name).read_bytes(), kind)
        elif path == "/about":
            self._send_json(HTTPStatus.OK, self.app.about())
        elif (data := self.app.read_example(path.removeprefix("/examples/"))) is not None:
            self._send(HTTPStatus.OK, data, "application/octet-stream")
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"{path}: nothing there"})

    do_HEAD = do_GET  # noqa: N815

    def refuse_method(self) -> None:
        """Say which methods there are."""
        if not self._is_welcome(is_post=True):
            return
        self._discard()
        allowed = "POST" if urlsplit(self.path).path == "/detect" else "GET, HEAD"
        content = {"error": f"{self.command} is not understood here; use {allowed}"}
        self._send_json(HTTPStatus.METHOD_NOT_ALLOWED, content, Allow=allowed)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what http.server itself refuses, a method without a name here for example, like all else."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self.refuse_method()
            return
        self.close_connection = True
        self._send_json(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def do_POST(self) -> None:  # noqa: N802
        """Detect the faces of the picture in the body."""
        if not self._is_welcome(is_post=True):
            return
        url = urlsplit(self.path)
        if url.path in (*STATIC, "/about") or url.path.startswith("/examples/"):
            self.refuse_method()
            return
        stated, length = self.headers.get("Content-Length", ""), self._length()
        refused = None
        if url.path != "/detect":
            refused = HTTPStatus.NOT_FOUND, f"{url.path}: nothing there; pictures go to /detect"
        elif not stated:
            refused = HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length"
        elif length is None:
            refused = HTTPStatus.BAD_REQUEST, f"Content-Length: {stated[:20]}: a number of bytes is expected"
        elif length > LARGEST_UPLOAD:
            most = f"at most {LARGEST_UPLOAD / 2**20:g} are taken"
            reason = f"the picture has {length / 2**20:.1f} MiB, {most}"
            refused = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason
        if refused is not None:
            self._discard()
            self._send_json(refused[0], {"error": refused[1]})
            return
        pairs = [pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] != "token"]
        query = dict(pairs)
        try:
            with self._body(length or 0) as data:
                self.server.expect(self.connection, DETECT_S)
                if len(query) < len(pairs):
                    raise ConfigError(f"{url.query}: a parameter is given twice")
                body = uploaded_picture(data, self.headers.get("Content-Type", ""))
                found = self.app.detect(body, query, self.client_address[0])
        except BusyError:
            self.close_connection = True
            self._send_json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too many pictures at once; try again"})
            return
        except MMDetError as error:
            is_large = isinstance(error, TooManyPixelsError)
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if is_large else HTTPStatus.BAD_REQUEST
            self._send_json(status, {"error": str(error)})
            return
        self._send(HTTPStatus.OK, *found)

    @contextmanager
    def _body(self, length: int) -> Iterator[bytes]:
        """Yield the body; the bytes that have arrived are counted, not those that were announced."""
        budget = self.app.small if length <= SMALL_BODY else self.app.large
        parts: list[bytes] = []
        try:
            left = length
            while left > 0 and (part := self.rfile.read(min(left, 1 << 16))):
                budget.take(len(part), self.client_address[0])
                parts.append(part)
                left -= len(part)
            data = b"".join(parts)
            yield data
        finally:
            budget.give_back(sum(map(len, parts)), self.client_address[0])

    def _length(self) -> int | None:
        """Return the number of bytes that the request states; None if it states none."""
        stated = self.headers.get("Content-Length", "")
        return int(stated) if stated.isascii() and stated.isdigit() and len(stated) <= MAX_DIGITS else None

    def _discard(self) -> None:
        """Read a body that is not wanted: browsers show the answer only after they have sent all of it."""
        self.close_connection = True
        left = min(self._length() or 0, LARGEST_DISCARDED)
        while left > 0 and (part := self.rfile.read(min(left, 1 << 20))):
            left -= len(part)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet; errors are shown on the page."""

    def _send_json(self, status: HTTPStatus, content: dict[str, Any], **more: str) -> None:
        self._send(status, json.dumps(content).encode(), "application/json", **more)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, **more: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS, **more}
        for name, value in headers.items():
            self.send_header(name, value)
        if self.app.token and status == HTTPStatus.OK:
            self.send_header("Set-Cookie", f"token={self.app.token}; HttpOnly; SameSite=Strict")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.server.expect(self.connection, REQUEST_S)


def _find_pictures(folder: Path) -> list[Path]:
    """Return the picture files whose names can stand in an address."""
    try:
        return [
            file
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in IMAGES and is_utf8(file.name) and file.is_file() and _is_inside(file)
        ]
    except OSError as error:
        raise DataError(f"--examples {folder}: {error.strerror or error}") from None


def _is_inside(file: Path) -> bool:
    """Say whether a file is in its folder after all links are followed."""
    return file.parent.resolve() in file.resolve().parents


def make_server(
    detector: FaceDetector,
    host: str,
    port: int,
    examples: Path | None = None,
    *,
    token: str = "",
    hosts: Sequence[str] = (),
) -> LimitedServer:
    """Return a server that listens already; `serve_forever` answers. Port 0 takes a free one.

    `token` and `hosts` as in `App`; the name given as `host` and that of this computer are known.

    Raises:
        ConfigError: there is no such port.
        DeviceError: the address cannot be used.
        DataError: the folder of examples holds no picture.
    """
    if not 0 <= port < 65536:
        raise ConfigError(f"--port {port}: from 0 to 65535")
    if not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in token):
        raise ConfigError("--token: give letters, digits, - and _")
    app = App(detector, examples, token, (host, socket.gethostname(), *hosts))
    try:
        return LimitedServer((host, port), partial(Handler, app))
    except (OSError, UnicodeError) as error:  # the second: a host name that cannot be one
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(f"cannot listen on {host}:{port}: {reason}; try --port 0") from None
