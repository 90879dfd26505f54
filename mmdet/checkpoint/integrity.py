"""Is a checkpoint whole, and is what it states in proportion to its size?

A file of ours ends with a zip comment that holds the SHA-256 of all bytes before it, so that every bit that
changes is noticed; torch itself compares no checksum. Of other zip files the CRC-32 of entries is compared.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from mmdet.errors import CheckpointError

MARK = b"scrfd-trainer sha256 "
COMMENT_BYTES = len(MARK) + 64
END_BYTES = 22  # of a zip file: its last record, without the comment
END_MARK = b"PK\x05\x06"
MAX_VALUES = 1_000_000  # dicts, lists, tensors and plain values in a checkpoint
MAX_DEPTH = 50
CHUNK = 1 << 20


def sign(data: bytearray | memoryview | bytes) -> bytes:
    """Return the bytes of a zip file with its digest as the comment."""
    view = memoryview(data)
    if view[-END_BYTES : -END_BYTES + 4] != END_MARK:
        return bytes(view)  # torch's old format
    body = bytes(view[:-2]) + COMMENT_BYTES.to_bytes(2, "little")
    return body + MARK + hashlib.sha256(body).hexdigest().encode()


def check_file(path: str | Path) -> None:
    """Compare the digest of a file of ours, the checksums of another zip file; other files are not judged.

    Raises:
        CheckpointError: the file is damaged, or states more bytes than it has.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        tail = _read_at(file, max(size - COMMENT_BYTES - END_BYTES, 0), COMMENT_BYTES + END_BYTES)
        if _is_signed(tail):
            if tail[END_BYTES:] != MARK + _digest(file, size - COMMENT_BYTES).encode():
                raise CheckpointError(
                    f"{path} is damaged: its bytes do not have the SHA-256 they were saved with"
                )
        elif _read_at(file, 0, 2) == b"PK":
            _check_zip(file, path, size)


def _is_signed(tail: bytes) -> bool:
    """Say whether a file with this end was signed, even if one bit is wrong or bytes are missing by now."""
    record = tail[tail.rfind(END_MARK) :] if END_MARK in tail else b""
    return MARK in tail or record[END_BYTES - 2 : END_BYTES] == COMMENT_BYTES.to_bytes(2, "little")


def _read_at(file: BinaryIO, position: int, num: int) -> bytes:
    file.seek(position)
    return file.read(num)


def _digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (part := file.read(min(size, CHUNK))):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest()


def _check_zip(file: BinaryIO, path: str | Path, size: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            is_plain = len(set(archive.namelist())) == len(entries)
            if not is_plain or sum(entry.file_size for entry in entries) > size:
                raise CheckpointError(
                    f"{path} is refused: it is packed, or its entries overlap or repeat; torch does neither"
                )
            wrong = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from None
    if wrong is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its entry {wrong} is wrong")


def check_content(content: Any, path: str | Path) -> None:
    """Check that nesting, number of values and sizes of tensors are bounded by what a file can hold.

    A pickle may refer to itself, and a tensor may repeat one number: both take no bytes and endless memory.

    Raises:
        CheckpointError: they are not.
    """
    waiting, num_seen = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        num_seen += 1
        if depth > MAX_DEPTH or num_seen > MAX_VALUES:
            raise CheckpointError(
                f"{path} is refused: it holds more than {MAX_DEPTH} levels or {MAX_VALUES} values"
            )
        if isinstance(value, Mapping):
            waiting.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            waiting.extend((item, depth + 1) for item in value)
        elif isinstance(value, Tensor) and not _is_bounded(value):
            raise CheckpointError(
                f"{path} is refused: a tensor of shape {tuple(value.shape)} repeats its values"
            )


def _is_bounded(tensor: Tensor) -> bool:
    try:
        pairs = zip(tensor.shape, tensor.stride(), strict=True)
        reached = 1 + sum((length - 1) * stride for length, stride in pairs)
        is_stored = tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
        return is_stored and tensor.numel() <= max(reached, 0)
    except (RuntimeError, NotImplementedError):  # sparse or quantised: none that weights are read from
        return False
