"""What a user may point at: images, folders, patterns, videos, a camera."""

import glob
import http.client
import os
import re
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import numpy as np

from mmdet.deploy.cli.video import LoadedImage, Task, has_frames, video_label
from mmdet.errors import DataError
from mmdet.files import file_key
from mmdet.images import UnreadableImageError, decode_image

NOT_MEDIA = "neither a picture nor a video by its name"
IMAGES = (
    *(".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".jfif", ".avif", ".heic", ".heif", ".ppm", ".pgm", ".pnm", ".jp2"),
)
VIDEOS = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".flv", ".wmv", ".3gp", ".ogv"),
)
LISTS = (".txt", ".lst")  # files that name inputs, one a line
STDIN = "-"
CAMERA_DIGITS = 4
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
LARGEST_DOWNLOAD = 256 << 20  # bytes
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
        remarks: what reading finds strange.
        addresses: of `files` that are fetched.
        num_left_out: images and videos below the folder of the results.
    """

    files: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[str | int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    video_names: dict[str | int, str] = field(default_factory=dict)
    num_left_out: int = 0
    remarks: list[str] = field(default_factory=list)
    addresses: dict[Path, str] = field(default_factory=dict)


def find_inputs(arguments: Sequence[str], out: Path | None = None) -> Inputs:
    """Sort images, folders (with all below), patterns, videos, camera numbers, addresses; a file counts once.

    "-" is an image on standard input, a .txt or .lst file names inputs, one a line.

    In folders and patterns, files whose suffix is neither an image's nor a video's are skipped, and what
    lies below `out`, the folder of the results, is left out if that is below the folder searched.

    Raises:
        DataError: something does not exist, or nothing is left.
    """
    found = Inputs()
    names: list[tuple[str | int, str]] = []  # of the videos
    for argument in _expand_lists(arguments):
        path = Path(argument)
        if argument == STDIN:
            found.files.append((path, "stdin"))
        elif ADDRESS.match(argument):
            _add_address(found, names, argument)
        elif not argument:  # of a shell variable that is not set; as a path it is this folder
            raise DataError("an input is empty; give . for this folder")
        elif path.is_dir():
            _add(found, names, _walk(path, found.skipped), path, out)
        elif path.is_file():
            if path.suffix.lower() in VIDEOS or has_frames(path):
                names.append((argument, path.name))
            else:
                found.files.append((path, path.name))
        elif argument.isascii() and argument.isdigit() and len(argument) <= CAMERA_DIGITS:
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


def _expand_lists(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments with ~ spelled out; for a list file what its lines name, beside it or from here."""
    for argument in arguments:
        path = Path(os.path.expanduser(argument))
        if path.suffix.lower() not in LISTS or not path.is_file():
            yield argument if ADDRESS.match(argument) else os.path.expanduser(argument)
            continue
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        for line in map(str.strip, text.splitlines()):
            if line and not line.startswith("#"):
                beside = path.parent / line
                yield str(beside) if beside.exists() else os.path.expanduser(line)


def _add_address(found: Inputs, names: list[tuple[str | int, str]], address: str) -> None:
    """Add a picture to be fetched, or a film or a stream that OpenCV opens itself."""
    try:
        url = urlsplit(address)
    except ValueError as error:
        raise DataError(f"{address}: {error}") from None
    name = Path(url.path).name or url.hostname or "stream"  # without a password in the address
    if url.scheme in ("http", "https") and Path(url.path).suffix.lower() not in (*VIDEOS, ".m3u8"):
        found.files.append((Path(address), name))
        found.addresses[Path(address)] = address  # a path has lost a slash
    else:
        names.append((address, name))


def _walk(folder: Path, skipped: dict[str, str]) -> list[Path]:
    """Return the files below a folder, also behind links, each folder once; broken links are skipped."""
    files: list[Path] = []
    seen: set[object] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        key = file_key(root)
        if key in seen:
            folders.clear()
            continue
        seen.add(key)
        folders.sort()
        for path in (Path(root) / name for name in names):
            if path.is_file():
                files.append(path)
            elif path.is_symlink():
                skipped[str(path)] = f"a link to {os.readlink(path)}, which is not there"
    return sorted(files)


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
        elif kind in IMAGES and not has_frames(path):
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
        source = found.addresses.get(path, str(path))
        yield source, partial(_read_image, source, name)


def _read_image(source: str, name: str) -> LoadedImage:
    if source == STDIN:
        return LoadedImage(
            decode_complete(sys.stdin.buffer.read(), "the image on standard input"), source, name
        )
    if ADDRESS.match(source):
        return LoadedImage(decode_complete(_fetch(source), f"image {source}"), source, name)
    return LoadedImage(read_complete(Path(source)), source, name)


def _fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            data = answer.read(LARGEST_DOWNLOAD + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreadableImageError(f"image {address}: {error}") from None
    if len(data) > LARGEST_DOWNLOAD:
        raise UnreadableImageError(f"image {address}: more than {LARGEST_DOWNLOAD >> 20} MiB")
    return data


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
