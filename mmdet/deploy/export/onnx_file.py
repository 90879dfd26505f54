"""Open an ONNX file as a graph, with its mistakes in one line. Imports no torch."""

from pathlib import Path
from typing import Any

from mmdet.errors import CheckpointError, DeviceError


def load_onnx(path: str | Path) -> tuple[Any, Any]:
    """Return the onnx package and the file's ModelProto.

    Raises:
        CheckpointError: missing, or not an ONNX file.
        DeviceError: the onnx package is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise DeviceError(f"reading {path} needs another package ({error}); pip install onnx") from None
    try:
        return onnx, onnx.load(str(path))
    except Exception as error:  # protobuf's own classes
        raise CheckpointError(f"{path} cannot be read as an ONNX file ({type(error).__name__})") from None
