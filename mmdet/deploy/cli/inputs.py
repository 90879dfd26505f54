"""What a user may point at: images, folders, patterns, videos, a camera."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmdet.deploy.cli.video import LoadedImage, Task, video_label
from mmdet.errors import DataError
from mmdet.images import UnreadableImageError, decode_image

NOT_MEDIA = "neither a picture nor a video by its name"
IMAGES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # inside JPEG data: anything but stuffing and restarts


K = TypeVar("K", Path, str | int)


@dataclass
class Inputs:
    """What the user's arguments come to.

    Attributes:
        files: image files as (path, name).
        videos: paths, or numbers of cameras.
        skipped: path -> reason; reading adds to it.
        video_names: of `videos`, as the names of the files.
        num_left_out: images and videos below the folder of the results.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[str | int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    video_names: dict[str | int, str] = field(default_factory=dict)
    num_left_out: int = 0


def find_inputs(arguments: Sequence[str], out: Path | None = None) -> Inputs:
    """Sort images, folders (with all below), patterns, videos and camera numbers; a file counts once.

    In folders and patterns, files whose suffix is neither an image's nor a video's are skipped, and what
    lies below `out`, the folder of the results, is left out if that is below the folder searched.

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
        if is_below and results in path.resolve().parents:
            found.num_left_out += kind in IMAGES + VIDEOS
        elif kind not in IMAGES + VIDEOS:
            found.skipped[str(path)] = NOT_MEDIA
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


def image_tasks(found: Inputs) -> Iterator[Task]:
    """Yield what reads each image file, in order."""
    for path, name in found.files:
        yield str(path), partial(_read_image, path, name)


def _read_image(path: Path, name: str) -> LoadedImage:
    return LoadedImage(read_complete(path), str(path), name)


def read_complete(path: Path) -> np.ndarray:
    """Return the pixels of a file, as `datasets.images.read_image` does, but refuse half a JPEG.

    OpenCV fills what is missing with gray, and a detector then finds nothing there and says so.

    Raises:
        UnreadableImageError: missing, no image, or cut off.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"image {path}: {error.strerror or error}") from None
    return decode_complete(data, f"image {path}")


def decode_complete(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of an encoded image; see `read_complete`."""
    if is_truncated_jpeg(data):
        raise UnreadableImageError(f"{name} is a JPEG cut off before its end")
    return decode_image(np.frombuffer(data, np.uint8), name)


def is_truncated_jpeg(data: bytes) -> bool:
    """Return whether a JPEG lacks its end marker; what follows it (a film, a second image) is ignored."""
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
