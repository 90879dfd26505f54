"""Convolutions of the same maps joined give the same numbers bit by bit, and others are left alone."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmdet.deploy.runtime.join import join_convolutions, joined_content
from mmdet.deploy.runtime.session import open_model


def make_model(widths, opset=11, groups=None, inputs=("x", "x", "x"), biases=None):
    """Return a graph of 3x3 convolutions of 4 maps, one for each width, between a ReLU and the outputs."""
    rng = np.random.RandomState(0)
    nodes = [helper.make_node("Relu", ["in"], ["x"]), helper.make_node("Neg", ["in"], ["y"])]
    weights = []
    for number, (width, source) in enumerate(zip(widths, inputs, strict=False)):
        group = (groups or {}).get(number, 1)
        shapes = ((width, 4 // group, 3, 3), (biases[number] if biases else width,))
        for kind, shape in zip("wb", shapes, strict=True):
            weights.append(numpy_helper.from_array(rng.randn(*shape).astype(np.float32), f"{kind}{number}"))
        pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": group}
        nodes.append(helper.make_node("Conv", [source, f"w{number}", f"b{number}"], [f"out{number}"], **pads))
    values = [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 4, 7, 5])]
    outputs = [helper.make_tensor_value_info(f"out{i}", TensorProto.FLOAT, None) for i in range(len(widths))]
    graph = helper.make_graph(nodes, "g", values, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(content):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    blob = np.random.RandomState(1).randn(1, 4, 7, 5).astype(np.float32)
    return session.run(None, {"in": blob})


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_joined_gives_the_same_numbers(opset, tmp_path):
    model = make_model((2, 8, 20), opset)
    onnx.save(model, tmp_path / "a.onnx")
    content = joined_content(str(tmp_path / "a.onnx"))
    kinds = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert kinds == ["Relu", "Neg", "Conv", "Split"]
    for got, want in zip(run(content), run(model.SerializeToString()), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": (16, 16)},  # nothing to save
        {"widths": (2,)},
        {"widths": (2, 8), "inputs": ("x", "y")},
        {"widths": (4, 8), "groups": {0: 4, 1: 4}},
        {"widths": (4, 8), "groups": {0: 4}},
        {"widths": (2, 8), "biases": (3, 7)},  # onnxruntime refuses it; the sum would fit
    ],
    ids=str,
)
def test_others_are_left_alone(settings):
    model = make_model(**settings)
    before = model.SerializeToString()
    assert not join_convolutions(model) and model.SerializeToString() == before


@pytest.mark.parametrize("content", [b"", b"no onnx file", b"\x08\x07"])
def test_what_is_no_file_of_ours_is_left_to_onnxruntime(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    assert joined_content(str(tmp_path / "a.onnx")) is None and joined_content(str(tmp_path / "none")) is None


def test_a_published_file_gives_the_same_numbers(shared):
    path = shared / "data/scrfd_onnx/ShiqiYu__scrfd_500m_bnkps.onnx"
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert len(plain.get_outputs()) == 9 and joined_content(str(path)) is not None
    blob = np.random.RandomState(0).uniform(-1, 1, (1, 3, 96, 160)).astype(np.float32)
    got = open_model(path, "cpu", threads=1).run(blob)
    for one in plain.run(None, {plain.get_inputs()[0].name: blob}):
        assert any(one.shape == other.shape and (one == other).all() for other in got)


def test_weights_beside_the_file_stay_there(tmp_path, monkeypatch):
    onnx.save(make_model((2, 8)), tmp_path / "a.onnx", save_as_external_data=True, size_threshold=0)
    monkeypatch.chdir(tmp_path)  # where onnx would find them by chance
    assert joined_content("a.onnx") is None
