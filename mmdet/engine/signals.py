"""Stop on SIGTERM or SIGINT at an iteration that all ranks agree on."""

import signal
import time
from types import FrameType, TracebackType
from typing import Any

from mmdet.distributed import any_across_ranks, world_size

AGREE_EVERY = 10
# Signals within this time are one: Linux sends that of `end_with_parent` once per thread of a killed parent.
ECHO_S = 1.0


class StopSignal:
    """Remembers a signal while the `with` block runs; one that comes ECHO_S later ends the process as usual.

    A single rank stops after the current step. With several, a signal may reach only some of them, and a
    rank that stopped alone would leave the others waiting in the gradient average. So all ranks exchange a
    flag at every multiple of `every` iterations. The flag goes over the host, so the device is not waited
    for; the iteration is the same on all ranks, so there is no deadlock.

    Args:
        every: iterations between two exchanges; torchrun gives a rank 30 s from the signal to the end. On a
            CPU 1, because there a step costs far more than the exchange.
    """

    def __init__(self, every: int = AGREE_EVERY) -> None:
        self.every = every
        self.received: int | None = None
        self._received_s = 0.0
        self._kept: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._kept[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._kept.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._received_s = number, time.monotonic()
        elif time.monotonic() - self._received_s > ECHO_S:
            signal.signal(number, self._kept[number])
            signal.raise_signal(number)

    @property
    def name(self) -> str:
        """The signal's name, or "a signal to another rank"."""
        return signal.Signals(self.received).name if self.received else "a signal to another rank"

    def is_agreed(self, iter: int) -> bool:
        """Say whether to stop now; the same answer on all ranks."""
        if world_size() > 1 and iter % self.every:
            return False
        return any_across_ranks(self.received is not None)
