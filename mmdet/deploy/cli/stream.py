"""Reading images and finding faces at the same time, with a bounded number of images in memory."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from mmdet.deploy.cli.video import LoadedImage, Task, read_ahead
from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.options import DetectOptions
from mmdet.deploy.runtime.ort_detector import FaceDetector
from mmdet.images import UnreadableImageError
from mmdet.threads import in_order

Result = tuple[LoadedImage, Faces]
T = TypeVar("T")


def detect_stream(
    detector: FaceDetector, tasks: Iterable[Task], skipped: dict[str, str], options: DetectOptions
) -> Iterator[Result]:
    """Yield the images and their faces, in the order of the tasks.

    On the CPU every core takes an image of its own from the file to the faces, and `options.batch_size`
    images are in hand at most. For an accelerator one thread runs a batch while others read the next;
    in both cases what the caller does with a result overlaps with the search.

    Args:
        detector: finds the faces.
        tasks: (path, what reads it).
        skipped: path -> reason; what cannot be read is added.
        options: what to find.
    """

    def find(batch: list[LoadedImage]) -> list[Faces]:
        return detector.find([loaded.image for loaded in batch], options)

    batch_size = 1 if detector.model.takes_single else options.batch_size

    def batches() -> Iterator[Result]:
        with ThreadPoolExecutor(detector.model.num_cores) as readers:
            images = _in_order(readers, lambda read: read(), tasks, batch_size, skipped)
            while batch := list(islice(images, batch_size)):
                yield from zip(batch, find(batch), strict=True)

    def work(read: Callable[[], LoadedImage]) -> Result:
        loaded = read()
        return loaded, find([loaded])[0]

    pool = detector.model.start_pool()
    if pool is not None:
        yield from _in_order(pool, work, tasks, options.batch_size, skipped)
    elif batch_size > 1:
        yield from read_ahead(batches(), batch_size)
    else:  # a camera's frame is wanted now
        yield from batches()


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Callable[[], LoadedImage]], T],
    tasks: Iterable[Task],
    ahead: int,
    skipped: dict[str, str],
) -> Iterator[T]:
    """Yield work(read) for every task that can be read, with `ahead` of them begun or done."""
    for (path, _), future in in_order(pool, lambda task: work(task[1]), tasks, ahead):
        try:
            yield future.result()
        except UnreadableImageError as error:
            skipped[path] = str(error)
