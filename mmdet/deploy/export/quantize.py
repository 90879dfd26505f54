"""An ONNX model that computes with 8-bit integers, by onnxruntime's quantiser. Imports no torch."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mmdet.deploy.cli.inputs import find_inputs
from mmdet.deploy.export.onnx_file import import_package, load_onnx
from mmdet.deploy.runtime.description import METADATA_KEY, Description
from mmdet.deploy.runtime.letterbox import letterbox, to_blob
from mmdet.deploy.runtime.session import open_model
from mmdet.errors import ConfigError, DataError
from mmdet.files import atomic_write, check_outputs, write_text
from mmdet.images import read_image

INPUT_HW = (640, 640)
PER_CHANNEL_OPSET = 13
QUANTIZED = ["Conv", "Add", "Relu", "MaxPool", "Resize"]
BEHIND_LAST = ("Sigmoid", "Reshape", "Transpose", "Mul", "Add", "Concat", "Exp")  # ... of an output


def quantize(source: str | Path, target: str | Path, folder: str, num_images: int, overwrite: bool) -> int:
    """Write an int8 model beside its description; the convolutions that give scores and boxes stay fp32.

    Args:
        source: an ONNX file of ours or a published one, without NMS inside.
        target: the file to write.
        folder: images like those it will see; their activations give the ranges.
        num_images: of them, evenly spaced by name.
        overwrite: replace existing files.

    Returns:
        The number of images used.

    Raises:
        ConfigError: the file has NMS inside, or `target` must not be written.
        DataError: no image there.
        DeviceError: the quantiser's packages are missing.
    """
    target = Path(target)
    check_outputs([target, target.with_suffix(".json")], [source], overwrite)
    model = open_model(source, "cpu")
    facts = model.description
    if facts.nms is not None:
        raise ConfigError(f"{source} has NMS inside, which is not quantised; export it without --with-nms")
    num, blobs = read_blobs(folder, num_images, facts, model.fixed_hw or INPUT_HW)
    graph = _upgraded(source)
    quantization = import_package("onnxruntime.quantization", "quantising")
    inputs = ({model.input_name: blob} for blob in blobs)
    facts = replace(facts, precision="int8")
    with atomic_write(target) as part, ExitStack() as after:
        after.callback(logging.disable, logging.NOTSET)
        logging.disable(logging.WARNING)  # the quantiser recommends folding that our exporter has done
        quantization.quantize_static(
            graph,
            str(part),
            SimpleNamespace(get_next=lambda: next(inputs, None)),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=last_convolutions(graph.graph),
        )
        _describe(part, facts)
    write_text(target.with_suffix(".json"), facts.to_json())
    return num


def read_blobs(
    folder: str, num_images: int, facts: Description, input_hw: tuple[int, int] = INPUT_HW
) -> tuple[int, Iterator[np.ndarray]]:
    """Return the number of images chosen in a folder, evenly spaced by name, and their network inputs.

    Raises:
        DataError: no image there, or, later, one cannot be read.
    """
    files = [file.label for file in find_inputs([folder]).files]
    if not files:
        raise DataError(f"{folder}: no picture to calibrate with")
    chosen = files[:: -(-len(files) // num_images)]
    canvases = (letterbox(read_image(path), input_hw)[0] for path in chosen)
    is_rgb = facts.channels == "RGB"
    return len(chosen), (to_blob([canvas], facts.mean, facts.std, is_rgb) for canvas in canvases)


def last_convolutions(graph: Any) -> list[str]:
    """Return the names of the convolutions whose values reach an output through simple arithmetic only."""
    makers = {name: node for node in graph.node for name in node.output}
    waiting, found = [output.name for output in graph.output], set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "Conv":
            found.add(node.name)
        elif node.op_type in BEHIND_LAST:
            waiting += node.input
    return sorted(found)


def _upgraded(source: str | Path) -> Any:
    """Return the file's graph with an opset that knows a scale for each channel."""
    onnx, graph = load_onnx(source)
    opset = max(item.version for item in graph.opset_import if item.domain in ("", "ai.onnx"))
    if opset >= PER_CHANNEL_OPSET:
        return graph
    return onnx.version_converter.convert_version(graph, PER_CHANNEL_OPSET)


def _describe(path: Path, facts: Description) -> None:
    """Write the description into the file, which the quantiser has left out."""
    onnx, graph = load_onnx(path)
    onnx.helper.set_model_props(graph, {METADATA_KEY: facts.to_json()})
    onnx.save(graph, str(path))
