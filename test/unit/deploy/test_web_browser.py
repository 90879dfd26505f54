"""The web page in headless Chromium: a picture is chosen, faces appear, the slider moves them.

Chromium is driven over its debugging pipe (JSON messages that end in a zero byte), so that nothing but the
browser itself is needed.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet.deploy import SCRFD
from mmdet.deploy.web.server import make_server

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions "
    "--disable-background-networking --hide-scrollbars --remote-debugging-pipe --window-size=1280,860"
).split()
BOX_BGR = (60, 220, 80)  # page.js BOX
TIME_LIMIT_S = 30


class Page:
    """One tab of a browser."""

    def __init__(self, browser, profile):
        (child_reads, self.writes), (self.reads, child_writes) = os.pipe(), os.pipe()
        script = f'exec "$0" "$@" 3<&{child_reads} 4>&{child_writes}'
        command = ["bash", "-c", script, browser, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command,
            pass_fds=(child_reads, child_writes),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(child_reads)
        os.close(child_writes)
        self.number, self.buffer, self.session, self.events = 0, b"", None, []
        (target,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send a command and return its result; events that come in between are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + TIME_LIMIT_S
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _receive(self, deadline):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reads], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(self.reads, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def run(self, script):
        """Return the value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition):
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + TIME_LIMIT_S
        while not self.run(condition):
            assert time.monotonic() < deadline, f"{condition} stays false; {self.text('summary')}"
            time.sleep(0.02)

    def open(self, address):
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && document.getElementById('value').textContent !== ''")

    def text(self, element):
        return self.run(f"document.getElementById('{element}').textContent")

    def choose_file(self, path):
        """Do what a user does with "choose a file"."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.run("delete document.body.dataset.state")
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
        self.wait("document.body.dataset.state !== undefined")

    def move_slider(self, value):
        self.run(
            f"(() => {{ const s = document.getElementById('threshold'); s.value = {value};"
            " s.dispatchEvent(new Event('input')); })()"
        )

    def canvas(self):
        """Return the pixels of the canvas, BGR."""
        url = self.run("document.getElementById('canvas').toDataURL('image/png')")
        return cv2.imdecode(
            np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR
        )

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def complaints(self):
        """Return errors of the page's console."""
        entries = [e["params"]["entry"] for e in self.events if e["method"] == "Log.entryAdded"]
        thrown = [e["params"] for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        return [entry["text"] for entry in entries if entry["level"] == "error"] + thrown

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reads)
        os.close(self.writes)


def wait_for_image(path):
    """Return a picture that the browser saves; it gets its name when it is complete."""
    deadline = time.monotonic() + TIME_LIMIT_S
    while not path.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    return cv2.imread(str(path))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    browser = os.environ.get("SCRFD_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no Chromium on the PATH ({', '.join(BROWSERS)}); SCRFD_BROWSER=/path names one")
    opened = Page(browser, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def photos(shared):
    return shared / "data" / "photos"


@pytest.fixture(scope="module")
def detector(shared):
    return SCRFD(shared / "data" / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx", provider="cpu")


@pytest.fixture(scope="module")
def address(detector, photos, tmp_path_factory):
    examples = tmp_path_factory.mktemp("examples")
    shutil.copy(photos / "insightface__t1.jpg", examples / "six faces.jpg")
    server = make_server(detector, "127.0.0.1", 0, examples)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http:{'//'}127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def near(pixels, x, y, color):
    """Return whether a pixel within 2 of (x, y) has about this colour."""
    x, y = round(x), round(y)
    patch = pixels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].astype(int)
    return bool((np.abs(patch - color).max(axis=-1) < 40).any())


def test_a_chosen_picture_shows_boxes_and_keypoints(page, address, detector, photos, tmp_path):
    page.open(address)
    assert page.text("summary") == "No picture yet." and "scrfd_500m.onnx, input 640x640, CPU" in page.text(
        "about"
    )
    page.choose_file(photos / "insightface__t1.jpg")
    bboxes, kps = detector.detect(photos / "insightface__t1.jpg")
    assert page.run("document.body.dataset.state") == "done"
    assert page.text("summary").startswith(f"{len(bboxes)} faces, ") and len(bboxes) == 6
    page.run("document.getElementById('scores').click()")  # a label may lie on a neighbour's box
    pixels = page.canvas()
    assert pixels.shape[:2] == (886, 1280)
    for x1, y1, x2, y2, _ in bboxes:
        assert all(near(pixels, x, y, BOX_BGR) for x, y in ((x1, y2), (x2, y2), (x2, (y1 + y2) / 2)))
    for points in kps:
        assert near(pixels, *points[2], (0, 215, 255))  # the nose is yellow
    page.run("document.getElementById('points').click()")
    assert (page.canvas() != pixels).any(axis=-1).sum() > 6 * 5 * 10
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 100_000
    assert page.complaints() == []


@pytest.mark.slow
def test_the_slider_hides_and_shows_faces(page, address, detector, photos):
    page.open(address)
    page.choose_file(photos / "hpc203__selfie.jpg")
    _, _, _, _, scores = detector.detect(photos / "hpc203__selfie.jpg", thresh=0.1)[0].T
    pixels = []
    for threshold in (0.1, 0.5, 0.7, 0.95):
        page.move_slider(threshold)
        assert int(page.run("document.getElementById('stage').dataset.faces")) == (scores >= threshold).sum()
        assert page.text("value") == f"{threshold:.2f}"
        pixels.append(int((np.abs(page.canvas().astype(int) - BOX_BGR).max(axis=-1) < 10).sum()))
    assert pixels == sorted(pixels, reverse=True) and pixels[0] > 2 * pixels[2] > 0


def test_what_is_no_picture_gets_a_sentence_and_the_next_one_works(page, address, photos, tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    page.open(address)
    page.choose_file(tmp_path / "notes.jpg")
    assert page.run("document.body.dataset.state") == "error"
    assert page.text("summary") == "the picture cannot be decoded"
    page.choose_file(photos / "ternaus__no_face.jpg")
    assert page.text("summary").startswith("0 faces, ")


def test_an_example_opens_by_click_and_by_link(page, address):
    page.open(address)
    page.wait("document.querySelectorAll('#examples img').length === 1")
    page.run("document.querySelector('#examples img').click()")
    page.wait("document.body.dataset.state === 'done'")
    assert page.text("summary").startswith("6 faces, ")
    page.open(f"{address}?example=six%20faces.jpg&threshold=0.87")
    page.wait("document.body.dataset.state === 'done'")
    assert page.text("value") == "0.87" and 0 < int(page.text("summary").split()[0]) < 6


def test_a_deleted_or_impossible_example_leaves_a_page_that_works(page, detector, photos, tmp_path):
    shutil.copy(photos / "insightface__t1.jpg", tmp_path / "gone.jpg")
    server = make_server(detector, "127.0.0.1", 0, tmp_path)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        address = f"http:{'//'}127.0.0.1:{server.server_address[1]}/"
        page.open(address)
        page.wait("document.querySelectorAll('#examples img').length === 1")
        (tmp_path / "gone.jpg").unlink()
        page.run("document.querySelector('#examples img').click()")
        page.wait("document.getElementById('summary').className === 'error'")
        assert page.text("summary") == "gone.jpg: this example is not there any more."
        page.choose_file(photos / "ternaus__no_face.jpg")
        assert page.text("summary").startswith("0 faces, ")
        app = server.RequestHandlerClass.args[0]
        app.examples = {"\ud800.jpg": tmp_path / "gone.jpg"}  # its name cannot be put into an address
        page.call("Page.navigate", url=address)
        page.wait("document.readyState === 'complete'")
        page.wait("document.getElementById('about').textContent.includes('onnx')")
        page.choose_file(photos / "insightface__t1.jpg")
        assert page.text("summary").startswith("6 faces, ")
    finally:
        server.shutdown()
        server.server_close()


def test_faces_are_blurred_and_saved_one_by_one(page, address, detector, photos, tmp_path):
    photo = photos / "insightface__t1.jpg"
    page.open(address)
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.choose_file(photo)
    for box in ("scores", "points", "blur"):
        page.run(f"document.getElementById('{box}').click()")
    pixels, image = page.canvas(), cv2.imread(str(photo))
    bboxes, _ = detector.detect(photo)
    for x1, y1, x2, y2 in bboxes[:, :4].round().astype(int):
        inside = np.s_[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6]
        assert len(np.unique(pixels[inside].reshape(-1, 3), axis=0)) <= 64 < 0.1 * pixels[inside][..., 0].size
    assert np.abs(pixels[:30].astype(int) - image[:30]).max() < 8  # no face there
    page.run("document.getElementById('save').click()")  # the drawn, here blurred, picture
    saved = wait_for_image(tmp_path / "faces.png")
    assert np.abs(saved.astype(int) - pixels).max() < 2
    page.run("document.getElementById('crops').click()")
    deadline = time.monotonic() + TIME_LIMIT_S
    while len(list(tmp_path.glob("face_*.png"))) < len(bboxes) and time.monotonic() < deadline:
        time.sleep(0.1)
    (found,) = (tmp_path / "face_0.png",)
    x1, y1, x2, y2 = bboxes[0, :4]
    want = image[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
    assert np.abs(cv2.imread(str(found)).astype(int) - want).max() < 8
    assert page.complaints() == []
