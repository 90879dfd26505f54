"""Open an ONNX file as a graph, with its mistakes in one line. Imports no torch."""

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmdet.errors import CheckpointError, DeviceError

MAX_OTHER_BYTES = 2 << 30  # that the tensors of a file may read from other files


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
        CheckpointError: missing, not an ONNX file, or too much data in other files.
        DeviceError: the onnx package is missing.
    """
    onnx = import_package("onnx", f"reading {path}")
    other_files = import_package("onnx.external_data_helper", f"reading {path}")
    folder = Path(path).parent
    try:
        model = onnx.load(str(path), load_external_data=False)
        num_bytes = sum(_other_bytes(tensor, folder) for tensor in _tensors(model))
        if num_bytes <= MAX_OTHER_BYTES:
            other_files.load_external_data_for_model(model, str(folder))
            return onnx, model
    except Exception as error:  # protobuf's own classes
        raise CheckpointError(f"{path} cannot be read as an ONNX file ({type(error).__name__})") from None
    raise CheckpointError(
        f"{path} has {num_bytes / 2**30:.0f} GiB of weights in other files; at most {MAX_OTHER_BYTES >> 30} "
        "are read"
    )


def _tensors(model: Any) -> Iterator[Any]:
    """Yield the tensors of a model, those inside of nodes, graphs of nodes and functions, too."""
    graphs = [model.graph]
    nodes: list[Iterable[Any]] = [function.node for function in model.functions]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            nodes.append(graph.node)
        for attribute in (attribute for node in nodes.pop() for attribute in node.attribute):
            yield from [attribute.t, *attribute.tensors]
            graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _other_bytes(tensor: Any, folder: Path) -> int:
    """Return how many bytes a tensor reads from another file: what it says, or the whole file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_location != tensor.EXTERNAL or not entries:
        return 0
    size, length = (folder / entries["location"]).stat().st_size, int(entries.get("length", 0))
    return min(length, size) if length > 0 else size
