"""Checkpoints: written so that no crash leaves half a file, read without running anybody's code.

A checkpoint is a dict of tensors and plain values, `{"meta": ..., "state_dict": ..., ...}` as mmdet
writes it; a bare state_dict is read too.
"""

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdet.checkpoint.integrity import check_content, check_file, sign
from mmdet.errors import CheckpointError, WriteError
from mmdet.files import recognise, write_bytes


def save(path: str | Path, obj: Mapping) -> None:
    """Write a checkpoint; on return it is on the disk, and at no moment is `path` half a file.

    Args:
        path: its folder must exist. A file of this name is replaced at the very end.
        obj: dict of tensors and plain values.

    Raises:
        CheckpointError: the folder is missing or not writable, or the disk is full. An older file of
            the same name is untouched.
    """
    try:
        write_bytes(path, _to_bytes(obj))
    except WriteError as error:
        raise CheckpointError(
            f"{error}. Checkpoints saved before are untouched; free space or choose another --work-dir, then "
            "resume."
        ) from error


def pack_weights(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint {"meta", "state_dict"}.

    A part of a larger storage (a flat buffer of all weights) is copied, else all of it would be saved.
    """
    copies = {
        key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()
    }
    return _to_bytes({"meta": dict(meta), "state_dict": copies})


def _to_bytes(obj: Mapping) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return sign(buffer.getbuffer())


def load(path: str | Path) -> dict:
    """Read a checkpoint to the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, holds pickled code (it is not run), or is not a dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(
            f"{path} is an ONNX file, not a checkpoint; tools/convert_weights.py makes a checkpoint of it"
        )
    if other := recognise(path):
        raise CheckpointError(f"{path} {other}")
    try:
        check_file(path)
        with _numpy_numbers_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile file may make the parser raise anything
        raise CheckpointError(f"{path} {why_unreadable(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict with a state_dict")
    check_content(content, path)
    return content


def _numpy_numbers_allowed() -> AbstractContextManager:
    """Let mmdet's meta hold numpy scalars (a best score): data, not code. Needs torch >= 2.5."""
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return torch.serialization.safe_globals([*((scalar, name) for name in names), np.dtype, *kinds])


def why_unreadable(error: Exception) -> str:
    """Return the rest of a message "<file> ..." without torch's advice to load it unsafely."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    code = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    if code:
        return (
            f"is refused: it holds pickled code ({code[1]}), which may do anything when it is loaded. "
            "tools/convert_weights.py takes the weights out without running it."
        )
    reason = str(error).rsplit("WeightsUnpickler error:", 1)[-1].strip().splitlines()[:1]
    return f"is damaged or not a checkpoint: {type(error).__name__} {' '.join(reason)}"
