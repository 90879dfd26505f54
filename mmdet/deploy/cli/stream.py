"""Reading pictures and finding faces at the same time, with a bounded number of pictures in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mmdet.deploy.cli.inputs import Picture, Task
from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.ort_detector import SCRFD
from mmdet.images import UnreadableImageError

Result = tuple[Picture, Faces]
T = TypeVar("T")
Find = Callable[[list[Picture]], list[Faces]]


def detect_stream(
    detector: SCRFD,
    tasks: Iterable[Task],
    skipped: dict[str, str],
    batch_size: int = 16,
    input_size: tuple[int, int] | None = None,
    max_num: int = 0,
    two_scale: bool = False,
) -> Iterator[Result]:
    """Yield the pictures and their faces, in the order of the tasks; thresholds as prepared.

    On the CPU every core takes a picture of its own from the file to the faces, and `batch_size` pictures
    are in hand at most. For an accelerator other threads read the next two batches meanwhile.

    Args:
        detector: finds the faces.
        tasks: (path, what reads it).
        skipped: path -> reason; what cannot be read is added.
        batch_size: pictures at once.
        input_size: as in `SCRFD.detect`, as are
        max_num: most important faces, and
        two_scale: a second look.
    """

    def find(pictures: list[Picture]) -> list[Faces]:
        images = [picture.image for picture in pictures]
        return detector.predict(
            images, batch_size, input_size=input_size, max_num=max_num, two_scale=two_scale
        )

    pool = detector.model.start_pool()
    if pool is not None:

        def work(read: Callable[[], Picture]) -> Result:
            picture = read()
            return picture, find([picture])[0]

        yield from _in_order(pool, work, tasks, batch_size, skipped)
        return
    if detector.model.takes_single:
        batch_size = 1
    with ThreadPoolExecutor(detector.model.num_cores) as readers:
        batch: list[Picture] = []
        for picture in _in_order(readers, lambda read: read(), tasks, 2 * batch_size, skipped):
            batch.append(picture)
            if len(batch) == batch_size:
                yield from zip(batch, find(batch), strict=True)
                batch = []
        if batch:
            yield from zip(batch, find(batch), strict=True)


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Callable[[], Picture]], T],
    tasks: Iterable[Task],
    ahead: int,
    skipped: dict[str, str],
) -> Iterator[T]:
    """Yield work(read) for every task that can be read, with `ahead` of them begun or done."""
    waiting: deque[tuple[str, Future[T]]] = deque()
    rest = iter(tasks)
    try:
        while True:
            while len(waiting) < ahead and (task := next(rest, None)) is not None:
                waiting.append((task[0], pool.submit(work, task[1])))
            if not waiting:
                return
            path, future = waiting.popleft()
            try:
                yield future.result()
            except UnreadableImageError as error:
                skipped[path] = str(error)
    finally:  # after an error or Ctrl-C: do not run what nobody waits for
        for _, future in waiting:
            future.cancel()
