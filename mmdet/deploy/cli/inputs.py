"""What a user may point at: pictures, folders, patterns, videos, a camera."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import cv2
import numpy as np

from mmdet.errors import DataError
from mmdet.images import UnreadableImageError, decode_image

DRAWN = b"faces drawn by tools/scrfd.py"  # inside the pictures and videos that it draws
NOT_MEDIA = "neither a picture nor a video by its name"
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


K = TypeVar("K", Path, str | int)
Task: TypeAlias = tuple[str, Callable[[], Picture]]  # a path, and what reads it; in any thread


@dataclass
class Inputs:
    """What the user's arguments come to.

    Attributes:
        files: picture files as (path, name).
        videos: paths, or numbers of cameras.
        skipped: path -> reason; reading adds to it.
        video_names: of `videos`, as the names of the files.
        num_left_out: pictures and videos below the folder of the results.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[str | int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    video_names: dict[str | int, str] = field(default_factory=dict)
    num_left_out: int = 0


def find_inputs(arguments: Sequence[str], out: Path | None = None) -> Inputs:
    """Sort pictures, folders (with all below), patterns, videos and camera numbers; a file counts once.

    In folders and patterns, files whose suffix is neither a picture's nor a video's are skipped, and what
    lies below `out`, the folder of the results, is left out: if that is, or is above, the folder searched,
    only what an earlier run has drawn there.

    Raises:
        DataError: something does not exist, or nothing is left.
    """
    found = Inputs()
    names: list[tuple[str | int, str]] = []  # of the videos
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            paths, root = sorted(file for file in path.rglob("*") if file.is_file()), path
            _add(found, names, paths, root, out)
        elif path.is_file():
            if path.suffix.lower() in VIDEOS:
                names.append((argument, path.name))
            else:
                found.files.append((path, path.name))
        elif argument.isascii() and argument.isdigit():
            names.append((int(argument), video_label(int(argument))))
        elif glob.has_magic(argument):
            root = Path(os.path.dirname(re.split(r"[*?\[]", argument)[0]))
            paths = [Path(p) for p in sorted(glob.glob(argument, recursive=True)) if Path(p).is_file()]
            _add(found, names, paths, root, out)
        else:
            raise DataError(f"{argument}: no such file or folder")
    if not found.files and not names:
        hint = f"; {len(found.skipped)} other files there" if found.skipped else ""
        hint += f"; {found.num_left_out} below {out} are left out" if found.num_left_out else ""
        raise DataError(
            f"{' '.join(arguments)}: no picture and no video ({', '.join(IMAGES[:5])}, ...){hint}"
        )
    found.files = _make_names_unique(found.files)
    found.video_names = dict(_make_names_unique(names))
    found.videos = list(found.video_names)
    return found


def _add(
    found: Inputs, names: list[tuple[str | int, str]], paths: Sequence[Path], root: Path, out: Path | None
) -> None:
    results = None if out is None else out.resolve()
    is_below = results is not None and root.resolve() in results.parents
    for path in paths:
        kind = path.suffix.lower()
        if kind not in IMAGES + VIDEOS:
            if not is_below or results not in path.resolve().parents:
                found.skipped[str(path)] = NOT_MEDIA
        elif results is not None and results in path.resolve().parents and (is_below or is_drawn(path)):
            found.num_left_out += 1
        elif kind in IMAGES:
            found.files.append((path, os.path.relpath(path, root)))
        else:
            names.append((str(path), os.path.relpath(path, root)))


def _make_names_unique(files: list[tuple[K, str]]) -> list[tuple[K, str]]:
    """Name files from their common folder if two folders hold the same names; drop files given twice."""
    unique: dict[object, tuple[K, str]] = {}
    for file, name in files:
        unique.setdefault(file if isinstance(file, int) else Path(file).resolve(), (file, name))
    kept = list(unique.values())
    if len({name for _, name in kept}) < len(kept):
        common = os.path.commonpath([path.parent for path in unique if isinstance(path, Path)])
        kept = [
            (file, os.path.relpath(path, common) if isinstance(path, Path) else name)
            for path, (file, name) in unique.items()
        ]
    return kept


def is_drawn(path: Path) -> bool:
    """Return whether a picture or a video was drawn by an earlier run."""
    try:
        with path.open("rb") as file:
            if DRAWN in file.read(128):
                return True
            file.seek(-min(128, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return DRAWN in file.read()
    except OSError:
        return False


def video_label(source: str | int) -> str:
    """Return the path of a video, or "camera N"."""
    return f"camera {source}" if isinstance(source, int) else source


def picture_tasks(found: Inputs) -> Iterator[Task]:
    """Yield what reads each picture file, in order."""
    for path, name in found.files:
        yield str(path), partial(_read_picture, path, name)


def video_tasks(source: str | int, max_frames: int = 0, name: str | None = None) -> Iterator[Task]:
    """Yield what hands out each frame; the frames are read here, one after the other. See `read_video`."""
    for picture in read_video(source, max_frames, name):
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


def read_video(source: str | int, max_frames: int = 0, name: str | None = None) -> Iterator[Picture]:
    """Yield the frames of a video file or a camera.

    Args:
        source: path, or number of a camera.
        max_frames: stop after so many; 0 for all.
        name: of the frames; None: that of the file.

    Raises:
        UnreadableImageError: it cannot be opened, or gives no frame.
    """
    what = video_label(source)
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
            yield Picture(image, what, name or Path(what).name, frame, time_s)
            frame += 1
        if not frame:
            raise UnreadableImageError(
                f"{what}: cannot be opened, or holds no frame that this OpenCV can decode"
            )
    finally:
        capture.release()


def video_rate(source: str | int) -> float:
    """Return frames per second as the video or camera states; 25 if it does not."""
    if not is_utf8(str(source)):
        return 25.0
    capture = cv2.VideoCapture(source)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    return rate if 0 < rate < 1000 else 25.0


def is_utf8(name: str) -> bool:
    """Return whether a file name can be encoded; OpenCV 5 ends the process on a video's that cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
