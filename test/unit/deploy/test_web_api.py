"""The OpenAPI description agrees with the server, and a public fuzzer of such files finds nothing."""

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_web import StandIn, picture

from mmdet.deploy.runtime.options import ALIASES
from mmdet.deploy.web import request as web_request
from mmdet.deploy.web import server as web

DESCRIPTION = json.loads((web.HERE / "openapi.json").read_text())
FUZZER = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or shutil.which("schemathesis")


class Slow(StandIn):
    """Takes as long as a network, so that all clients but one wait."""

    def find(self, images, options):
        time.sleep(0.01)
        return super().find(images, options)


@pytest.fixture
def address(tmp_path):
    (tmp_path / "0").with_suffix(".png").write_bytes(picture())
    server = web.make_server(Slow(), "127.0.0.1", 0, tmp_path)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address
    server.shutdown()
    server.server_close()


def ask(address, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_the_description_names_what_the_server_knows(address):
    post = DESCRIPTION["paths"]["/detect"]["post"]
    parameters = {item["name"]: item["schema"] for item in post["parameters"]}
    assert {ALIASES.get(name, name) for name in parameters} == {
        ALIASES.get(name, name) for name in web_request.QUERY
    }
    assert parameters["tiles"]["maximum"] == web_request.MOST_TILES
    found = DESCRIPTION["components"]["schemas"]["Found"]["properties"]
    assert set(json.loads(ask(address, "POST", "/detect", picture())[2])) == set(found)
    about = DESCRIPTION["components"]["schemas"]["About"]["properties"]
    assert set(json.loads(ask(address, "GET", "/about")[2])) == set(about)
    assert json.loads(ask(address, "GET", "/openapi.json")[2]) == DESCRIPTION


def test_every_method_that_there_is_not_is_405_in_json(address):
    for method, path, allowed in (
        ("TRACE", "/about", "GET, HEAD"), ("BREW", "/", "GET, HEAD"), ("POST", "/about", "GET, HEAD"),
        ("POST", "/examples/0.png", "GET, HEAD"), ("TRACE", "/detect", "POST"), ("HEAD", "/detect", "POST"),
    ):  # fmt: skip
        status, headers, content = ask(address, method, path)
        assert (status, headers["Allow"]) == (405, allowed), (method, path)
        assert method == "HEAD" or allowed in json.loads(content)["error"]
    status, headers, content = ask(address, "GET", "/detect", b"a body")
    assert status == 405 and "use POST" in json.loads(content)["error"]
    status, headers, content = ask(address, "HEAD", "/about")
    assert (status, content) == (200, b"") and int(headers["Content-Length"]) > 0


def test_a_request_that_http_server_refuses_is_json_too(address):
    with web.socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET / HTTP/9.9\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.endswith(b'{"error": "Invalid HTTP version (9.9)"}')


@pytest.mark.parametrize("query", ["tiles=9", "tiles=100000", "threshold=0.5&thresh=0.6"])
def test_what_would_cost_hours_or_means_two_things_is_400(address, query):
    assert ask(address, "POST", f"/detect?{query}", picture())[0] == 400


def test_a_drawn_picture_instead_of_numbers(address):
    """By name, and as a form; the threshold of the detector holds, not the low one of the page."""
    form = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
        + picture()
        + b"\r\n--x--"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for body, headers in ((picture(), {}), (form, kind)):
        status, answer, content = ask(address, "POST", "/detect?draw=1", body, headers)
        assert status == 200 and answer["Content-Type"] == "image/jpeg"
        drawn, plain = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (content, picture()))
        assert drawn.shape == plain.shape and np.abs(drawn.astype(int) - plain).max() > 100
    assert ask(address, "POST", "/detect?draw=2", picture())[0] == 400
    assert json.loads(ask(address, "POST", "/detect?draw=0", picture())[2])["faces"]


@pytest.mark.skipif(FUZZER is None, reason="schemathesis is not installed")
@pytest.mark.slow
def test_a_fuzzer_of_such_files_finds_nothing(address, tmp_path):
    """Its demand that all that fits the schema is a 200 is left out: most bytes are no picture."""
    url = "http:" + f"//127.0.0.1:{address[1]}/openapi.json"
    options = [
        "--max-examples",
        "15",
        "--seed",
        "1",
        "--exclude-checks",
        "positive_data_acceptance",
        "--no-color",
    ]
    done = subprocess.run(
        [FUZZER, "run", url, *options], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "6 selected / 6 total" in done.stdout


@pytest.mark.slow
def test_twenty_clients_at_once_lose_nothing(address):
    """Nobody is told to come again, for three seconds here."""
    end = time.monotonic() + 3

    def client(number):
        answers = []
        while time.monotonic() < end or not answers:
            status, _, content = ask(address, "POST", "/detect", picture(20 + number))
            answers.append((status, json.loads(content)["height"]))
        return answers

    with ThreadPoolExecutor(20) as pool:
        for number, answers in enumerate(pool.map(client, range(20))):
            assert set(answers) == {(200, 20 + number)}
