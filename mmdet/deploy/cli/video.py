"""Films and cameras: their frames in, and films with drawn frames out."""

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import cv2
import numpy as np

from mmdet.deploy.cli.mp4_times import is_variable, set_times
from mmdet.errors import DataError, WriteError
from mmdet.files import atomic_write
from mmdet.images import UnreadableImageError, read_pages

GIF = (b"GIF87a", b"GIF89a")
SILENT = (".tif", ".tiff", ".webp", ".png", ".avif", ".gif")  # several images, but no film
ANIMATED = (b"acTL", b"ANIM", b"ftypavis")  # near the beginning of a PNG, WebP and AVIF of several images
AHEAD = 4  # frames of a film read before they are wanted
T = TypeVar("T")
DEFAULT_RATE = 25.0  # frames per second, where a film does not state it


class Media(NamedTuple):
    """Something to look at.

    Attributes:
        path: of a file, an address, "-" for standard input, or the number of a camera.
        name: of its results: the path below the folder that the user gave, unique in a run.
    """

    path: str | int
    name: str

    @property
    def label(self) -> str:
        """Return the path, or "camera N"."""
        return f"camera {self.path}" if isinstance(self.path, int) else self.path


@dataclass(frozen=True)
class LoadedImage:
    """One decoded image.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        path: as the user would write it; of the video for its frames.
        name: path below the folder the user gave, unique in a run.
        frame: number in the video, from 0; None for an image file.
        time_s: position in the video.
    """

    image: np.ndarray
    path: str
    name: str
    frame: int | None = None
    time_s: float | None = None


Task: TypeAlias = tuple[str, Callable[[], LoadedImage]]  # a path, and what reads it; in any thread


def video_tasks(source: str | int, max_frames: int = 0, name: str | None = None) -> Iterator[Task]:
    """Yield what hands out each frame of `read_video`; a thread reads a film ahead, a camera is awaited."""
    frames = read_video(source, max_frames, name)
    for loaded in frames if isinstance(source, int) else read_ahead(frames, AHEAD):
        yield loaded.path, lambda loaded=loaded: loaded  # type: ignore[misc]


def read_ahead(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Yield items, none of which is None, while a thread takes the next ones, `ahead` at most."""
    rest = iter(items)
    reader = ThreadPoolExecutor(1, "ahead")
    try:
        waiting = deque(reader.submit(next, rest, None) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, rest, None))
            yield item
    finally:
        reader.shutdown(cancel_futures=True)


def read_video(source: str | int, max_frames: int = 0, name: str | None = None) -> Iterator[LoadedImage]:
    """Yield the frames of a video file or a camera.

    Args:
        source: path, or number of a camera.
        max_frames: stop after so many; 0 for all.
        name: of the frames; None: that of the file.

    Raises:
        UnreadableImageError: it cannot be opened, or gives no frame.
    """
    what = Media(source, "").label
    if isinstance(source, str) and has_frames(source) and not _is_gif(source):  # opened as images only
        for frame, image in enumerate(read_pages(source)[: max_frames or None]):
            yield LoadedImage(image, what, name or Path(what).name, frame, 0.0)
        return
    if not is_utf8(what):
        raise UnreadableImageError(f"{what!r}: OpenCV opens only videos whose name is valid UTF-8; rename it")
    capture = cv2.VideoCapture(source)
    try:
        frame = 0
        while not max_frames or frame < max_frames:
            is_read, image = capture.read()
            if not is_read:
                break
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield LoadedImage(image, what, name or Path(what).name, frame, time_s)
            frame += 1
        if not frame:
            raise UnreadableImageError(
                f"{what}: cannot be opened, or holds no frame that this OpenCV can decode"
            )
    finally:
        capture.release()


def has_frames(path: str | Path) -> bool:
    """Return whether a file of any name holds several images: TIFF pages, or frames of another format."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
        is_counted = head.startswith((*GIF, b"II*\0", b"MM\0*"))
        return cv2.imcount(str(path)) > 1 if is_counted else any(mark in head for mark in ANIMATED)
    except (OSError, cv2.error, UnicodeEncodeError):
        return False


def _is_gif(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(6) in GIF


def video_rate(source: str | int) -> float:
    """Return frames per second as the video or camera states; 25 if it does not."""
    rate = _stated(source, cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else DEFAULT_RATE


def count_frames(source: str | int) -> int:
    """Return the number of frames that a video states; 0 if it cannot be opened or does not state it."""
    is_file = isinstance(source, str) and "://" not in source
    return max(int(_stated(source, cv2.CAP_PROP_FRAME_COUNT)), 0) if is_file else 0


def _stated(source: str | int, key: int) -> float:
    """Return a property of a video or camera; 0 if it cannot be opened."""
    if not is_utf8(str(source)):
        return 0.0
    capture = cv2.VideoCapture(source)
    try:
        return capture.get(key)
    finally:
        capture.release()


def is_utf8(name: str) -> bool:
    """Return whether a file name can be encoded; OpenCV 5 ends the process on a video's that cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def write_video(
    path: Path, rate: float, size_wh: tuple[int, int], **options: bool
) -> Iterator[Callable[..., None]]:
    """Yield a function that adds a frame, (H, W, 3) uint8 BGR, and its time, to an .mp4; named at the end.

    Args:
        path: the file.
        rate: frames per second, where the times are not given, or are at this rate.
        size_wh: of every frame; an odd side is made one pixel longer, since films have none.
        options: of `atomic_write`.

    Raises:
        DataError: this OpenCV cannot write such a file.
        WriteError: the folder is missing, or the disk was full: OpenCV does not say so, so the file is
            opened again and its frames are counted.
    """
    if not is_utf8(str(path)):
        raise DataError(f"{str(path)!r}: a video's name must be valid UTF-8; rename the folder")
    times: list[float | None] = []
    odd = [side % 2 for side in size_wh]  # OpenCV would cut the last column or row off

    def add(frame: np.ndarray, time_s: float | None = None) -> None:
        height, width = frame.shape[:2]  # pages may differ
        frame = frame if (width, height) == size_wh else cv2.resize(frame, size_wh)
        even = cv2.copyMakeBorder(frame, 0, odd[1], 0, odd[0], cv2.BORDER_REPLICATE) if any(odd) else frame
        writer.write(even)
        times.append(time_s)

    with atomic_write(path, **options) as part:
        os.stat(part.parent)  # OpenCV does not say that there is no such folder
        writer = cv2.VideoWriter(
            str(part), cv2.VideoWriter_fourcc(*"mp4v"), rate, np.add(size_wh, odd).tolist()
        )
        if not writer.isOpened():
            raise DataError(f"{path}: this OpenCV cannot write it; give a name that ends in .mp4")
        try:
            yield add
        finally:
            writer.release()
        if count_frames(str(part)) < len(times):
            raise WriteError(f"{path} cannot be written: not all of {len(times)} frames; is the disk full?")
        if None not in times and is_variable(times, rate):  # type: ignore[arg-type]
            set_times(part, times)  # type: ignore[arg-type]


def add_sound(film: Path, source: str | int | None) -> str:
    """Give a drawn film the sound of its source, if that has any.

    The film stays as it is unless a complete one takes its place.

    Returns:
        Why that was not possible; "" if it was, or if the source is no film.
    """
    if isinstance(source, int | None) or "://" in source or not film.is_file():
        return ""
    if Path(source).suffix.lower() in SILENT or has_frames(source):
        return ""
    program = shutil.which("ffmpeg")
    if program is None:
        return "films are drawn without sound: ffmpeg is not on the PATH"
    length_s = count_frames(str(film)) / video_rate(str(film))
    command = [program, "-v", "error", "-nostdin", "-y", "-i", f"file:{film}", "-i", f"file:{source}"]
    command += ["-map", "0:v", "-map", "1:a?", "-c:v", "copy", "-c:a", "aac", "-t", f"{length_s:.3f}"]
    try:
        with atomic_write(film) as part:
            subprocess.run(
                [*command, f"file:{part}"], check=True, capture_output=True, stdin=subprocess.DEVNULL
            )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.decode(errors="replace").strip().splitlines() or [str(error)])[-1]
        return f"{film} has no sound: ffmpeg: {reason}"
    return ""
