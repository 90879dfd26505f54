"""End a call of onnxruntime that takes too long: a graph is a program, and may hold a loop.

onnxruntime looks at the flag `terminate` before each node. One thread looks at all calls of the process; it
ends when there are none, and a call costs microseconds.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmdet.errors import CheckpointError

if TYPE_CHECKING:
    import onnxruntime

MAX_CALL_S = 600.0  # an accelerator may compile within the first call
LOOK_S = 1.0  # between two looks


class _Calls:
    """The calls of this process and when each must have ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ends_s: dict[onnxruntime.RunOptions, float] = {}
        self.is_watched = False

    def watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with self.lock:
                for options, end_s in self.ends_s.items():
                    options.terminate = options.terminate or time.monotonic() > end_s
                if not self.ends_s:
                    self.is_watched = False
                    return


_calls = _Calls()
if hasattr(os, "register_at_fork"):  # a fork has neither the thread nor the calls
    os.register_at_fork(after_in_child=_calls.__init__)  # type: ignore[misc]


@contextmanager
def limit_call(options: "onnxruntime.RunOptions", name: str) -> Iterator[None]:
    """Give a call `MAX_CALL_S`.

    Args:
        options: what the call in the block is given.
        name: of the file, for the message.

    Raises:
        CheckpointError: it took longer, and has ended.
    """
    with _calls.lock:
        _calls.ends_s[options] = time.monotonic() + MAX_CALL_S
        if not _calls.is_watched:
            _calls.is_watched = True
            threading.Thread(target=_calls.watch, name="scrfd calls", daemon=True).start()
    try:
        yield
    except Exception:
        if options.terminate:
            reason = f"ran for {MAX_CALL_S:g} s and was ended; its graph may hold a loop"
            raise CheckpointError(f"{name} {reason}") from None
        raise
    finally:
        with _calls.lock:
            del _calls.ends_s[options]
