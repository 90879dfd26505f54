"""A hundred hostile clients of the page beside one honest one, all on this machine."""

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kills import finish, start

NUM_HOSTILE = 100
MAX_ANSWER_S, MAX_MIB = 2.0, 1024
PAUSE_S = 0.2  # between the honest client's pictures
POST = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
Behaviour = Callable[[socket.socket, random.Random], None]


def strangers(folder: Path, seed: int, limits: tuple[float, int]) -> dict[str, Any]:
    """Send pictures to the page among hostile clients; report the slowest answer and the server's memory.

    Findings: an honest picture without its answer within 2 s (a 503 is tried again within them), a wrong
    answer, memory beyond 1 GiB, a server that has ended.
    """
    import cv2
    import numpy as np

    spent_s, picture = (
        min(limits[0], 60.0),
        cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes(),
    )
    with _served(folder) as (pid, address):
        hostile = start(lambda: _attack(address, seed, time.monotonic() + spent_s, picture))
        found, end = Counter[str](), time.monotonic() + spent_s
        slowest_s = memory_mib = 0.0
        while time.monotonic() < end:
            began = time.monotonic()
            found[_ask(address, picture, began + 20)] += 1
            slowest_s = max(slowest_s, time.monotonic() - began)
            memory_mib = max(memory_mib, _peak_mib(pid))
            time.sleep(PAUSE_S)
        os.kill(hostile, signal.SIGKILL)
        finish(hostile)
    findings = [f"{count} of the honest answers: {text}" for text, count in found.items() if text != "right"]
    findings += [f"an honest answer after {slowest_s:.1f} s"] * (slowest_s > MAX_ANSWER_S)
    findings += [f"{memory_mib:.0f} MiB"] * (memory_mib > MAX_MIB)
    return {
        "hostile clients": NUM_HOSTILE,
        "honest answers": found["right"],
        "slowest_s": round(slowest_s, 2),
        "memory_mib": round(memory_mib),
        "findings": findings,
    }


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[int, tuple[str, int]]]:
    """Yield the id and address of a server with a small detector, in a process of its own."""
    from binaries import detector_seeds

    from mmdet.deploy import FaceDetector
    from mmdet.deploy.web.server import make_server
    from mmdet.images import quiet_opencv

    (folder / "a.onnx").write_bytes(list(detector_seeds())[1])
    receive, send = os.pipe()

    def serve() -> None:
        quiet_opencv()
        server = make_server(FaceDetector(folder / "a.onnx", provider="cpu", threads=1), "127.0.0.1", 0)
        os.write(send, str(server.server_address[1]).encode())
        server.serve_forever()

    pid = start(serve)
    try:
        yield pid, ("127.0.0.1", int(os.read(receive, 10)))
    finally:
        os.kill(pid, signal.SIGKILL)
        finish(pid)
        os.close(receive)
        os.close(send)


def _ask(address: tuple[str, int], picture: bytes, until: float) -> str:
    """Return "right", or what is wrong; a 503 is asked again."""
    text = "no answer"
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(*address, timeout=max(until - time.monotonic(), 0.1))
        try:
            connection.request("POST", "/detect", picture)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            text = f"{type(error).__name__}"
        else:
            if answer.status == 200 and (content["width"], content["height"]) == (64, 48):
                return "right"
            text = f"status {answer.status} {content}"[:80]
            if answer.status != 503:
                return text
            time.sleep(0.05)
        finally:
            connection.close()
    return text


def _peak_mib(pid: int) -> float:
    """Return the peak of a process's memory; infinite if it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("inf"))


def _attack(address: tuple[str, int], seed: int, end: float, picture: bytes) -> None:
    kinds = itertools.cycle(_behaviours(picture))

    def client(number: int, behave: Behaviour) -> None:
        choose = random.Random(f"{seed} {number}")
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=15) as one:
                behave(one, choose)
            time.sleep(0.05)

    threads = [
        threading.Thread(target=client, args=pair) for pair in zip(range(NUM_HOSTILE), kinds, strict=False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _behaviours(picture: bytes) -> list[Behaviour]:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk

    def slow_headers(one: socket.socket, choose: random.Random) -> None:
        for byte in POST % 1000 * 5:
            one.sendall(bytes([byte]))
            time.sleep(choose.uniform(0.1, 1.0))

    def slow_body(one: socket.socket, choose: random.Random) -> None:
        one.sendall(POST % (1 << 20))
        while True:
            one.sendall(bytes(100))
            time.sleep(choose.uniform(0.1, 1.0))

    def large_body(one: socket.socket, choose: random.Random) -> None:
        one.sendall(POST % (64 << 20))
        for _ in range(choose.randrange(64)):
            one.sendall(bytes(1 << 20))
        one.recv(1000)

    def silence(one: socket.socket, choose: random.Random) -> None:
        one.recv(1000)

    def noise(one: socket.socket, choose: random.Random) -> None:
        one.sendall(choose.randbytes(choose.randrange(1, 100_000)))
        one.recv(1000)

    def reset(one: socket.socket, choose: random.Random) -> None:
        one.sendall(POST % len(picture) + picture[: choose.randrange(len(picture) + 1)])
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def too_many_pixels(one: socket.socket, choose: random.Random) -> None:
        one.sendall(POST % len(bomb) + bomb)
        one.recv(1000)

    def flood(one: socket.socket, choose: random.Random) -> None:
        for _ in range(choose.randrange(20)):
            one.sendall(POST % len(picture) + picture)
            one.recv(10_000)

    def long_headers(one: socket.socket, choose: random.Random) -> None:
        one.sendall(b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 60_000)
        one.sendall(b"\r\nc: d" * 10_000)
        one.recv(1000)

    return [slow_headers, slow_body, large_body, silence, noise, reset, too_many_pixels, flood, long_headers]
