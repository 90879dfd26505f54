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
from urllib.parse import urlsplit

import numpy as np

from mmdet.deploy.cli.video import LoadedImage, Media, Task, has_frames
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
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of JPEG: anything but stuffing, filler and restarts


@dataclass
class Inputs:
    """What the user's arguments come to.

    Attributes:
        files: images.
        videos: films and cameras.
        skipped: path -> reason; reading adds to it.
        num_left_out: images and videos below the folder of the results.
        remarks: what is strange about them; reading adds to it.
    """

    files: list[Media] = field(default_factory=list)
    videos: list[Media] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    num_left_out: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, path: Path, name: str) -> None:
        """Sort in a file."""
        is_film = path.suffix.lower() in VIDEOS or has_frames(path)
        (self.videos if is_film else self.files).append(Media(str(path), name))

    def reasons(self) -> list[str]:
        """Return why files were skipped, those last that nobody takes for images."""
        ordered = sorted(self.skipped.items(), key=lambda item: item[1] == NOT_MEDIA)
        return [why if path in why else f"{path}: {why}" for path, why in ordered]


def find_inputs(arguments: Sequence[str], out: Path | None = None) -> Inputs:
    """Sort images, folders (with all below), patterns, videos, camera numbers, addresses; a file counts once.

    "-" is an image on standard input, a .txt or .lst file names inputs, one a line.

    In folders and patterns, files whose suffix is neither an image's nor a video's are skipped, and what
    lies below `out`, the folder of the results, is left out if that is below the folder searched.

    Raises:
        DataError: something does not exist, or nothing is left.
    """
    found = Inputs()
    for argument in _expand_lists(arguments):
        path = Path(argument)
        if argument == STDIN:
            found.files.append(Media(STDIN, "stdin"))
        elif ADDRESS.match(argument):
            _add_address(found, argument)
        elif not argument:  # of a shell variable that is not set; as a path it is this folder
            raise DataError("an input is empty; give . for this folder")
        elif path.is_dir():
            _add(found, _walk(path, found.skipped), path, out)
        elif path.is_file():
            found.add(path, path.name)
        elif argument.isascii() and argument.isdigit() and len(argument) <= CAMERA_DIGITS:
            found.videos.append(Media(int(argument), f"camera {int(argument)}"))
        elif glob.has_magic(argument):
            root = Path(os.path.dirname(re.split(r"[*?\[]", argument)[0]))
            paths = [Path(p) for p in sorted(glob.glob(argument, recursive=True)) if Path(p).is_file()]
            _add(found, paths, root, out)
        else:
            raise DataError(f"{argument}: no such file or folder")
    if not found.files and not found.videos:
        hint = f"; {len(found.skipped)} other files there" if found.skipped else ""
        hint += f"; {found.num_left_out} below {out} are left out" if found.num_left_out else ""
        raise DataError(
            f"{' '.join(arguments)}: no picture and no video ({', '.join(IMAGES[:5])}, ...){hint}"
        )
    if found.num_left_out:
        found.remarks.append(f"left out {found.num_left_out} below {out}, the folder of the results")
    found.files = _make_names_unique(found.files)
    found.videos = _make_names_unique(found.videos)
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


def _add_address(found: Inputs, address: str) -> None:
    """Add a picture to be fetched, or a film or a stream that OpenCV opens itself."""
    try:
        url = urlsplit(address)
    except ValueError as error:
        raise DataError(f"{address}: {error}") from None
    name = Path(url.path).name or url.hostname or "stream"  # without a password in the address
    is_file = url.scheme in ("http", "https") and Path(url.path).suffix.lower() not in (*VIDEOS, ".m3u8")
    (found.files if is_file else found.videos).append(Media(address, name))


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


def _add(found: Inputs, paths: Sequence[Path], root: Path, out: Path | None) -> None:
    results = None if out is None else out.resolve()
    is_below = results is not None and root.resolve() in results.parents
    for path in paths:
        is_media = path.suffix.lower() in IMAGES + VIDEOS
        if is_below and results in path.resolve().parents:
            found.num_left_out += is_media
        elif not is_media:
            found.skipped[str(path)] = NOT_MEDIA
        else:
            found.add(path, os.path.relpath(path, root))


def _make_names_unique(sources: Sequence[Media]) -> list[Media]:
    """Name files from their common folder if two folders hold the same names; drop files given twice."""
    unique: dict[int | Path, Media] = {}
    for source in sources:
        unique.setdefault(
            source.path if isinstance(source.path, int) else Path(source.path).resolve(), source
        )
    if len({source.name for source in unique.values()}) < len(unique):
        common = os.path.commonpath([path.parent for path in unique if isinstance(path, Path)])
        for path, source in unique.items():
            if isinstance(path, Path):
                unique[path] = Media(source.path, os.path.relpath(path, common))
    return list(unique.values())


def image_tasks(found: Inputs) -> Iterator[Task]:
    """Yield what reads each image file, in order."""
    for source in found.files:
        yield source.label, partial(_read_image, source)


def _read_image(source: Media) -> LoadedImage:
    path = source.label
    if path == STDIN:
        image = decode_complete(sys.stdin.buffer.read(), "the image on standard input")
    elif ADDRESS.match(path):
        image = decode_complete(_fetch(path), f"image {path}")
    else:
        image = read_complete(path)
    return LoadedImage(image, path, source.name)


def _fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            data = answer.read(LARGEST_DOWNLOAD + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreadableImageError(f"image {address}: {error}") from None
    if len(data) > LARGEST_DOWNLOAD:
        raise UnreadableImageError(f"image {address}: more than {LARGEST_DOWNLOAD >> 20} MiB")
    return data


def read_complete(path: str | Path) -> np.ndarray:
    """Return the pixels of a file, as `mmdet.images.read_image` does, but refuse half a JPEG.

    OpenCV fills what is missing with gray, and a detector then finds nothing there and says so.

    Raises:
        UnreadableImageError: missing, no image, or cut off.
    """
    try:
        data = Path(path).read_bytes()
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
    position = 2
    while (marker := _MARKER.search(data, position)) is not None and marker[0] != b"\xff\xd9":
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return marker is None
