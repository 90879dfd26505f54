"""Weights out of an ONNX file and into our modules.

Exporters fold a BatchNorm into the convolution before it, rename that convolution's weights to numbers, and
keep the names of the others; simplifiers also reorder the nodes. So the same model is exported here, both
graphs are walked from their outputs in the same way, and the layers met are matched one by one; shapes and
the names that are left must agree. `convert` then runs both and compares.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmdet.deploy.export.calibrate import BATCH_NORM
from mmdet.deploy.export.export_onnx import ExportModule, ExportOptions, describe, export_module
from mmdet.deploy.export.onnx_file import load_onnx
from mmdet.errors import CheckpointError
from mmdet.models.detectors.dense import SCRFD
from mmdet.models.layers import Scale

Arrays = dict[str, np.ndarray]


@dataclass
class MatchReport:
    """Which keys of the model were found, and how.

    Attributes:
        by_name: under their name.
        by_order: as the n-th layer of their kind.
        kept: not in the file; left as they were.
    """

    by_name: list[str] = field(default_factory=list)
    by_order: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def load_onnx_weights(model: SCRFD, path: str | Path) -> MatchReport:
    """Copy the weights of an ONNX file into a model of the same config.

    A convolution whose BatchNorm was folded gets the folded weight, and its BatchNorm becomes the addition
    of the folded bias: the model computes the same in eval mode. What BatchNorm had learned of the batch
    is not in the file, so a training that normalises by batches starts from another function; `calibrate`
    mends that.

    Raises:
        CheckpointError: not an ONNX file, or of another model; the first difference is named.
        DeviceError: the onnx package is missing.
    """
    graph = _read_graph(path)
    keys = {module: name for name, module in model.named_modules()}
    layers, norm_after = _layers_in_order(model)
    report = MatchReport()
    values: Arrays = {}

    def assign(name: str, found: Arrays) -> None:
        for key, value in found.items():
            if f"{name}.{key}" not in values:  # a layer shared by the levels runs several times
                (report.by_name if graph.has_name(f"{name}.{key}") else report.by_order).append(
                    f"{name}.{key}"
                )
            values[f"{name}.{key}"] = value

    _same_number(path, "convolutions", graph.convs, layers["conv"])
    for node, conv in zip(graph.convs, layers["conv"], strict=True):
        name = keys[conv]
        weight, bias = graph.conv_values(node, name, tuple(conv.weight.shape))
        after = norm_after.get(conv)
        if conv.bias is not None:
            assign(name, {"weight": weight, "bias": bias})
            continue
        assign(name, {"weight": weight})
        if isinstance(after, BATCH_NORM):
            assign(keys[after], _as_shift(bias, after.eps))
    _same_number(path, "group norms", graph.affines, layers["affine"])
    for (scale, shift), norm in zip(graph.affines, layers["affine"], strict=True):
        if scale.size != norm.weight.numel():
            raise CheckpointError(
                f"{path}: {scale.size} factors where {keys[norm]} has {norm.weight.numel()}"
            )
        assign(
            keys[norm], {"weight": scale.reshape(norm.weight.shape), "bias": shift.reshape(norm.bias.shape)}
        )
    _same_number(path, "box scales", graph.scalars, layers["scalar"])
    for value, scale in zip(graph.scalars, layers["scalar"], strict=True):
        assign(keys[scale], {"scale": value.reshape(())})

    model.load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in values.items()}, strict=False
    )
    report.kept = [
        key for key in model.state_dict() if key not in values and not key.endswith("num_batches_tracked")
    ]
    return report


def _read_graph(path: str | Path) -> "_Graph":
    """Return the graph of a file from anywhere; a node that lacks what it needs is an error of ours."""
    try:
        return _Graph(path)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its graph is damaged ({type(error).__name__}: {error})") from None


class _Graph:
    """The layers of an ONNX graph, in the order in which a walk from the outputs meets them.

    Attributes:
        convs: Conv nodes.
        affines: (weight, bias) of every multiplication by, then addition of, a constant per channel.
        scalars: every single float the graph multiplies by.
        positions: the number of each of the three, had they been listed in the order of the nodes.
    """

    def __init__(self, path: str | Path) -> None:
        onnx, file = load_onnx(path)
        graph = file.graph
        self.path = path
        self.floats = _float_constants(onnx, graph)
        self.names = {name.removeprefix("model.") for name in self.floats}
        users = {name: node for node in graph.node for name in node.input}
        found: dict[str, list[tuple[int, Any]]] = {"conv": [], "affine": [], "scalar": []}
        for index in _walk(graph):
            node = graph.node[index]
            if node.op_type == "Conv":
                found["conv"].append((index, node))
            factor = self._constant(node) if node.op_type == "Mul" else None
            if factor is None:
                continue
            following = users.get(node.output[0])
            term = self._constant(following) if following is not None and following.op_type == "Add" else None
            if term is not None and term.size == factor.size:
                found["affine"].append((index, (factor, term)))
            elif factor.size == 1:
                found["scalar"].append((index, factor))
        self.convs, self.affines, self.scalars = ([item for _, item in found[kind]] for kind in found)
        self.positions = {
            kind: np.argsort(np.argsort([i for i, _ in items])) for kind, items in found.items()
        }

    def has_name(self, key: str) -> bool:
        """Return whether the file has a weight of this name."""
        return key in self.names

    def conv_values(self, node: Any, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return weight and bias (zeros if none) of a Conv node that should be the layer `name`."""
        inputs = [*node.input, "", ""][:3]  # data, weight, bias
        found = inputs[1].removeprefix("model.")
        weight = self.floats.get(inputs[1])
        if weight is None or weight.shape != shape or (_is_key(found) and found != f"{name}.weight"):
            got = "no constant" if weight is None else weight.shape
            raise CheckpointError(
                f"{self.path}: weight {found!r} {got} stands where {name}.weight {shape} should; of another "
                "config?"
            )
        bias = self.floats.get(inputs[2]) if inputs[2] else np.zeros(len(weight), np.float32)
        if bias is None or bias.shape != weight.shape[:1]:
            raise CheckpointError(
                f"{self.path}: the bias of {name} {inputs[2]!r} is no constant of its shape"
            )
        return weight, bias

    def _constant(self, node: Any) -> np.ndarray | None:
        """Return the constant float input of a node, if it has one."""
        return next((self.floats[name] for name in node.input if name in self.floats), None)


def _float_constants(onnx: Any, graph: Any) -> Arrays:
    """Return initialisers and Constant nodes that hold floats; equal ones may be shared through Identity."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    aliases = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity":
            aliases[node.output[0]] = node.input[0]
    arrays = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    floats = {n: a.astype(np.float32) for n, a in arrays.items() if np.issubdtype(a.dtype, np.floating)}
    return floats | {alias: floats[end] for alias, end in _ends(aliases).items() if end in floats}


def _ends(aliases: dict[str, str]) -> dict[str, str]:
    """Return what each alias stands for in the end; one of a circle stands for another of it."""
    ends: dict[str, str] = {}
    for alias in aliases:
        name = alias
        chain: dict[str, None] = {}
        while name in aliases and name not in chain and name not in ends:
            chain[name] = None
            name = aliases[name]
        ends |= dict.fromkeys(chain, ends.get(name, name))
    return ends


def _walk(graph: Any) -> list[int]:
    """Return the nodes' indices, inputs before users, beginning with what the first output needs."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output}
    order: list[int] = []
    seen: set[int] = set()
    stack = [(name, False) for name in reversed([output.name for output in graph.output])]
    while stack:
        name, is_ready = stack.pop()
        index = maker.get(name)
        if index is None or (index in seen and not is_ready):
            continue
        if is_ready:
            order.append(index)
            continue
        seen.add(index)
        stack.append((name, True))
        stack += [(source, False) for source in reversed(graph.node[index].input)]
    return order


def _is_key(name: str) -> bool:
    """Return whether a constant's name is a key of a state_dict, not one that an exporter made up."""
    return name.startswith(("backbone.", "neck.", "bbox_head."))


def _layers_in_order(model: SCRFD) -> tuple[dict[str, list[nn.Module]], dict[nn.Module, nn.Module | None]]:
    """Return the model's layers in the order of `_walk` over its own export, and what runs after each."""
    run = _run_order(model)
    kinds = {"conv": nn.Conv2d, "affine": nn.GroupNorm, "scalar": Scale}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.onnx"
        side = max(64, *model.bbox_head.strides)
        options = ExportOptions(side, side, opset=11)
        export_module(ExportModule(model.eval(), describe(model, options)), path, options)
        positions = _Graph(path).positions
    layers = {}
    for kind, layer_class in kinds.items():
        in_run_order = [layer for layer in run if isinstance(layer, layer_class)]
        _same_number("the model's own export", f"layers of kind {kind}", positions[kind], in_run_order)
        layers[kind] = [in_run_order[position] for position in positions[kind]]
    return layers, dict(zip(run, [*run[1:], None], strict=True))


def _run_order(model: SCRFD) -> list[nn.Module]:
    """Return the layers with weights in the order in which they run; one that runs twice is there twice."""
    order: list[nn.Module] = []
    kinds = (nn.Conv2d, BATCH_NORM, nn.GroupNorm, Scale)
    with ExitStack() as after, torch.no_grad():
        after.callback(model.train, model.training)
        for layer in model.modules():
            if isinstance(layer, kinds):
                after.enter_context(layer.register_forward_hook(lambda module, *_: order.append(module)))
        model.eval().raw(torch.zeros(1, 3, 64, 64))
    return order


def _same_number(path: str | Path, what: str, found: Sequence, wanted: Sequence) -> None:
    if len(found) != len(wanted):
        raise CheckpointError(
            f"{path} has {len(found)} {what}, the config's model {len(wanted)}: of another config?"
        )


def _as_shift(bias: np.ndarray, eps: float) -> Arrays:
    """Return BatchNorm values with which it adds `bias` and does nothing else."""
    ones = np.ones(len(bias), np.float32)
    return {"weight": ones, "bias": bias, "running_mean": 0 * ones, "running_var": ones - np.float32(eps)}
