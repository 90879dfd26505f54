"""Files are written whole or not at all; and where a tool may write is checked before it starts.

with atomic_write(path) as part: ...       # any writer that takes a file name
write_bytes(path, data), write_text(path, text), write_json(path, values)
check_outputs(outputs, inputs, overwrite)  # before any work
inside(folder, name)                       # for names that come from a file
"""

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmdet.errors import ConfigError, DataError, WriteError

Buffer = bytes | bytearray | memoryview
MAX_STEM = 60  # characters of a name that its temporary name repeats; 4 bytes each still make a legal name


@contextmanager
def atomic_write(
    path: str | Path,
    *,
    parents: bool = False,
    durable: bool = True,
    is_shared: bool = False,
    keep_part: bool = False,
) -> Iterator[Path]:
    """Yield a temporary file name in the same folder; after the block it gets the name `path` in one step.

    If the block fails, the temporary file is removed and an older file of the name is untouched. A device
    or a pipe (/dev/stdout) is written directly.

    Args:
        path: a symbolic link is replaced, not followed.
        parents: make its folder.
        durable: on return the file is on the disk and survives a power cut.
        is_shared: several processes may write this file at once.
        keep_part: the temporary name is STEM.part.SUFFIX, and it stays if anything but a failure to write
            ends the block: what a long run that was interrupted has got so far.

    Raises:
        WriteError: the disk is full, the folder is missing, `path` is a folder, no permission, ...
    """
    path = Path(path)
    if path.parent == Path("/dev") or (path.exists() and not path.is_file() and not path.is_dir()):
        yield path
        return
    mark = f"{os.getpid()}.tmp" if is_shared else "tmp"
    part = path.with_name(
        f"{path.stem}.part{path.suffix}" if keep_part else f".{path.stem[:MAX_STEM]}.{mark}{path.suffix}"
    )
    is_kept = False
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # of a process that was killed
        yield part
        if durable:
            _sync(part)
        os.replace(part, path)
        if durable:
            _sync(path.parent)
    except BrokenPipeError:  # of a stream written beside this file
        raise
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error
    except WriteError:  # of another file, in the block
        raise
    except BaseException:
        is_kept = keep_part
        raise
    finally:
        if not is_kept:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: Buffer, **options: bool) -> None:
    """Write a file in one step; `options` and errors as in `atomic_write`."""
    with atomic_write(path, **options) as part, open(part, "wb") as file:
        file.write(data)


def write_text(path: str | Path, text: str, **options: bool) -> None:
    """Write UTF-8 text in one step; bytes of a file name that are no UTF-8 are written as they were."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), **options)


def write_json(path: str | Path, values: Mapping[str, Any], **options: bool) -> None:
    """Write plain values as JSON in one step, NaN as null; see `write_bytes`."""
    write_text(path, json.dumps(without_nan(values), indent=2) + "\n", **options)


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with None for numbers JSON does not know."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def inside(folder: str | Path, name: str | Path) -> Path:
    """Return folder / name if that lies in the folder, symbolic links followed.

    Args:
        folder: need not exist.
        name: a relative path that comes from a file or from another program.

    Raises:
        DataError: it is absolute, or leads out of the folder.
    """
    path = Path(folder) / name
    try:
        is_inside = Path(folder).resolve() in path.resolve().parents
    except (ValueError, RuntimeError, OSError):  # a NUL in the name, a circle of links
        is_inside = False
    if not is_inside:
        raise DataError(f"{str(name)!r} leads out of the folder {folder}; nothing is written there")
    return path


def check_outputs(
    outputs: Iterable[str | Path], inputs: Iterable[str | Path] = (), overwrite: bool = False
) -> None:
    """Refuse, before any work, to write over an input, or over any file unless asked to.

    Args:
        outputs: files that will be written.
        inputs: files that are read; none of them is written, under whatever name or link, whatever is asked.
        overwrite: the user's --overwrite.

    Raises:
        ConfigError: an output is an input, is a folder, or exists and `overwrite` is False.
    """
    known = {key: path for path in inputs if (key := file_key(path)) is not None}
    for path in outputs:
        key = file_key(path)
        if key in known:
            raise ConfigError(f"{path} would overwrite the input {known[key]}; give another name")
        if os.path.isdir(path):
            raise ConfigError(f"{path} is a folder; give the name of a file")
        if os.path.isfile(path) and not overwrite:
            raise ConfigError(f"{path} exists; give another name, or --overwrite to replace it")


def recognise(path: str | Path) -> str:
    """Return what a file is instead of what was asked for, in words: "is a web page, ..."; "" if unknown."""
    try:
        with open(path, "rb") as file:
            return recognise_bytes(file.read(256))
    except OSError:
        return ""


def recognise_bytes(data: bytes) -> str:
    """Return what `recognise` does of a file's first bytes."""
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not the file: the download failed; open its address in a browser"
    if head.startswith(b"version ") and b"git-lfs" in head:
        return "is a Git LFS pointer, not the file: fetch it with `git lfs pull`"
    return ""


def file_key(path: str | Path) -> tuple[int, int] | None:
    """Return what identifies a file under all its names; None if it does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
