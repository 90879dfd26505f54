"""Open an ONNX file as a graph, with its mistakes in one line. Imports no torch."""

import importlib
from pathlib import Path
from typing import Any

from mmdet.errors import CheckpointError, DeviceError


def import_package(name: str, what: str) -> Any:
    """Return a package that only `what` needs.

    Raises:
        DeviceError: it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DeviceError(
            f"{what} needs another package ({error}); pip install 'scrfd-trainer[onnx]'"
        ) from None


def load_onnx(path: str | Path) -> tuple[Any, Any]:
    """Return the onnx package and the file's ModelProto.

    Raises:
        CheckpointError: missing, or not an ONNX file.
        DeviceError: the onnx package is missing.
    """
    onnx = import_package("onnx", f"reading {path}")
    try:
        return onnx, onnx.load(str(path))
    except Exception as error:  # protobuf's own classes
        raise CheckpointError(f"{path} cannot be read as an ONNX file ({type(error).__name__})") from None
