"""Checkpoints: written so that no crash leaves half a file, read without running anybody's code.

A checkpoint is a dict of tensors and plain values, `{"meta": ..., "state_dict": ..., ...}` as mmdet
writes it; a bare state_dict is read too.
"""

import io
import logging
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmdet.errors import CheckpointError

logger = logging.getLogger("mmdet")

SHOWN = 4  # keys named in a message; the rest is counted


class LoadReport(NamedTuple):
    """How a checkpoint fitted a model: keys only the model has, only the file has, of other shapes."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    def describe(self) -> str:
        """Return "3 keys missing: a, b, c; 1 unexpected: d", or "" for a perfect fit."""
        parts = zip(("missing", "unexpected", "of another shape"), self, strict=True)
        return "; ".join(f"{len(keys)} {what}: {_shorten(keys)}" for what, keys in parts if keys)


def save(path: str | Path, obj: Mapping) -> None:
    """Write a checkpoint; on return it is on the disk, and at no moment is `path` half a file.

    Args:
        path: its folder must exist. A file of this name is replaced at the very end.
        obj: dict of tensors and plain values.

    Raises:
        CheckpointError: the folder is missing or not writable, or the disk is full. An older file of
            the same name is untouched.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        _write_through(unfinished, buffer.getbuffer())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error}. Checkpoints saved before are untouched; "
            "free space or choose another --work-dir, then resume."
        ) from error


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
    try:
        with _numpy_numbers_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file may make the parser raise anything
        raise CheckpointError(f"{path} {why_unreadable(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict with a state_dict")
    return content


def load_weights(model: nn.Module, source: str | Path | Mapping, strict: bool = True) -> LoadReport:
    """Copy weights into a model.

    Args:
        model: on any device, in any precision; the values are cast.
        source: a file, or a loaded checkpoint: {"state_dict": ...} or the state_dict itself. A leading
            "module." (DataParallel) is dropped.
        strict: every key must fit; else what fits is loaded and the rest is logged as a warning.

    Returns:
        What did not fit; empty if strict.

    Raises:
        CheckpointError: cannot be read; does not fit (strict); or nothing fits at all.
    """
    name = str(source) if isinstance(source, (str, Path)) else "the checkpoint"
    content = load(source) if isinstance(source, (str, Path)) else source
    weights = find_state_dict(content, name)
    own = model.state_dict()
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    report = LoadReport(
        missing=tuple(k for k in own if k not in weights and not k.endswith("num_batches_tracked")),
        unexpected=tuple(k for k in weights if k not in own),
        mismatched=tuple(
            f"{key} {tuple(value.shape)} (model: {tuple(own[key].shape)})"
            for key, value in weights.items()
            if key in own and own[key].shape != value.shape
        ),
    )
    if (strict and report.describe()) or not fitting:
        raise CheckpointError(f"{name} is not of this model: {report.describe()}. Is it of another config?")
    model.load_state_dict(fitting, strict=False)
    if report.describe():
        logger.warning("%s: %d of %d keys loaded; %s", name, len(fitting), len(own), report.describe())
    return report


def find_state_dict(content: Mapping, name: str = "the checkpoint") -> dict[str, Tensor]:
    """Return the weights of a loaded checkpoint, without a leading "module." in the keys."""
    weights = content.get("state_dict", content)
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise CheckpointError(f"{name} has no state_dict (its keys: {_shorten(tuple(map(str, content)))})")
    return {key.removeprefix("module."): value for key, value in weights.items()}


def _write_through(path: Path, content: memoryview) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _numpy_numbers_allowed() -> AbstractContextManager:
    """Let mmdet's meta hold numpy scalars (a best score): data, not code. Needs torch >= 2.5."""
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return torch.serialization.safe_globals([*((scalar, name) for name in names), np.dtype, *kinds])


def _shorten(keys: tuple[str, ...]) -> str:
    more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


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
