"""What it costs to open an ONNX file, looked at first: some hundred bytes can ask for any time and memory.

While onnxruntime opens a file it computes whatever depends on constants alone, copies weights for each node
that uses them, and writes out local functions. A file whose cost is plainly small is opened at once, which
takes milliseconds to find; any other file is opened in a child process with limits first. The fields
are those of onnx.proto, read without the onnx package, which detection does not need.
"""

import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mmdet.deploy.runtime.protobuf import Reader, UnusualField
from mmdet.errors import CheckpointError

MAX_BYTES = 256 << 20  # of a file that is opened at once
MAX_FIELDS = 1_000_000
MAX_NODES, MAX_EDGES = 5_000, 50_000  # onnxruntime's time grows with the square of a chain
MAX_ELEMENTS = 1 << 26  # of constants, counted once for each node that reads or makes them
MAX_RANK = 64
MAX_PASSES = 8  # over the nodes: one for those in order, more for those before their inputs
MAX_ATTRIBUTE = 256  # bytes, of one without a tensor
OPEN_S, OPEN_GIB = 30, 2  # of a child process

# Operators on constants whose output has at most as many elements as their first input, as all together,
# or as all multiplied. Any other may give anything, or take long.
FIRST = frozenset(
    "Identity Cast Reshape Transpose Squeeze Unsqueeze Flatten Slice Neg Abs Sqrt Exp Log Reciprocal Floor "
    "Ceil Relu Sigmoid Not Clip QuantizeLinear DequantizeLinear".split()
)
RESHAPING = frozenset({"Reshape", "Unsqueeze", "Flatten"})
SUM = frozenset({"Concat"})
PRODUCT = frozenset("Add Sub Mul Div Pow Equal Less Greater And Or Where Gather".split())  # flat: the largest

_CHILD = """
import sys
sys.path[:] = [path for path in sys.path if path]
import onnxruntime, resource
seconds, room = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
if sys.platform == "linux":
    room += int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
options = onnxruntime.SessionOptions()
options.log_severity_level, options.intra_op_num_threads = 4, 1
try:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception as error:
    sys.exit(4 if any(word in str(error) for word in ("bad_alloc", "allocate", "memory")) else 3)
"""


def check_opening(path: str | Path) -> None:
    """Open a file in a child process first if it is not plain that opening it is cheap.

    Raises:
        CheckpointError: it took more than `OPEN_S` or `OPEN_GIB` there, or onnxruntime ended itself.
    """
    reason = find_reason(path)
    if not reason or os.name != "posix":
        return
    command = [sys.executable, "-c", _CHILD, os.path.abspath(path), str(OPEN_S), str(OPEN_GIB << 30)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        code = subprocess.run(command, capture_output=True, env=environment, timeout=OPEN_S).returncode
    except subprocess.TimeoutExpired:
        code = 4
    if code == 4 or code < 0:
        raise CheckpointError(
            f"{path} is not opened: in a child process that took more than {OPEN_S} s or {OPEN_GIB} GiB, or "
            f"failed; tried there because it {reason}. Simplify it, or export it again"
        )


def find_reason(path: str | Path) -> str:
    """Return why opening a file may cost much; "" if it is plainly cheap, or no ONNX file."""
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        return f"has {size >> 20} MiB"
    data = Path(path).read_bytes()
    if data[4:8] == b"ORTM" or Path(path).suffix == ".ort":
        return "is in onnxruntime's own format"
    try:
        return _reason(memoryview(data), Reader(MAX_FIELDS))
    except _Costly as found:
        return str(found)
    except UnusualField:
        return "is written in an unusual way"
    except ValueError:  # no protobuf: onnxruntime refuses it before it works
        return ""


class _Costly(Exception):
    """Why opening a file may cost much, found while reading it."""


class _Size(NamedTuple):
    """How many elements a constant has at most, and whether it is known to have one dimension or none."""

    elements: int
    is_flat: bool


@dataclass
class _Node:
    """A node as far as its cost depends on it; constant: elements of a tensor among its attributes."""

    kind: str = ""
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    constant: _Size = _Size(0, False)


def _reason(model: memoryview, reader: Reader) -> str:
    """Return why opening a model may cost much, or ""."""
    nodes: list[_Node] = []
    sizes: dict[bytes, _Size] = {}
    for number, value in reader.messages(model, {7, 25}):
        if number == 25:
            return "has functions of its own"
        for part, content in reader.messages(value, {1, 5, 15}):
            if part == 15:
                return "has sparse weights"
            if part == 5:
                name, sizes[name] = _read_tensor(content, reader)
            else:
                nodes.append(_read_node(content, reader))
    num_edges = sum(len(node.inputs) + len(node.outputs) for node in nodes)
    if len(nodes) > MAX_NODES or num_edges > MAX_EDGES:
        return f"has {len(nodes)} nodes"
    elements = _count(nodes, sizes)
    return f"computes with {elements} constants" if elements > MAX_ELEMENTS else ""


def _count(nodes: list[_Node], sizes: dict[bytes, _Size]) -> int:
    """Return how many elements of constants the nodes read and make; `sizes` gets what they make."""
    shape = _Size(MAX_RANK + MAX_ATTRIBUTE * len(nodes), True)  # any node may add so many dimensions
    for _ in range(MAX_PASSES):
        before = len(sizes)
        for node in nodes:
            if any(name and name not in sizes for name in node.outputs):
                size = _output_size(node, [sizes.get(name) for name in node.inputs if name], shape)
                if size is not None:
                    sizes.update(dict.fromkeys(node.outputs, size))
        if len(sizes) == before:
            break
    else:
        raise _Costly("lists nodes before those they depend on")
    named = (name for node in nodes for name in {*node.inputs, *node.outputs})
    return sum(sizes[name].elements for name in named if name in sizes)


def _output_size(node: _Node, inputs: list[_Size | None], shape: _Size) -> _Size | None:
    """Return the size of a node's output; None if it is no constant.

    Args:
        node: its kind and tensor.
        inputs: their sizes; None for one that is no constant.
        shape: of the shape of any tensor.
    """
    if node.kind == "Constant":
        return node.constant
    if node.kind in ("Shape", "Size"):
        return shape
    target = inputs[1] if node.kind in ("Reshape", "Expand") and len(inputs) > 1 else None
    if target is not None and target.elements > MAX_RANK:
        raise _Costly(f"makes tensors of more than {MAX_RANK} dimensions")
    known = [size for size in inputs if size is not None]
    if len(known) < len(inputs):
        return None
    return _computed_size(node.kind, known)


def _computed_size(kind: str, inputs: list[_Size]) -> _Size:
    """Return the size of what a node computes of constants."""
    sizes, is_flat = [size.elements for size in inputs], all(size.is_flat for size in inputs)
    if kind in FIRST and inputs:
        return _Size(sizes[0], inputs[0].is_flat and (kind not in RESHAPING or sizes[0] == 1))
    if kind in SUM:
        return _Size(sum(sizes), is_flat)
    if kind == "Gather" and is_flat:
        return inputs[-1]
    if kind in PRODUCT:
        return _Size(max(sizes) if is_flat else math.prod(sizes), is_flat)
    raise _Costly(f"computes {kind[:40]} of constants")


def _read_node(data: memoryview, reader: Reader) -> _Node:
    node = _Node()
    for number, value in reader.messages(data, {1, 2, 4, 5}):
        if number == 1:
            node.inputs.append(bytes(value))
        elif number == 2:
            node.outputs.append(bytes(value))
        elif number == 4:
            node.kind = bytes(value).decode(errors="replace")
        else:
            node.constant = max(node.constant, _read_attribute(value, reader))
    return node


def _read_attribute(data: memoryview, reader: Reader) -> _Size:
    """Return the size of the tensor or the numbers of an attribute."""
    tensors = []
    for number, value in reader.messages(data, {5, 6, 10, 11, 22, 23}):
        if number != 5:
            raise _Costly("has graphs or lists of tensors inside of its nodes")
        tensors.append(_read_tensor(value, reader)[1])
    if not tensors and len(data) > MAX_ATTRIBUTE:
        raise _Costly(f"has an attribute of {len(data)} bytes")
    return max(tensors, default=_Size(len(data), True))


def _read_tensor(data: memoryview, reader: Reader) -> tuple[bytes, _Size]:
    """Return the name of a tensor and the size that it says it has."""
    name, dims = b"", list[int]()
    for number, value in reader.fields(data):
        if number == 1:
            dims += reader.numbers(value) if isinstance(value, memoryview) else [value]
        elif number == 8 and isinstance(value, memoryview):
            name = bytes(value)
    if len(dims) > MAX_RANK:
        raise _Costly(f"has a tensor of {len(dims)} dimensions")
    return name, _Size(math.prod(dims), len(dims) < 2)
