"""The page among strangers: framing, Host, token, links, slow and many clients."""

import http.client
import json
import socket
import sys
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmdet.deploy import DetectOptions, Faces
from mmdet.deploy.web import limits
from mmdet.deploy.web import server as web
from mmdet.errors import ConfigError

PNG = cv2.imencode(".png", np.full((60, 80, 3), 90, np.uint8))[1].tobytes()
NOTHING = Faces(np.zeros((0, 5), np.float32), None, np.zeros(0, np.int64))


class StandIn:
    """A detector that finds nothing, in 10 ms."""

    classes = ("face",)
    options = DetectOptions()
    input_hw = (480, 640)
    model = SimpleNamespace(name="toy.onnx", providers=["CPUExecutionProvider"])

    def find(self, images, options):
        time.sleep(0.01)
        return [NOTHING for _ in images]


@pytest.fixture
def serve():
    servers = []

    def start(examples=None, **options):
        server = web.make_server(StandIn(), "127.0.0.1", 0, examples, **options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_address

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(address, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def raw(address, data):
    """Send bytes; return the status and whether the connection was closed after the answer."""
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(data)
        received = b""
        while part := client.recv(65536):
            received += part
    return int(received.split()[1])


@pytest.mark.parametrize(
    "lines",
    [
        b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nhello",
        b"GET /about HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /about HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_requests_that_can_be_read_in_two_ways_are_400_and_end_the_connection(serve, lines):
    assert raw(serve(), lines) == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:80", 200),
        ("demo.example:8000", 200),
        ("evil.test", 421),
    ],
)
def test_only_names_of_this_computer_are_answered(serve, host, status):
    assert ask(serve(hosts=["Demo.example"]), "GET", "/about", headers={"Host": host})[0] == status


def test_a_request_without_a_host_is_refused(serve):
    assert raw(serve(), b"GET /about HTTP/1.1\r\n\r\n") == 421


def test_the_token_is_asked_for_and_kept_in_a_cookie(serve):
    address = serve(token="s3cret")
    for path, headers in (("/", {}), ("/about?token=wrong", {}), ("/", {"Cookie": "token=x; =;;"})):
        assert ask(address, "GET", path, headers=headers)[0] == 403
    assert ask(address, "POST", "/detect", PNG)[0] == 403
    status, headers, _ = ask(address, "GET", "/?token=s3cret")
    assert status == 200 and headers["Set-Cookie"] == "token=s3cret; HttpOnly; SameSite=Strict"
    cookie = {"Cookie": headers["Set-Cookie"].split(";")[0]}
    assert ask(address, "POST", "/detect", PNG, cookie)[0] == 200
    assert ask(address, "GET", "/about", headers={"Authorization": "Bearer s3cret"})[0] == 200
    with pytest.raises(ConfigError, match="--token"):
        web.make_server(StandIn(), "127.0.0.1", 0, token="a b")


def test_a_link_out_of_the_examples_is_not_served(serve, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.png").write_bytes(PNG)
    (folder / "same.png").symlink_to("a.png")
    (folder / "out.png").symlink_to(tmp_path / "secret.txt")
    address = serve(folder)
    assert json.loads(ask(address, "GET", "/about")[2])["examples"] == ["a.png", "b.png", "same.png"]
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to(tmp_path / "secret.txt")  # after the start
    assert [ask(address, "GET", f"/examples/{n}.png")[0] for n in ("a", "b", "same", "out")] == [
        200,
        404,
        200,
        404,
    ]


def test_slow_clients_are_ended_and_a_reset_is_one_line(serve, monkeypatch, caplog):
    monkeypatch.setattr(limits, "REQUEST_S", 0.5)
    caplog.set_level("INFO", limits.logger.name)
    address = serve()
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET / HT")
        assert client.recv(10) == b""  # closed by the server
    with socket.create_connection(address, timeout=10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset when closed
        client.sendall(b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nhalf")
        time.sleep(0.2)
    time.sleep(0.3)
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert ask(address, "POST", "/detect", PNG)[0] == 200


def test_an_honest_client_is_answered_among_hostile_ones(serve, monkeypatch):
    """60 connections that say nothing, drip, or send pictures all the time; at most 40 are kept."""
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 40)
    address, is_over = serve(), threading.Event()
    request = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    kinds = (
        b"",
        b"GET / HTTP/1.1\r\nX: ",
        request % len(PNG) + PNG,
        request % (60 << 20) + bytes(1000),
        b"\0\xff" * 99,
    )

    def attack(number):
        while not is_over.wait(0.02):
            try:
                with socket.create_connection(address, timeout=1) as client:
                    client.sendall(kinds[number % len(kinds)])
                    client.recv(100)
            except OSError:
                continue

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    try:
        times, statuses = [], []
        for _ in range(10):
            start = time.monotonic()
            try:
                statuses.append(ask(address, "POST", "/detect", PNG)[0])
            except OSError:
                statuses.append(0)
            times.append(time.monotonic() - start)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert statuses.count(200) >= 8, statuses
    assert sorted(times)[7] < 2, times


def wait_for_turns(turns, pictures):
    """Let (is_large, client) wait for a turn, one after another; return who had it, and who was refused."""
    order, busy, threads = [], [], []

    def take(is_large, client):
        try:
            with turns.one(is_large, client):
                order.append(client)
        except limits.BusyError:
            busy.append(client)

    with turns.one(False, "first"):
        for picture in pictures:
            threads.append(threading.Thread(target=take, args=picture))
            threads[-1].start()
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    return order, busy


def test_too_many_waiting_pictures_are_told_to_come_again():
    pictures = [(True, "large"), (False, "small"), (False, "late")]
    assert wait_for_turns(limits.Turns(max_waiting=2), pictures) == (["small", "large"], ["late"])


def test_clients_take_turns_and_one_cannot_take_all_places():
    pictures = [(False, name) for name in "aaaabba"]
    order, busy = wait_for_turns(limits.Turns(max_waiting=4), pictures)
    assert order == ["a", "b", "a", "a"] and busy == ["a", "b", "a"]
    order, busy = wait_for_turns(limits.Turns(max_waiting=8), pictures)
    assert order == ["a", "b", "a", "b", "a", "a", "a"] and not busy


def test_memory_for_pictures_is_counted_as_it_arrives():
    budget = limits.Budget(12)
    budget.take(6, "a")
    for num_bytes, client in ((4, "a"), (7, "b")):  # beyond the share of one, beyond all
        with pytest.raises(limits.BusyError):
            budget.take(num_bytes, client)
    budget.take(6, "b")
    budget.give_back(6, "a")
    budget.take(3, "b")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second address of this computer")
def test_a_client_with_many_connections_costs_nobody_else_his(serve, monkeypatch):
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 6)
    address = serve()
    mine = http.client.HTTPConnection(*address, timeout=20)
    mine.connect()
    time.sleep(0.2)
    others = [socket.create_connection(address, 20, ("127.0.0.2", 0)) for _ in range(12)]
    time.sleep(0.5)
    mine.request("GET", "/about", headers={"Host": "localhost"})
    assert mine.getresponse().status == 200
    for one in (mine, *others):
        one.close()
