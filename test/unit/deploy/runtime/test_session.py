"""What an ONNX file says about itself, and what is refused with which message."""

import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mmdet.deploy.runtime import call_limit, session
from mmdet.deploy.runtime.session import find_providers, open_model
from mmdet.errors import CheckpointError, ConfigError, DeviceError

from ..conftest import export_spots


def identity(path, shape=("N", 3, "H", "W")):
    """Write a graph that is valid and no detector."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_open_axes(spots):
    model = open_model(spots, "cpu")
    assert model.fixed_hw is None and model.fixed_batch is None and model.takes_single
    assert model.description.strides == (8, 16, 32) and model.description.num_kps == 5
    assert model.providers == ["CPUExecutionProvider"]


def test_fixed_axes(tmp_path):
    model = open_model(export_spots(tmp_path / "a.onnx", hw=(64, 96), batch=4, has_kps=False), "cpu")
    assert model.fixed_hw == (64, 96) and model.fixed_batch == 4 and not model.takes_single
    assert model.description.num_kps == 0
    assert model.start_pool() is None
    levels = model.levels(model.run(np.zeros((4, 3, 64, 96), np.float32)))
    assert [level.scores.shape for level in levels] == [(4, 192, 1), (4, 48, 1), (4, 12, 1)]
    assert levels[0].bbox.shape == (4, 192, 4) and levels[0].kps is None


def test_outputs_without_a_batch_axis_take_one_picture(tmp_path):
    model = open_model(export_spots(tmp_path / "a.onnx", has_batch_axis=False, batch=1), "cpu")
    assert model.fixed_batch == 1
    assert model.levels(model.run(np.zeros((1, 3, 64, 64), np.float32)))[2].kps.shape == (1, 8, 10)


def test_the_pool_gives_the_same_outputs(spots):
    model = open_model(spots, "cpu", threads=3)
    blob = np.random.RandomState(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    pool = model.start_pool()
    assert pool is model.start_pool() and pool._max_workers == 3
    for raw in pool.map(model.run, [blob] * 6):
        for got, want in zip(raw, model.run(blob), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)
    model._session = None  # the pool's threads have another, which uses one core
    assert len(pool.submit(model.run, blob).result()) == 9
    assert open_model(spots, "cpu", threads=1).start_pool() is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be opened"), (b"not a model", "cannot be opened"), (b"\x08\x07" * 50, "cannot be opened")],
)
def test_files_that_are_no_model(tmp_path, content, message):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_model(tmp_path / "a.onnx", "cpu")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            open_model(path)


def test_a_model_of_something_else(tmp_path):
    with pytest.raises(CheckpointError, match=r"no SCRFD detector: 1 input\(s\), 1 outputs \(b"):
        open_model(identity(tmp_path / "a.onnx"), "cpu")


def test_a_description_that_cannot_be_read(tmp_path, spots):
    model = onnx.load(str(spots))
    helper.set_model_props(model, {"scrfd": '{"format": 99}'})
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(CheckpointError, match="description cannot be read .*export it again"):
        open_model(tmp_path / "a.onnx", "cpu")


def test_an_input_the_graph_does_not_take(tmp_path):
    model = open_model(export_spots(tmp_path / "a.onnx", hw=(64, 64)), "cpu")
    with pytest.raises(
        ConfigError, match=r"fails on an input of \(1, 3, 32, 64\).*multiples of 32"
    ) as caught:
        model.run(np.zeros((1, 3, 32, 64), np.float32))
    assert "\n" not in str(caught.value)


def test_providers_by_short_and_long_name():
    for name in ("cpu", "CPU", "CPUExecutionProvider"):
        assert find_providers(name) == ["CPUExecutionProvider"]
    assert "CPUExecutionProvider" in find_providers(
        "auto"
    ) and "AzureExecutionProvider" not in find_providers("auto")


@pytest.mark.parametrize("name", ["cuda", "cann", "tensorrt"])
def test_a_provider_that_is_missing_names_those_there(name):
    import onnxruntime

    if any(name in known.lower() for known in onnxruntime.get_available_providers()):
        pytest.skip(f"this onnxruntime has {name}")
    with pytest.raises(
        DeviceError, match=f"provider '{name}' is not part of this onnxruntime .*available: .*cpu"
    ):
        find_providers(name)


def test_a_provider_nobody_has():
    with pytest.raises(ConfigError, match="provider = 'cudaa' is unknown; did you mean 'cuda'"):
        find_providers("cudaa")


def test_a_provider_that_does_not_start(spots, monkeypatch):
    """The library only logs it and goes on with the CPU; here it is an error, as asked for by name."""
    missing = "CUDAExecutionProvider"
    monkeypatch.setattr(session, "find_providers", lambda provider: [missing])
    ort = session.import_onnxruntime()
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda path, **_: real(path, providers=[session.CPU]))
    with pytest.raises(
        DeviceError, match=f"{missing} .* did not start.*in use would be CPUExecutionProvider"
    ):
        open_model(spots, "cuda")
    assert open_model(spots, "auto").providers == [session.CPU]


def test_the_number_of_an_accelerator_is_passed_on(spots, monkeypatch):
    seen = []
    monkeypatch.setattr(session, "find_providers", lambda provider: ["CUDAExecutionProvider", session.CPU])
    ort = session.import_onnxruntime()
    real = ort.InferenceSession

    def make(path, sess_options, providers):
        seen.append(providers)
        return real(path, providers=[session.CPU])

    monkeypatch.setattr(ort, "InferenceSession", make)
    open_model(spots, "auto", device_id=3)
    assert seen == [[("CUDAExecutionProvider", {"device_id": "3"}), session.CPU]]


def test_onnxruntime_is_not_there(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match="onnxruntime cannot be imported .*pip install onnxruntime"):
        find_providers("cpu")


@pytest.mark.parametrize("side", [0, 10**6, 2**31])
def test_an_input_of_no_size_or_of_any_size_is_refused(spots, tmp_path, side):
    model = onnx.load(spots)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = side
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=r"a\.onnx.*(shape|cannot be opened)"):
        open_model(tmp_path / "a.onnx", "cpu")


def test_a_file_that_does_not_open_is_told_once(spots, tmp_path, capfd):
    path = tmp_path / "a.onnx"
    path.write_bytes(spots.read_bytes().replace(b"AveragePool", b"Average\xff\xfeol"))
    with pytest.raises(CheckpointError, match="cannot be opened as an ONNX model"):
        open_model(path, "cpu")
    assert capfd.readouterr().out == ""


def test_a_description_that_is_no_text_is_named(spots, tmp_path):
    model, path = onnx.load(spots), tmp_path / "a.onnx"
    helper.set_model_props(model, {session.METADATA_KEY: "abcdef"})
    path.write_bytes(model.SerializeToString().replace(b"abcdef", b"abc\xffef"))
    with pytest.raises(CheckpointError, match="its description cannot be read"):
        open_model(path, "cpu")


def test_strides_wider_than_the_input_do_not_end_the_second_look():
    from mmdet.deploy.runtime.looks import small_size

    assert small_size((640, 640), 32) == (160, 160) and small_size((32, 1), 32) == (32, 1)
    assert small_size((96, 64), 4096) == (96, 64)


def endless(source, path):
    """Put a loop of 2^60 rounds before the first node of a graph."""
    graph = onnx.load(str(source))
    kinds = (("i", TensorProto.INT64, []), ("on", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, None))
    ins = [helper.make_tensor_value_info(*kind) for kind in kinds]
    outs = [helper.make_tensor_value_info(f"{name}_", *kind) for name, *kind in kinds[1:]]
    nodes = [helper.make_node("Identity", ["on"], ["on_"]), helper.make_node("Mul", ["x", "one"], ["x_"])]
    body = helper.make_graph(nodes, "body", ins, outs)
    loop = helper.make_node("Loop", ["rounds", "yes", graph.graph.input[0].name], ["looped"], body=body)
    for name, value in (("rounds", np.array(2**60)), ("yes", np.array(True)), ("one", np.float32(1))):
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    for node in graph.graph.node:
        node.input[:] = ["looped" if name == loop.input[2] else name for name in node.input]
    graph.graph.node.insert(0, loop)
    onnx.save(graph, str(path))
    return path


def test_a_graph_that_does_not_end_is_ended(spots, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(call_limit, "MAX_CALL_S", 0.5)
    blob = np.zeros((1, 3, 64, 64), np.float32)
    with pytest.raises(
        CheckpointError, match=r"a.onnx ran for 0.5 s and was ended; its graph may hold a loop"
    ):
        open_model(endless(spots, tmp_path / "a.onnx"), "cpu").run(blob)
    assert capfd.readouterr().err == "" and len(open_model(spots, "cpu").run(blob)) == 9
    time.sleep(0.2)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
