"""Weights of an ONNX file find their layers: exported from random weights, read back, same outputs."""

import copy

import onnx
import pytest
import torch
from torch import nn

from mmdet.apis import init_detector
from mmdet.deploy.export.convert import convert
from mmdet.deploy.export.export_onnx import ExportModule, ExportOptions, describe, export_module
from mmdet.deploy.export.onnx_weights import load_onnx_weights
from mmdet.errors import CheckpointError
from mmdet.models.layers import Scale

FAST = ("scrfd_500m", "scrfd_500m_bnkps", "scrfd_2.5g")
SLOW = ("scrfd_1g", "scrfd_2.5g_bnkps", "scrfd_10g", "scrfd_10g_bnkps", "scrfd_34g")


def make_model(name, seed):
    """Return a model in which no two layers have the same values, and all of them reach the outputs.

    (The heads' own initialisation, normal with 0.01, lets next to nothing through.)
    """
    torch.manual_seed(seed)
    model = init_detector(f"configs/scrfd/{name}.py", device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.2, 0.2)
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, Scale):
            nn.init.uniform_(module.scale, 0.5, 1.5)
    return model


def export(model, path, **options):
    side = max(64, *model.bbox_head.strides)
    chosen = ExportOptions(side, side, opset=11, **options)
    export_module(ExportModule(model, describe(model, chosen)), path, chosen)
    return path


def raw(model):
    with torch.no_grad():
        cls, bbox, kps = model.raw(torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) - 0.5)
    return [m for m in (*cls, *bbox, *kps) if m is not None]


@pytest.mark.parametrize("simplify", [False, True], ids=["plain", "simplified"])
@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_round_trip_gives_the_same_outputs(tmp_path, name, simplify):
    model, other = make_model(name, seed=1), make_model(name, seed=2)
    wanted, before = raw(model), raw(other)
    assert max(float((a - b).abs().max()) for a, b in zip(wanted, before, strict=True)) > 1
    report = load_onnx_weights(other, export(model, tmp_path / "a.onnx", simplify=simplify))
    for found, want in zip(raw(other), wanted, strict=True):
        assert float((found - want).abs().max()) <= 1e-4 * float(want.abs().max())
    keys = [
        key for key in other.state_dict() if not key.endswith(("num_batches_tracked", "integral.project"))
    ]
    assert sorted(report.by_name + report.by_order) == sorted(keys)
    assert not [key for key in report.kept if not key.endswith("integral.project")]


@pytest.mark.slow
def test_a_file_of_another_model_is_refused(tmp_path):
    path = export(make_model("scrfd_500m_bnkps", 1), tmp_path / "a.onnx")
    for config in ("scrfd_500m", "scrfd_2.5g_bnkps"):
        with pytest.raises(CheckpointError, match="of another config"):
            convert(path, tmp_path / "b.pth", f"configs/scrfd/{config}.py")
    assert not (tmp_path / "b.pth").exists()


def test_a_changed_weight_is_found_by_running_both(tmp_path, monkeypatch):
    """The comparison after the conversion is no ornament: a wrong value in one layer is seen."""
    path = export(make_model("scrfd_500m_bnkps", 1), tmp_path / "a.onnx")

    def load_wrongly(model, source):
        report = load_onnx_weights(model, source)
        model.state_dict()["neck.fpn_convs.0.conv.weight"].mul_(1.1)
        return report

    monkeypatch.setattr("mmdet.deploy.export.convert.load_onnx_weights", load_wrongly)
    with pytest.raises(CheckpointError, match="the converted model differ by"):
        convert(path, tmp_path / "b.pth", "configs/scrfd/scrfd_500m_bnkps.py")
    assert not (tmp_path / "b.pth").exists()


@pytest.mark.parametrize("content", [b"", b"garbage " * 9])
def test_no_onnx_file_is_one_line(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(
        CheckpointError, match="a.onnx (cannot be read as an ONNX file|has 0 convolutions)"
    ) as caught:
        convert(tmp_path / "a.onnx", tmp_path / "b.pth", "configs/scrfd/scrfd_500m_bnkps.py")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_with_nms_is_refused_by_name(tmp_path):
    path = export(make_model("scrfd_500m_bnkps", 1), tmp_path / "a.onnx", with_nms=True)
    with pytest.raises(CheckpointError, match="--with-nms; convert one without|of another config"):
        convert(path, tmp_path / "b.pth", "configs/scrfd/scrfd_500m_bnkps.py")


@pytest.mark.slow
def test_class_names_come_along(tmp_path):
    model = make_model("scrfd_500m_bnkps", 1)
    model.CLASSES = ("helmet",)
    export(model, tmp_path / "a.onnx")
    convert(tmp_path / "a.onnx", tmp_path / "b.pth", "configs/scrfd/scrfd_500m_bnkps.py")
    assert torch.load(tmp_path / "b.pth", weights_only=True)["meta"]["CLASSES"] == ("helmet",)
    convert(tmp_path / "b.pth", tmp_path / "c.onnx", "configs/scrfd/scrfd_500m_bnkps.py")
    (properties,) = onnx.load(tmp_path / "c.onnx").metadata_props
    assert '"helmet"' in properties.value


@pytest.mark.slow
def test_half_precision_files_are_compared_as_such(tmp_path):
    model = make_model("scrfd_500m_bnkps", 1)
    options = ExportOptions(64, 64, half=True)
    half = ExportModule(copy.deepcopy(model).half(), describe(model, options))
    export_module(half, tmp_path / "a.onnx", options)
    lines = convert(tmp_path / "a.onnx", tmp_path / "b.pth", "configs/scrfd/scrfd_500m_bnkps.py")
    assert 1e-5 < float(lines[2].split()[-1]) < 0.01
