"""What strangers may take of the page's server: connections, seconds, memory and turns at the detector."""

import heapq
import ipaddress
import itertools
import logging
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import ThreadingHTTPServer
from typing import Any

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 200  # in all; then one of the client that has most goes
REQUEST_S = 10.0  # from the first moment of a connection, or its last answer, to the end of the headers
LINGER_S = 1.0  # for a client to see the answer and to close its side
BODY_S = 60.0  # for a picture to arrive
MAX_WAITING = 64  # pictures that wait for the detector; more are told to come again
SMALL_BODY = 4 << 20  # bytes; small pictures have memory and turns of their own
SMALL_BODIES, LARGE_BODIES = 64 << 20, 160 << 20  # bytes held at one moment
CLIENT_SHARE = 0.75  # of waiting pictures and of their bytes: at most so much for one address


class BusyError(Exception):
    """Too much is waiting; the client may come again."""


class Budget:
    """Bytes of pictures that are held at one moment; one client gets at most `CLIENT_SHARE` of them."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes, self._lock = num_bytes, threading.Lock()
        self._held = Counter[str]()

    def take(self, num_bytes: int, client: str) -> None:
        """Count bytes that have arrived.

        Raises:
            BusyError: there is no room for them.
        """
        with self._lock:
            is_greedy = self._held[client] + num_bytes > CLIENT_SHARE * self._num_bytes
            if is_greedy or self._held.total() + num_bytes > self._num_bytes:
                raise BusyError
            self._held[client] += num_bytes

    def give_back(self, num_bytes: int, client: str) -> None:
        """Count them off."""
        with self._lock:
            self._held[client] -= num_bytes
            self._held += Counter()  # clients that hold nothing are forgotten


class Turns:
    """One at a time, small pictures first, then clients in turn, each in the order its pictures came.

    Each picture gets a number: one more than its client's last one, or than that of the picture whose turn it
    is (start-time fair queueing). So a client with one picture waits for one of every other, not for all.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting, self._numbers = max_waiting, itertools.count()
        self._waiting: list[tuple[bool, int, int, str]] = []
        self._round = 0  # the number of the picture whose turn it is
        self._last: dict[str, int] = {}  # of each client's last one
        self._is_taken, self._changed = False, threading.Condition()

    @contextmanager
    def one(self, is_large: bool, client: str) -> Iterator[None]:
        """Wait for the turn and keep it in the block.

        Raises:
            BusyError: too many wait already, or too many of this client.
        """
        with self._changed:
            num_own = sum(one[-1] == client for one in self._waiting)
            if len(self._waiting) >= self._max_waiting or num_own >= CLIENT_SHARE * self._max_waiting:
                raise BusyError
            place = self._last[client] = max(self._round, self._last.get(client, 0)) + 1
            mine = (is_large, place, next(self._numbers), client)
            heapq.heappush(self._waiting, mine)
            self._changed.wait_for(lambda: not self._is_taken and self._waiting[0] == mine)
            heapq.heappop(self._waiting)
            self._is_taken, self._round = True, max(self._round, place)
            self._last = {client: last for client, last in self._last.items() if last > self._round}
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()


class LimitedServer(ThreadingHTTPServer):
    """A server whose connections are numbered and timed; a client's mistake is one line in the log."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._connections: dict[socket.socket, tuple[str, float]] = {}  # address of the client, deadline
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a connection; end one of the client that has most if there are too many."""
        with self._lock:
            if len(self._connections) >= MAX_CONNECTIONS:
                _shut_down(self._surplus())
            self._connections[request] = client_address[0], time.monotonic() + REQUEST_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection; read on a moment, or a reset overtakes the answer to one that still sends."""
        with suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            request.settimeout(LINGER_S)
            end_s = time.monotonic() + LINGER_S
            while time.monotonic() < end_s and request.recv(1 << 16):
                pass
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def _surplus(self) -> socket.socket:
        """Return the connection with the nearest deadline of the address that has the most."""
        counts = Counter(client for client, _ in self._connections.values())
        most = max(counts.values())
        greedy = [one for one, (client, _) in self._connections.items() if counts[client] == most]
        return min(greedy, key=lambda one: self._connections[one][1])

    def expect(self, request: Any, seconds: float) -> None:
        """Give a connection this long for what it does next."""
        with self._lock:
            if request in self._connections:
                client, _ = self._connections[request]
                self._connections[request] = client, time.monotonic() + seconds

    def service_actions(self) -> None:
        """End the connections that are late; called twice a second."""
        now = time.monotonic()
        with self._lock:
            for request, (client, deadline) in self._connections.items():
                if deadline < now:
                    _shut_down(request)
                    self._connections[request] = client, now + REQUEST_S

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Tell in one line what happened to a connection."""
        error = sys.exc_info()[1]
        level = logging.INFO if isinstance(error, OSError) else logging.ERROR
        logger.log(level, "page: connection of %s: %s: %s", client_address[0], type(error).__name__, error)


def _shut_down(request: socket.socket) -> None:
    with suppress(OSError):  # the client was faster
        request.shutdown(socket.SHUT_RDWR)


def framing_mistake(headers: Message, is_post: bool) -> str:
    """Return what is wrong with how a request says where it ends, "" if nothing is.

    Two programs that read such a request differently can be made to take a part of it for another request.
    """
    lengths = headers.get_all("Content-Length") or []
    if len(lengths) > 1:
        return "Content-Length is given more than once"
    if lengths and headers.get("Transfer-Encoding"):
        return "both Content-Length and Transfer-Encoding are given"
    if not is_post and (headers.get("Transfer-Encoding") or lengths not in ([], ["0"])):
        return "a GET request has no body"
    return ""


def is_host_known(host: str | None, names: tuple[str, ...]) -> bool:
    """Say whether the Host header names this computer: by an address, as localhost, or by one of `names`.

    A page elsewhere may point a name of its own at this computer (DNS rebinding); the browser then sends
    that name.
    """
    if not host:
        return False
    name, colon, port = host.rpartition(":")
    name = (name if colon and port.isdigit() else host).strip("[]").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in names
    return True
