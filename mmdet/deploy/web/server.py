"""The web page's server, on the standard library: three static files and one question, "which faces?".

The browser sends a picture's bytes and gets every face above a low score; it draws them and moves the
threshold by itself, which gives what a new detection at that threshold would (in greedy NMS a face is never
removed by a worse one).
"""

import json
import threading
import time
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mmdet.deploy.inputs import IMAGES, decode_complete
from mmdet.deploy.ort_detector import SCRFD
from mmdet.deploy.writers import to_plain
from mmdet.errors import DataError, DeviceError, MMDetError

LOWEST_SCORE = 0.1  # of the faces sent to the page; its slider begins here
LARGEST_UPLOAD = 64 << 20  # bytes
HERE = Path(__file__).parent
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
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
        examples: folder of pictures offered on the page; None for none.
    """

    def __init__(self, detector: SCRFD, examples: Path | None = None) -> None:
        self.detector, self.lock = detector, threading.Lock()
        self.examples: dict[str, Path] = {}
        if examples is not None:
            files = sorted(examples.iterdir()) if examples.is_dir() else []
            self.examples = {file.name: file for file in files if file.suffix.lower() in IMAGES}
            if not self.examples:
                raise DataError(f"--examples {examples}: no folder with pictures")

    def detect(self, data: bytes, two_scale: bool) -> dict[str, Any]:
        """Return width, height, time and faces of an encoded picture.

        Raises:
            DataError: it cannot be read.
        """
        image = decode_complete(data, "the picture")
        with self.lock:
            started = time.perf_counter()
            (found,) = self.detector.predict([image], 1, LOWEST_SCORE, two_scale=two_scale)
            time_ms = 1000 * (time.perf_counter() - started)
        height, width = image.shape[:2]
        faces = to_plain(found, self.detector.classes)
        return {"width": width, "height": height, "time_ms": round(time_ms, 1), "faces": faces}

    def about(self) -> dict[str, Any]:
        """Return what the page says about the model."""
        model = self.detector.model
        height, width = self.detector.input_hw
        return {
            "model": Path(model.name).name,
            "input": f"{width}x{height}",
            "provider": model.providers[0].removesuffix("ExecutionProvider"),
            "threshold": self.detector.det_thresh,
            "lowest": LOWEST_SCORE,
            "examples": list(self.examples),
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def __init__(self, app: App, *args: Any) -> None:
        self.app = app
        super().__init__(*args)

    def do_GET(self) -> None:  # noqa: N802
        """Send the page, the facts about the model, or an example picture."""
        path = unquote(urlsplit(self.path).path)
        if path in STATIC:
            name, kind = STATIC[path]
            self._send(HTTPStatus.OK, (HERE / name).read_bytes(), kind)
        elif path == "/about":
            self._send_json(HTTPStatus.OK, self.app.about())
        elif path.removeprefix("/examples/") in self.app.examples:
            file = self.app.examples[path.removeprefix("/examples/")]
            self._send(HTTPStatus.OK, file.read_bytes(), "application/octet-stream")
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"{path}: nothing there"})

    def do_POST(self) -> None:  # noqa: N802
        """Detect the faces of the picture in the body."""
        url = urlsplit(self.path)
        length = self.headers.get("Content-Length", "")
        if url.path != "/detect" or not length.isdigit() or int(length) > LARGEST_UPLOAD:
            self.close_connection = True  # the body stays unread
            reason = f"a picture of at most {LARGEST_UPLOAD >> 20} MiB is expected at /detect"
            self._send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": reason})
            return
        try:
            found = self.app.detect(self.rfile.read(int(length)), "two_scale=1" in url.query)
        except MMDetError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
            return
        self._send_json(HTTPStatus.OK, found)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet; errors are shown on the page."""

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def make_server(detector: SCRFD, host: str, port: int, examples: Path | None = None) -> ThreadingHTTPServer:
    """Return a server that listens already; `serve_forever` answers. Port 0 takes a free one.

    Raises:
        DeviceError: the address cannot be used.
        DataError: the folder of examples holds no picture.
    """
    app = App(detector, examples)
    try:
        return ThreadingHTTPServer((host, port), partial(Handler, app))
    except OSError as error:
        raise DeviceError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; try --port 0"
        ) from None
