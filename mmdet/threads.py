"""Work on several threads with its results in order, and a bounded number of items in hand."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[tuple[T, Future[R]]]:
    """Yield each item with the future of function(item), in order.

    Args:
        pool: runs the function.
        function: may raise; the future's result() raises it then.
        items: taken by the calling thread.
        ahead: so many are begun or done when the first of them is yielded.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    rest = iter(items)
    try:
        while True:
            for item in islice(rest, ahead - len(waiting)):
                waiting.append((item, pool.submit(function, item)))
            if not waiting:
                return
            yield waiting.popleft()
    finally:  # after an error or Ctrl-C: do not run what nobody waits for
        for _, future in waiting:
            future.cancel()
