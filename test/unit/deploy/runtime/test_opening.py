"""What opening an ONNX file may cost is seen before it is opened."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmdet.deploy.export.onnx_file import load_onnx
from mmdet.deploy.runtime import opening
from mmdet.deploy.runtime.opening import check_opening, find_reason
from mmdet.deploy.runtime.session import open_model
from mmdet.errors import CheckpointError


def array(name, value, kind=np.int64):
    return numpy_helper.from_array(np.asarray(value, kind), name)


def write(path, nodes, constants=(), functions=()):
    """Write a model that adds what `nodes` call "made" to its input."""
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [*nodes, helper.make_node("Add", ["x", "made"], ["y"])], "g", [tensor], [out], list(constants)
    )
    imports = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if functions else [])]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)
    onnx.save(model, str(path))
    return path


def node(kind, inputs, output="made", **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


ONE = array("one", [1], np.float32)
COLUMN, ROW = array("a", np.ones((9000, 1)), np.float32), array("b", np.ones((1, 9000)), np.float32)
DOUBLE = [node("Concat", "one one", "0", axis=0)]
DOUBLE += [node("Concat", f"{n} {n}", str(n + 1), axis=0) for n in range(27)] + [node("Identity", "27")]
SHAPE = array("s", [1 << 15, 1 << 15])
BODY = helper.make_function(
    "own", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)]
)
COSTLY = {
    "filled": ([node("ConstantOfShape", "s")], [SHAPE], "computes ConstantOfShape of constants"),
    "filled from a shape": (
        [node("Shape", "x", "h"), node("Mul", "h s", "k"), node("Expand", "one k")],
        [ONE, array("s", [9])],
        "more than 64 dimensions|computes Expand",
    ),
    "doubled": (DOUBLE, [ONE], r"computes with \d+ constants"),
    "multiplied out": ([node("Mul", "a b")], [COLUMN, ROW], r"computes with \d+ constants"),
    "late": ([node("Mul", "c b"), node("Neg", "a", "c")], [COLUMN, ROW], r"computes with \d+ constants"),
    "multiplied": ([node("MatMul", "a b")], [COLUMN, ROW], "computes MatMul of constants"),
    "functions": ([node("F", "x", domain="own")], [], "functions"),
    "long": ([node("Neg", "x", str(n)) for n in range(5001)], [], "5002 nodes"),
    "dimensions": ([node("Reshape", "x s")], [array("s", [1] * 65)], "more than 64 dimensions"),
    "copies": (
        [node("Conv", "x w", f"w{n}") for n in range(200)] + [node("Identity", "x")],
        [array("w", np.ones((600, 600)), np.float32)],
        r"computes with \d+ constants",
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_may_cost_much_is_seen(tmp_path, name):
    nodes, constants, reason = COSTLY[name]
    functions = [BODY] if name == "functions" else []
    path = write(tmp_path / "a.onnx", nodes, constants, functions)
    assert re.search(reason, find_reason(path)), find_reason(path)


def test_graphs_inside_of_nodes_and_sparse_weights(tmp_path):
    inner = helper.make_graph(
        [node("Identity", "x", "z")], "i", [], [helper.make_empty_tensor_value_info("z")]
    )
    path = write(tmp_path / "a.onnx", [node("If", "on", then_branch=inner, else_branch=inner)])
    assert "graphs" in find_reason(path)
    model = onnx.load(write(tmp_path / "b.onnx", [node("Identity", "x")]))
    model.graph.sparse_initializer.add().dims.append(2**40)
    onnx.save(model, str(tmp_path / "b.onnx"))
    assert "sparse" in find_reason(tmp_path / "b.onnx")


def test_looking_itself_is_bounded(tmp_path):
    """A tensor of a million dimensions, and a file of a million unknown fields."""
    tensor = b"\x0a" + b"\x80\x80\x80\x01" + b"\x01" * (1 << 21)
    for name, graph in (
        ("dims", b"\x2a" + b"\x85\x80\x80\x01" + tensor),
        ("fields", b"\x78\x01" * (1 << 20)),
    ):
        size = len(graph)
        head = b"\x3a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
        (tmp_path / name).write_bytes(head + graph)
        assert find_reason(tmp_path / name) == "is written in an unusual way"


def test_shapes_that_networks_compute_and_other_files_are_no_reason(tmp_path, spots):
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape i", "side"),
        node("Unsqueeze", "side z", "sides"),
        node("Mul", "sides two", "twice"),
        node("Concat", "twice minus", "to", axis=0),
        node("Reshape", "x to", "made"),
    ]
    constants = [array("i", 0), array("z", [0]), array("two", [2]), array("minus", [-1])]
    assert find_reason(write(tmp_path / "a.onnx", nodes, constants)) == ""
    assert find_reason(spots) == ""
    for content in (b"", b"no model", b"\x3a\xff" * 9, b"\x80" * 12, bytes(40)):
        (tmp_path / "b.onnx").write_bytes(content)
        assert find_reason(tmp_path / "b.onnx") == ""


def test_a_file_that_costs_too_much_is_not_opened(tmp_path, monkeypatch):
    """The child process ends at its limit; a file that only looks costly is opened."""
    path = write(tmp_path / "a.onnx", DOUBLE[:12] + [node("Relu", "10", "r"), node("Tanh", "r")], [ONE])
    check_opening(path)
    monkeypatch.setattr(opening, "OPEN_S", 0.05)
    with pytest.raises(
        CheckpointError, match=r"a\.onnx is not opened.*it computes Tanh of constants"
    ) as caught:
        open_model(path, "cpu")
    assert "\n" not in str(caught.value)


def test_weights_in_other_files_are_counted_before_they_are_read(tmp_path, spots):
    model = onnx.load(str(spots))
    tensor = next(node.attribute[0].t for node in model.graph.node if node.op_type == "Constant")
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "hole.bin"
    with (tmp_path / "hole.bin").open("wb") as file:
        file.truncate(3 << 30)
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(CheckpointError, match=r"a\.onnx has 3 GiB of weights in other files"):
        load_onnx(tmp_path / "a.onnx")
