"""The web page's server over HTTP: the page, faces as JSON, and what it answers to mistakes."""

import http.client
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmdet.deploy import SCRFD, DetectOptions, Faces
from mmdet.deploy.web import server as web
from mmdet.errors import DataError, DeviceError

FACES = Faces(
    np.array([[1, 2, 30, 40, 0.9], [5, 6, 20, 25, 0.3]], np.float32),
    np.arange(20, dtype=np.float32).reshape(2, 5, 2),
    np.zeros(2, np.int64),
)


class StandIn:
    """A detector that finds the same two faces everywhere and remembers how it was asked."""

    classes = ("face",)
    options = DetectOptions()
    input_hw = (480, 640)
    model = SimpleNamespace(name="/somewhere/toy.onnx", providers=["CPUExecutionProvider"])

    def __init__(self):
        self.asked = []

    def find(self, images, options):
        self.asked.append((images[0].shape, options.score_thr, options.two_scale))
        return [FACES.take(np.flatnonzero(FACES.bboxes[:, 4] >= options.score_thr))]


@pytest.fixture
def serve():
    """Return a function (detector, examples) -> (method, path, body) -> (status, headers, content)."""
    servers = []

    def start(detector, examples=None):
        server = web.make_server(detector, "127.0.0.1", 0, examples)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

        def ask(method, path, body=None, headers=None):
            connection = http.client.HTTPConnection(*server.server_address, timeout=30)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            is_json = answer.headers["Content-Type"] == "application/json"
            return answer.status, answer.headers, json.loads(content) if is_json else content

        return ask

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def picture(height=60, width=80):
    return cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def test_page_and_facts(serve):
    ask = serve(StandIn())
    for path, kind, text in (
        ("/", "text/html", b"<title>SCRFD"),
        ("/page.js", "text/javascript", b"threshold"),
        ("/page.css", "text/css", b"#stage"),
    ):
        status, headers, content = ask("GET", path)
        assert status == 200 and headers["Content-Type"].startswith(kind) and text in content
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    status, _, about = ask("GET", "/about")
    assert status == 200 and about == {
        "model": "toy.onnx",
        "input": "640x480",
        "provider": "CPU",
        "threshold": 0.5,
        "lowest": 0.1,
        "largest_bytes": 64 * 1024 * 1024,
        "examples": [],
    }


def test_faces_as_json(serve):
    detector = StandIn()
    ask = serve(detector)
    status, _, found = ask("POST", "/detect", picture())
    assert status == 200 and (found["width"], found["height"]) == (80, 60) and found["time_ms"] >= 0
    assert found["faces"] == [
        {"bbox": [1, 2, 30, 40], "score": 0.9, "kps": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]},
        {"bbox": [5, 6, 20, 25], "score": 0.3, "kps": [[10, 11], [12, 13], [14, 15], [16, 17], [18, 19]]},
    ]
    assert len(ask("POST", "/detect?threshold=0.5", picture())[2]["faces"]) == 1
    assert len(ask("POST", "/detect?threshold=1", picture())[2]["faces"]) == 0
    assert ask("POST", "/detect?two_scale=1", picture())[0] == 200
    shape = (60, 80, 3)
    assert detector.asked == [
        (shape, 0.1, "auto"),
        (shape, 0.5, "auto"),
        (shape, 1.0, "auto"),
        (shape, 0.1, True),
    ]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/detect", b"", "the picture is empty"),
        ("/detect", b"hello", "the picture cannot be decoded"),
        ("/detect?threshold=high", picture(), "threshold=high: a number from 0 to 1 is expected"),
        ("/detect?threshold=1.5", picture(), "threshold=1.5: a number from 0 to 1 is expected"),
        ("/detect?threshold=nan", picture(), "threshold=nan: a number from 0 to 1 is expected"),
    ],
)
def test_a_bad_upload_is_400_with_a_sentence(serve, path, body, text):
    detector = StandIn()
    status, _, answer = serve(detector)("POST", path, body)
    assert (status, answer, detector.asked) == (400, {"error": text}, [])


def test_half_a_jpeg_is_400(serve):
    jpeg = cv2.imencode(".jpg", np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    status, _, answer = serve(StandIn())("POST", "/detect", jpeg[: len(jpeg) // 2])
    assert status == 400 and answer == {"error": "the picture is a JPEG cut off before its end"}


def test_too_large_is_413_and_the_sentence_arrives(serve, monkeypatch):
    monkeypatch.setattr(web, "LARGEST_UPLOAD", 1 << 20)
    detector = StandIn()
    ask = serve(detector)
    status, headers, answer = ask("POST", "/detect", bytes(5 << 20))
    assert status == 413 and answer == {"error": "the picture has 5.0 MiB, at most 1 are taken"}
    assert detector.asked == []
    assert ask("POST", "/detect", picture())[0] == 200  # the server goes on


def test_other_requests(serve, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "secret.txt").write_text("secret")
    ask = serve(StandIn(), tmp_path)
    assert ask("GET", "/about")[2]["examples"] == ["a.png"]
    assert ask("GET", "/examples/a.png")[2] == picture()
    for path in (
        "/examples/secret.txt",
        "/examples/..%2Fserver.py",
        "/server.py",
        "/../server.py",
        "/nothing",
    ):
        assert ask("GET", path)[0] == 404, path
    assert ask("POST", "/", picture())[0] == 405 and ask("POST", "/nothing", picture())[0] == 404
    assert ask("POST", "/detect", iter([b"1", b"2"]), {"Transfer-Encoding": "chunked"})[0] == 411


def test_other_methods_and_parameters(serve):
    detector = StandIn()
    ask = serve(detector)
    for method, path, allowed in (
        ("GET", "/detect", "POST"),
        ("PUT", "/", "GET, HEAD"),
        ("DELETE", "/detect", "POST"),
    ):
        status, headers, content = ask(method, path)
        assert (status, headers["Allow"]) == (405, allowed) and allowed in content["error"]
    for path, message in (
        ("/detect?treshold=0.5", "parameter = 'treshold' is unknown; did you mean 'threshold'"),
        ("/detect?max_num=many", "max_num=many: a whole number is expected"),
        ("/detect?two_scale=yes", "two_scale=yes: 0 or 1 is expected"),
        ("/detect?iou_thr=2", "iou_thr=2: a number from 0 to 1 is expected"),
    ):
        status, _, content = ask("POST", path, picture())
        assert status == 400 and message in content["error"]
    for name in ("thresh", "det_thresh", "score_thr", "threshold"):
        assert (
            len(ask("POST", f"/detect?{name}=0.5&max_num=3&tiles=0&two_scale=0", picture())[2]["faces"]) == 1
        )


def test_many_at_once(serve):
    detector = StandIn()
    ask = serve(detector)
    assert web.LimitedServer.request_queue_size >= 100  # with 5, two of 20 clients were reset within 30 s
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda width: ask("POST", "/detect", picture(40, width)), range(20, 44)))
    assert [answer[2]["width"] for answer in answers] == list(range(20, 44))


def test_start_mistakes(tmp_path):
    with pytest.raises(DataError, match="no folder with pictures"):
        web.make_server(StandIn(), "127.0.0.1", 0, tmp_path)
    with web.make_server(StandIn(), "127.0.0.1", 0) as server:
        with pytest.raises(DeviceError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"):
            web.make_server(StandIn(), "127.0.0.1", server.server_address[1])


def test_the_tool_ends_with_2_without_a_model(repo, tmp_path):
    command = [sys.executable, "tools/web_demo.py", str(tmp_path / "no.onnx"), "--port", "0"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr == f"CheckpointError: {tmp_path}/no.onnx: no such file\n"


def test_moving_the_threshold_on_the_page_is_detecting_anew(serve, shared):
    """What the page draws at 0.6, a part of one answer, is what a detection at 0.6 gives."""
    detector = SCRFD(shared / "data" / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx", provider="cpu")
    photo = shared / "data" / "photos" / "hpc203__selfie.jpg"
    found = serve(detector)("POST", "/detect", photo.read_bytes())[2]["faces"]
    bboxes, kps = detector.detect(cv2.imread(str(photo)), thresh=0.6)
    drawn = [face for face in found if face["score"] >= 0.6]
    assert len(found) > len(drawn) == len(bboxes) > 50
    np.testing.assert_allclose([[*face["bbox"], face["score"]] for face in drawn], bboxes, atol=0.01)
    np.testing.assert_allclose([face["kps"] for face in drawn], kps, atol=0.01)


def png_of_zeros(height, width):
    """Return a gray PNG, one bit per pixel: a small file of any number of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + -(-width // 8))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_small_file_of_many_pixels_is_413_and_never_decoded(repo, spots):
    command = [sys.executable, "tools/web_demo.py", str(spots), "--port", "0", "--provider", "cpu"]
    with subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().split()[1].rpartition(":")[2])
            answers = []
            for side in (20_000, 200):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", "/detect", png_of_zeros(side, side))
                answer = connection.getresponse()
                answers.append((answer.status, json.loads(answer.read())))
                connection.close()
            status = Path(f"/proc/{process.pid}/status").read_text() if sys.platform == "linux" else ""
        finally:
            process.terminate()
    assert answers[0] == (413, {"error": "the picture has too many pixels to be decoded"})
    assert answers[1][0] == 200 and (answers[1][1]["width"], answers[1][1]["height"]) == (200, 200)
    assert not status or int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 1_000_000  # 2.5 GB if decoded


def test_pictures_are_decoded_one_at_a_time(serve, monkeypatch):
    inside, most = [0], [0]
    decode = web.decode_complete

    def slow(data, name):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return decode(data, name)

    monkeypatch.setattr(web, "decode_complete", slow)
    ask = serve(StandIn())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask("POST", "/detect", picture()), range(6)))
    assert [answer[0] for answer in answers] == [200] * 6
    assert most[0] == 1


def test_a_folder_a_deleted_file_and_a_strange_name_among_the_examples(serve, tmp_path):
    for name in (b"a.png", b"b.png", "Gr\u00fc\u00dfe.png".encode(), b"latin\xff.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(picture())
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    ask = serve(StandIn(), tmp_path)
    assert ask("GET", "/about")[2]["examples"] == ["Gr\u00fc\u00dfe.png", "a.png", "b.png"]
    (tmp_path / "b.png").unlink()
    assert ask("GET", "/examples/b.png")[::2] == (404, {"error": "/examples/b.png: nothing there"})
    assert ask("GET", "/examples/Gr%C3%BC%C3%9Fe.png")[::2] == (200, picture())
    with pytest.raises(DataError, match=r"--examples .*none: No such file or directory"):
        web.make_server(StandIn(), "127.0.0.1", 0, tmp_path / "none")


@pytest.mark.parametrize("length", ["-5", "abc", "\u00b2", "9" * 12, "9" * 5000, "1e3", "+7"])
def test_a_content_length_that_is_none_is_400(serve, length):
    status, _, answer = serve(StandIn())("POST", "/detect", b"", {"Content-Length": length})
    expected = f"Content-Length: {length[:20]}: a number of bytes is expected"
    assert (status, answer) == (400, {"error": expected})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--port", "99999"), "ConfigError: --port 99999: from 0 to 65535"),
        (("--port", "-1"), "ConfigError: --port -1: from 0 to 65535"),
        (("--host", "a..b"), "DeviceError: cannot listen on a..b:8000: .*; try --port 0"),
        (("--thr", "50"), "ConfigError: --thr 50.0: give a value from 0 to 1"),
        (("--input-size", "64", "0"), "ConfigError: --input-size 0: give 1 or more"),
    ],
)
def test_mistakes_of_the_tool_are_one_line_and_code_2(run_tool, spots, args, message):
    code, out, err = run_tool("web_demo", spots, "--provider", "cpu", *args)
    assert (code, out) == (2, "") and re.fullmatch(f"{message}\\n", err), err
