"""What a user may point at: pictures, folders, patterns, videos, a camera."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from mmdet.datasets.images import UnreadableImageError, decode_image
from mmdet.errors import DataError

IMAGES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # inside JPEG data: anything but stuffing and restarts


@dataclass(frozen=True)
class Picture:
    """One decoded picture.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        path: as the user would write it; of the video for its frames.
        name: path below the folder the user gave, unique in a run.
        frame: number in the video, from 0; None for a picture file.
        time_s: position in the video.
    """

    image: np.ndarray
    path: str
    name: str
    frame: int | None = None
    time_s: float | None = None


Task: TypeAlias = tuple[str, Callable[[], Picture]]  # a path, and what reads it; in any thread


@dataclass
class Inputs:
    """What the user's arguments come to.

    Attributes:
        files: picture files as (path, name).
        videos: paths, or numbers of cameras.
        skipped: path -> reason; reading adds to it.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[str | int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def find_inputs(arguments: Sequence[str]) -> Inputs:
    """Sort pictures, folders (with all below), patterns, videos and camera numbers.

    In folders and patterns, files whose suffix is neither a picture's nor a video's are skipped.

    Raises:
        DataError: something does not exist, or nothing is left.
    """
    found = Inputs()
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            _add(found, sorted(file for file in path.rglob("*") if file.is_file()), path)
        elif path.is_file():
            if path.suffix.lower() in VIDEOS:
                found.videos.append(argument)
            else:
                found.files.append((path, path.name))
        elif argument.isdigit():
            found.videos.append(int(argument))
        elif glob.has_magic(argument):
            root = Path(os.path.dirname(re.split(r"[*?\[]", argument)[0]))
            _add(
                found,
                [Path(p) for p in sorted(glob.glob(argument, recursive=True)) if Path(p).is_file()],
                root,
            )
        else:
            raise DataError(f"{argument}: no such file or folder")
    if not found.files and not found.videos:
        hint = f"; {len(found.skipped)} other files there" if found.skipped else ""
        raise DataError(
            f"{' '.join(arguments)}: no picture and no video ({', '.join(IMAGES[:5])}, ...){hint}"
        )
    _make_names_unique(found)
    return found


def _add(found: Inputs, paths: Sequence[Path], root: Path) -> None:
    for path in paths:
        if path.suffix.lower() in IMAGES:
            found.files.append((path, os.path.relpath(path, root)))
        elif path.suffix.lower() in VIDEOS:
            found.videos.append(str(path))
        else:
            found.skipped[str(path)] = "neither a picture nor a video by its name"


def _make_names_unique(found: Inputs) -> None:
    """Name files from their common folder if two folders hold the same names; drop files given twice."""
    found.files = list(dict.fromkeys(found.files))
    if len({name for _, name in found.files}) < len(found.files):
        common = os.path.commonpath([path.resolve().parent for path, _ in found.files])
        found.files = [(path, os.path.relpath(path.resolve(), common)) for path, _ in found.files]


def picture_tasks(found: Inputs) -> Iterator[Task]:
    """Yield what reads each picture file, in order."""
    for path, name in found.files:
        yield str(path), partial(_read_picture, path, name)


def video_tasks(source: str | int, max_frames: int = 0) -> Iterator[Task]:
    """Yield what hands out each frame; the frames are read here, one after the other. See `read_video`."""
    for picture in read_video(source, max_frames):
        yield picture.path, partial(_same, picture)


def _read_picture(path: Path, name: str) -> Picture:
    return Picture(read_complete(path), str(path), name)


def _same(picture: Picture) -> Picture:
    return picture


def read_complete(path: Path) -> np.ndarray:
    """Return the pixels of a file, as `datasets.images.read_image` does, but refuse half a JPEG.

    OpenCV fills what is missing with gray, and a detector then finds nothing there and says so.

    Raises:
        UnreadableImageError: missing, no picture, or cut off.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"image {path}: {error.strerror or error}") from None
    return decode_complete(data, f"image {path}")


def decode_complete(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of an encoded picture; see `read_complete`."""
    if is_truncated_jpeg(data):
        raise UnreadableImageError(f"{name} is a JPEG cut off before its end")
    return decode_image(np.frombuffer(data, np.uint8), name)


def is_truncated_jpeg(data: bytes) -> bool:
    """Return whether a JPEG lacks its end marker; what follows it (a film, a second picture) is ignored."""
    if data[:2] != b"\xff\xd8" or data[-2:] == b"\xff\xd9":
        return False
    position, in_scan = 2, False
    while True:
        if in_scan:
            match = _MARKER.search(data, position)
            if match is None:
                return True
            position = match.start()
        marker = data[position + 1 : position + 2]
        if data[position : position + 1] != b"\xff" or len(data) < position + 4:
            return data[position : position + 2] != b"\xff\xd9"
        if marker == b"\xff":  # filler
            position += 1
        elif marker == b"\xd9":
            return False
        else:
            in_scan = in_scan or marker == b"\xda"
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def read_video(source: str | int, max_frames: int = 0) -> Iterator[Picture]:
    """Yield the frames of a video file or a camera.

    Args:
        source: path, or number of a camera.
        max_frames: stop after so many; 0 for all.

    Raises:
        UnreadableImageError: it cannot be opened, or gives no frame.
    """
    what = f"camera {source}" if isinstance(source, int) else str(source)
    capture = cv2.VideoCapture(source)
    try:
        frame = 0
        while not max_frames or frame < max_frames:
            is_read, image = capture.read()
            if not is_read:
                break
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield Picture(image, what, Path(what).name, frame, time_s)
            frame += 1
        if not frame:
            raise UnreadableImageError(
                f"{what}: cannot be opened, or holds no frame that this OpenCV can decode"
            )
    finally:
        capture.release()


def video_rate(source: str | int) -> float:
    """Return frames per second as the video or camera states; 25 if it does not."""
    capture = cv2.VideoCapture(source)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    return rate if 0 < rate < 1000 else 25.0
