"""OM models over a stand-in for ais_bench: the same contract as an onnxruntime session."""

import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from mmdet.deploy.runtime.description import Description
from mmdet.deploy.runtime.session import open_model
from mmdet.errors import CheckpointError, ConfigError, DeviceError

FACTS = Description((8, 16, 32), 2, 0)


class StandIn:
    """Calls and results of ais_bench.infer.interface.InferSession."""

    opened: list = []
    datatype = "float32"

    def __init__(self, device_id, path):
        if "broken" in path:
            raise RuntimeError("load model failed")
        self.opened.append((device_id, path))

    def get_inputs(self):
        return [SimpleNamespace(name="input.1", shape=(2, 3, 64, 64), datatype=self.datatype)]

    def get_outputs(self):
        sizes = [(2, 2 * (64 // s) ** 2) for s in FACTS.strides]
        return [
            SimpleNamespace(name=name, shape=(*size, last))
            for last, kind in ((1, "score"), (4, "bbox"))
            for name, size in ((f"{kind}_{s}", z) for s, z in zip(FACTS.strides, sizes, strict=True))
        ]

    def infer(self, feeds, mode):
        assert mode == "static" and len(feeds) == 1 and feeds[0].flags.c_contiguous
        return [np.full(o.shape, i, np.float16) for i, o in enumerate(self.get_outputs())]


@pytest.fixture
def model_file(tmp_path, monkeypatch):
    interface = types.ModuleType("ais_bench.infer.interface")
    interface.InferSession = StandIn
    for name in ("ais_bench", "ais_bench.infer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ais_bench.infer.interface", interface)
    monkeypatch.setattr(StandIn, "opened", [])
    (tmp_path / "model.om").write_bytes(b"om")
    (tmp_path / "model.json").write_text(FACTS.to_json())
    return tmp_path / "model.om"


@pytest.mark.parametrize("provider", ["om", "auto"])
def test_an_om_file_is_a_model_like_any_other(model_file, provider):
    model = open_model(model_file, provider, device_id=3)
    assert StandIn.opened == [(3, str(model_file))]
    assert model.description == FACTS and model.providers == ["OMExecutionProvider"]
    assert (model.fixed_hw, model.fixed_batch, model.takes_single) == ((64, 64), 2, False)
    raw = model.run(np.zeros((2, 3, 64, 64), np.float32))
    assert [out.dtype for out in raw] == [np.float32] * 6
    levels = model.levels(raw)
    assert [level.scores.shape for level in levels] == [(2, 128, 1), (2, 32, 1), (2, 8, 1)]
    assert levels[1].bbox.max() == 4 and levels[0].kps is None


def test_a_file_without_its_description_is_known_by_its_outputs(model_file):
    model_file.with_suffix(".json").unlink()
    assert open_model(model_file).description.strides == (8, 16, 32)


def test_another_shape_is_one_line(model_file):
    with pytest.raises(
        ConfigError, match=r"fails on an input of \(1, 3, 64, 64\): the OM model takes \(2, 3"
    ):
        open_model(model_file).run(np.zeros((1, 3, 64, 64), np.float32))


def test_what_cannot_be_opened_says_why(model_file, monkeypatch):
    with pytest.raises(CheckpointError, match="none.om: no such file"):
        open_model(model_file.with_name("none.om"))
    broken = model_file.with_name("broken.om")
    broken.write_bytes(b"")
    with pytest.raises(DeviceError, match=r"broken.om cannot be opened on NPU 0 \(load model failed\)"):
        open_model(broken)
    monkeypatch.setattr(StandIn, "datatype", "uint8")
    with pytest.raises(CheckpointError, match=r"takes uint8 images \(AIPP\).*convert without --uint8"):
        open_model(model_file)
    monkeypatch.setitem(sys.modules, "ais_bench.infer.interface", None)
    with pytest.raises(DeviceError, match="needs Ascend's Python runtime .*install ais_bench and CANN"):
        open_model(model_file)


def test_an_om_model_stays_where_it_is(model_file):
    with pytest.raises(DeviceError, match="cannot move to CPUExecutionProvider; open the ONNX file there"):
        open_model(model_file).session.set_providers(["CPUExecutionProvider"])


def test_om_runs_om_files_only(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"provider om runs OM files, not .*a.onnx"):
        open_model(tmp_path / "a.onnx", "om")
