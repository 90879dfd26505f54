"""ONNX files: names, shapes, description, and the same numbers as torch, over options and configs."""

import copy
import json
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mmdet.apis import init_detector
from mmdet.deploy import SCRFD
from mmdet.deploy.export import export_onnx as export_module_file
from mmdet.deploy.export.export_onnx import (
    ExportModule,
    ExportOptions,
    describe,
    export_checkpoint,
    export_module,
    suited_copy,
)
from mmdet.deploy.export.verify import Parity, _compare, make_images, verify
from mmdet.deploy.runtime.session import open_model
from mmdet.errors import CheckpointError, ConfigError, DeviceError, WriteError
from mmdet.models.layers import Scale

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
NAMES = ["score_8", "score_16", "score_32", "bbox_8", "bbox_16", "bbox_32", "kps_8", "kps_16", "kps_32"]
SMALL = ((64, 64), (96, 160))


def make_model(config, **options):
    """Return a detector whose outputs depend on the input, which those of an untrained one hardly do."""
    torch.manual_seed(0)
    model = init_detector(config, device="cpu", cfg_options=options)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            # The last one of a residual block starts at 0. Far above, depth multiplies rounding errors.
            low, high = (0.5, 1.5) if module.weight.any() else (0.1, 0.3)
            nn.init.uniform_(module.weight, low, high)
            module.momentum = 1.0  # the next batch's statistics replace the running ones
        if isinstance(module, Scale):
            nn.init.uniform_(module.scale, 0.5, 1.5)
        if "bbox_head" in name and isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if ".stride_" in name and isinstance(module, nn.Conv2d):
            module.weight.data *= 0.2
            # Some scores are high, and boxes have their corners in order, about 4 strides wide.
            nn.init.constant_(module.bias, {"cls": -1, "reg": 2, "kps": 0}[name.split("stride_")[1][:3]])
    with torch.no_grad():
        model.train().raw(torch.from_numpy(make_images(2, (256, 256), seed=5)))
    return model.eval()


def export(model, path, options):
    """Return the module to compare the file with."""
    facts = describe(model, options)
    export_module(ExportModule(suited_copy(model, options), facts, options.batch_axis), path, options)
    return ExportModule(model, facts, options.batch_axis)


@pytest.fixture(scope="module")
def model(repo):
    return make_model(repo / CONFIG)


def shapes(values):
    return {value.name: value.shape for value in values}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "image", "score_8", "kps_32"),
    [
        (ExportOptions(dynamic_batch=True), ["N", 3, "H", "W"], ["N", "A_8", 1], ["N", "A_32", 10]),
        (ExportOptions(), [1, 3, "H", "W"], [1, "A_8", 1], [1, "A_32", 10]),
        (ExportOptions(batch_axis=False), [1, 3, "H", "W"], ["A_8", 1], ["A_32", 10]),
        (ExportOptions(64, 96), [1, 3, 64, 96], [1, 192, 1], [1, 12, 10]),
        (ExportOptions(64, 96, batch_axis=False), [1, 3, 64, 96], [192, 1], [12, 10]),
        (ExportOptions(64, 96, dynamic_batch=True), ["N", 3, 64, 96], ["N", 192, 1], ["N", 12, 10]),
    ],
    ids=["open", "one", "flat", "fixed", "fixed_flat", "fixed_many"],
)
def test_names_shapes_and_numbers(model, tmp_path, options, image, score_8, kps_32):
    module = export(model, tmp_path / "a.onnx", options)
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    inputs, outputs = shapes(session.get_inputs()), shapes(session.get_outputs())
    assert inputs == {"input.1": image} and list(outputs) == NAMES
    assert outputs["score_8"] == score_8 and outputs["kps_32"] == kps_32
    sizes = SMALL if options.is_dynamic else ((64, 96),)
    results = verify(tmp_path / "a.onnx", module, options, sizes)
    batches = (1, 3) if options.dynamic_batch else (1,)
    assert [parity.shape for parity in results] == [(n, 3, *hw) for hw in sizes for n in batches]
    assert all(parity.score <= 1e-4 and parity.distance <= 1e-4 for parity in results)


def test_numbers_depend_on_the_input(model):
    """Else the comparison with torch would see nothing."""
    module = ExportModule(model, describe(model, ExportOptions()))
    with torch.no_grad():
        one, other = (module(torch.from_numpy(make_images(1, (64, 64), seed))) for seed in (0, 1))
    for name, a, b in zip(NAMES, one, other, strict=True):
        assert (a - b).abs().max() > 0.01, name


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(64, 64, simplify=True),
        ExportOptions(simplify=True, dynamic_batch=True),
        ExportOptions(merge_heads=True, dynamic_batch=True, simplify=True),
        *(ExportOptions(64, 64, opset=opset) for opset in (11, 13, 20)),
        *(
            pytest.param(ExportOptions(opset=opset, dynamic_batch=True), marks=pytest.mark.slow)
            for opset in (11, 12, 14, 15, 16, 18, 19)
        ),
    ],
    ids=str,
)
def test_options_leave_the_numbers(model, tmp_path, options):
    module = export(model, tmp_path / "a.onnx", options)
    assert len(verify(tmp_path / "a.onnx", module, options, SMALL)) >= 1
    graph = onnx.load(str(tmp_path / "a.onnx"))
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [options.opset]
    widths = {tensor.dims[0] for tensor in graph.graph.initializer if len(tensor.dims) == 4}
    assert (30 in widths) == options.merge_heads and (20 in widths) != options.merge_heads


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model.bbox_head.cls_reg_share": False},
        {"model.bbox_head.use_kps": False},
        {"model.bbox_head.scale_mode": 2, "model.bbox_head.strides_share": True},
    ],
    ids=["plain", "two_towers", "no_keypoints", "scales"],
)
def test_merged_predictors_give_the_same_maps(repo, options):
    other = make_model(repo / CONFIG, **options)
    images = torch.from_numpy(make_images(1, (64, 64)))
    merged = suited_copy(other, ExportOptions(merge_heads=True))
    heads = {name: m for name, m in merged.bbox_head.named_modules() if name.startswith("stride_")}
    alone: list[str] = []
    for name, module in heads.items():
        module.register_forward_hook(lambda *_, name=name: alone.append(name))
    with torch.no_grad():
        for got, want in zip(merged.raw(images), other.raw(images), strict=True):
            for a, b in zip(got, want, strict=True):
                assert (a is None and b is None) or torch.allclose(a, b, atol=1e-5)
    assert all(name.startswith("stride_cls") for name in alone)
    assert bool(alone) == (not other.bbox_head.cls_reg_share)


def test_half_precision(model, tmp_path):
    options = ExportOptions(64, 64, half=True)
    module = export(model, tmp_path / "a.onnx", options)
    graph = onnx.load(str(tmp_path / "a.onnx")).graph
    kinds = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert set(ends) == {onnx.TensorProto.FLOAT}
    model_file = open_model(tmp_path / "a.onnx", "cpu")
    assert model_file.description.precision == "fp16"
    images = make_images(1, (64, 64))
    with torch.no_grad():
        want = module(torch.from_numpy(images))
    scores = model_file.run(images)[0]
    assert 1e-7 < np.abs(scores - want[0].numpy()).max() < 0.05


def test_the_description_says_what_one_must_know(model, tmp_path):
    export(model, tmp_path / "a.onnx", ExportOptions(64, 64))
    text = (tmp_path / "a.json").read_text()
    facts = json.loads(text)
    assert facts["strides"] == [8, 16, 32] and facts["num_anchors"] == 2 and facts["num_kps"] == 5
    assert facts["anchors"] == [[[16, 16], [32, 32]], [[64, 64], [128, 128]], [[256, 256], [512, 512]]]
    assert facts["mean"] == [127.5] * 3 and facts["std"] == [128.0] * 3 and facts["channels"] == "RGB"
    assert facts["classes"] == ["face"] and facts["outputs"] == NAMES and facts["nms"] is None
    assert facts["config"] == "scrfd_500m_bnkps" and facts["precision"] == "fp32"
    inside = {prop.key: prop.value for prop in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert inside == {"scrfd": text}
    assert open_model(tmp_path / "a.onnx", "cpu").description == describe(model, ExportOptions(64, 64))


def test_several_classes_and_distributions(repo, tmp_path):
    """Two classes, and boxes as distributions over 0..8 strides (DFL), which the graph integrates."""
    head = {"num_classes": 2, "loss_dfl": True}
    other = make_model(repo / CONFIG, **{f"model.bbox_head.{key}": value for key, value in head.items()})
    other.CLASSES = ("face", "mask")
    options = ExportOptions(dynamic_batch=True)
    verify(tmp_path / "a.onnx", export(other, tmp_path / "a.onnx", options), options, SMALL)
    detector = SCRFD(tmp_path / "a.onnx", provider="cpu")
    assert detector.classes == ("face", "mask")
    raw = detector.model.run(make_images(2, (64, 64)))
    assert raw[0].shape == (2, 128, 2) and raw[3].shape == (2, 128, 4)
    assert 0 <= raw[3].min() and raw[3].max() <= 8
    other.CLASSES = ("FG",)  # the number does not fit
    assert describe(other, options).classes == ("class_0", "class_1")


def test_the_only_class_of_published_checkpoints_is_called_face(model):
    other = copy.copy(model)
    other.CLASSES = ("FG",)
    assert describe(other, ExportOptions()).classes == ("face",)


def test_nms_in_the_graph_is_that_of_the_test_config(repo, tmp_path):
    other = make_model(repo / CONFIG, **{"test_cfg.score_thr": 0.3, "test_cfg.nms.iou_threshold": 0.3})
    options = ExportOptions(dynamic_batch=True, with_nms=True)
    module = export(other, tmp_path / "a.onnx", options)
    verify(tmp_path / "a.onnx", module, options, SMALL)
    session = open_model(tmp_path / "a.onnx", "cpu")
    assert [out.name for out in session.session.get_outputs()] == [
        "bboxes", "scores", "labels", "image_index", "kps",
    ]  # fmt: skip
    images = make_images(2, (96, 160))
    bboxes, scores, labels, image_index, kps = session.run(images)
    with torch.no_grad():
        outputs = other(torch.from_numpy(images))
    assert len(scores) > 20 and set(image_index) == {0, 1} and not labels.any()
    for number in (0, 1):
        rows = slow_faces(outputs, number, (96, 160), score_thr=0.3, iou_thr=0.3)
        mine = image_index == number
        got = np.concatenate((bboxes, scores[:, None], kps.reshape(-1, 10)), axis=1)[mine]
        np.testing.assert_allclose(got[np.argsort(-got[:, 4], kind="stable")], rows, atol=1e-3)


def slow_faces(outputs, number, hw, score_thr, iou_thr):
    """Decode one anchor after the other, then compare every pair; rows of box, score, points."""
    scores, ltrb, offsets = (
        array[number].numpy().astype(float)
        for array in (outputs.cls_logits.sigmoid(), outputs.bbox_pred, outputs.kps_pred)
    )
    rows, anchor = [], 0
    for stride in (8, 16, 32):
        for i in range(hw[0] // stride):
            for j in range(hw[1] // stride):
                for _ in range(2):
                    left, top, right, bottom = ltrb[anchor] * stride
                    x, y = j * stride, i * stride
                    points = offsets[anchor] * stride + [x, y] * 5
                    rows.append([x - left, y - top, x + right, y + bottom, scores[anchor, 0], *points])
                    anchor += 1
    kept = []
    for row in sorted((row for row in rows if row[4] > score_thr), key=lambda row: -row[4]):
        if all(plain_iou(row, other) <= iou_thr for other in kept):
            kept.append(row)
    return np.array(kept)


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def test_nms_thresholds_may_be_given(model, tmp_path):
    options = ExportOptions(64, 64, with_nms=True, score_thr=0.9, iou_thr=0.1)
    assert describe(model, options).nms == {"score_threshold": 0.9, "iou_threshold": 0.1}
    assert describe(model, ExportOptions(with_nms=True)).nms == {
        "score_threshold": 0.02,
        "iou_threshold": 0.45,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 10}, "--opset 10: from 11 to 20"),
        ({"opset": 21}, "--opset 21: from 11 to 20"),
        ({"height": 16, "width": 64}, "--shape 16 64: at least 32 each, or -1 -1"),
        ({"height": -1, "width": 64}, "--shape -1 64: -1 for both or for none"),
        ({"height": 0, "width": 0}, "--shape 0 0: at least 32"),
        ({"with_nms": True, "score_thr": 50}, "--score-thr 50: give a value from 0 to 1"),
        ({"with_nms": True, "iou_thr": -1}, "--nms-thr -1: give a value from 0 to 1"),
        ({"score_thr": 0.5}, "--score-thr 0.5 is for NMS inside the graph; add --with-nms"),
        ({"iou_thr": 0.0}, "--nms-thr 0.0 is for NMS inside the graph; add --with-nms"),
        ({"batch_axis": False, "dynamic_batch": True}, "--no-batch-axis .* cannot go with --dynamic-batch"),
        ({"batch_axis": False, "with_nms": True}, "--no-batch-axis .* cannot go with --with-nms"),
    ],
)
def test_what_cannot_be_exported(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ExportOptions(**arguments)


def test_verify_sees_a_wrong_weight(model, tmp_path):
    options = ExportOptions(64, 64)
    module = export(model, tmp_path / "a.onnx", options)
    graph = onnx.load(str(tmp_path / "a.onnx"))
    tensor = next(t for t in graph.graph.initializer if t.dims == [20])  # a bias of the keypoints
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3] += 2e-4
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, str(tmp_path / "a.onnx"))
    with pytest.raises(
        CheckpointError, match=r"disagrees with torch at input \(1, 3, 64, 64\).*distances by 0.000[12]"
    ):
        verify(tmp_path / "a.onnx", module, options)


def test_verify_is_relative_where_values_are_large(model, tmp_path):
    options, want = ExportOptions(64, 64), np.full((1, 4), 11_095.0, np.float32)
    names = describe(model, options).output_names()
    outputs = [want if name.startswith(("bbox", "kps")) else np.ones((1, 1), np.float32) for name in names]
    changed = [output + 0.01 * (name.startswith("bbox")) for name, output in zip(names, outputs, strict=True)]
    parity = _compare((1, 3, 64, 64), outputs, changed, describe(model, options))
    assert parity.largest == 11_095
    assert parity.distance == pytest.approx(0.01 / 110.95, rel=0.1) and parity.fits("fp32")
    small = [output / 200 for output in outputs]  # 55 strides: absolute
    parity = _compare((1, 3, 64, 64), small, [output + 2e-4 for output in small], describe(model, options))
    assert parity.distance == pytest.approx(2e-4, rel=0.1) and not parity.fits("fp32")


def test_verify_sees_other_shapes(model, tmp_path):
    options = ExportOptions(64, 64)
    export(model, tmp_path / "a.onnx", ExportOptions(64, 64, batch_axis=False))
    with pytest.raises(CheckpointError, match="output shapes"):
        verify(tmp_path / "a.onnx", ExportModule(model, describe(model, options)), options)
    with pytest.raises(ConfigError, match="--fp16 --with-nms"):
        verify(tmp_path / "a.onnx", None, ExportOptions(with_nms=True, half=True))


def test_tolerance():
    assert Parity((1,), 1e-4, 1e-4).fits("fp32") and not Parity((1,), 1.1e-4, 0).fits("fp32")
    assert Parity((1,), 0.01, 0.1).fits("fp16") and not Parity((1,), 0.01, 0.3).fits("fp16")
    assert not Parity((1,), 0, 0, "shapes").fits("fp16") and not Parity((1,), np.nan, 0).fits("fp32")


@pytest.mark.parametrize(("module_name", "options"), [("onnx", {}), ("onnxslim", {"simplify": True})])
def test_missing_packages(model, tmp_path, monkeypatch, module_name, options):
    monkeypatch.setitem(sys.modules, module_name, None)
    with pytest.raises(DeviceError, match=r"export needs another package .*\[onnx\]"):
        export(model, tmp_path / "a.onnx", ExportOptions(64, 64, **options))


def test_a_failure_leaves_an_existing_file(model, tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_text("before")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", fail)
    with pytest.raises(WriteError, match="a.onnx cannot be written: No space left on device"):
        export(model, tmp_path / "a.onnx", ExportOptions(64, 64))
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"] and (
        tmp_path / "a.onnx"
    ).read_text() == "before"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_full_disk_leaves_both_files_as_they_were(model, tmp_path, share):
    """Files of at most so many bytes stand for a disk that is full there."""
    import resource

    export(model, tmp_path / "a.onnx", ExportOptions(64, 64))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * len(before["a.onnx"])), kept[1]))
    try:
        with pytest.raises(WriteError, match=r"a.onnx cannot be written: File too large$"):
            export(model, tmp_path / "a.onnx", ExportOptions(64, 96))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_normalization_comes_from_the_test_pipeline(model, caplog):
    assert export_module_file._normalization({}) == {} and "no Normalize" in caplog.text
    step = {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "to_rgb": False}
    nested = {"pipeline": [{"type": "MultiScaleFlipAug", "transforms": [{"type": "Resize"}, step]}]}
    want = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0), "channels": "BGR"}
    assert export_module_file._normalization(nested) == want


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "a.pth"
    torch.save({"meta": {"CLASSES": ("face",)}, "state_dict": model.state_dict()}, path)
    return path


def test_the_tool_exports_and_verifies(run_tool, repo, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_tool("scrfd2onnx", repo / CONFIG, checkpoint, "--shape", 64, "--verify")
    assert code == 0 and err == ""
    first, second = out.splitlines()
    assert first == "wrote scrfd_500m_bnkps_64x64.onnx and scrfd_500m_bnkps_64x64.json"
    parity = re.fullmatch(r"verified 1x3x64x64: max abs error (\S+) scores, (\S+) strides", second)
    assert float(parity[1]) <= 1e-4 and float(parity[2]) <= 1e-4
    assert {p.name for p in tmp_path.iterdir()} == {
        "scrfd_500m_bnkps_64x64.onnx",
        "scrfd_500m_bnkps_64x64.json",
    }


@pytest.mark.slow
def test_verifying_boxes_says_how_many_faces_were_compared(run_tool, repo, checkpoint, tmp_path):
    args = (repo / CONFIG, checkpoint, "--output-file", tmp_path / "c.onnx")
    args += ("--overwrite", "--shape", 64, 64, "--with-nms", "--verify", "--score-thr")
    code, out, _ = run_tool("scrfd2onnx", *args, 0)
    assert code == 0 and int(re.search(r", (\d+) faces$", out)[1]) > 10
    code, out, _ = run_tool("scrfd2onnx", *args, 0.999)
    assert code == 0 and ", 0 faces\nno face was found in noise" in out


@pytest.mark.slow
def test_the_tool_passes_its_options_on(run_tool, repo, checkpoint, tmp_path):
    path = tmp_path / "sub" / "b.onnx"
    args = (
        "--dynamic-batch --simplify --opset 18 --with-nms --score-thr 0.5 --nms-thr 0.4 --fp16 --merge-heads"
    )
    code, out, _ = run_tool("scrfd2onnx", repo / CONFIG, checkpoint, "--output-file", path, *args.split())
    assert code == 0 and out == f"wrote {path} and b.json\n"
    found = open_model(path, "cpu")
    assert found.fixed_batch is None and found.fixed_hw is None and found.description.precision == "fp16"
    assert found.description.nms == {"score_threshold": 0.5, "iou_threshold": 0.4}
    assert onnx.load(str(path)).opset_import[0].version == 18


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{config}", "none.pth"], "CheckpointError: .*none.pth"),
        (
            ["{checkpoint}", "{config}"],
            "ConfigError: .* holds weights and is no config; were CONFIG",
        ),
        (["none.py", "{checkpoint}"], "ConfigError: .*none.py"),
        (["configs/scrfd/scrfd_2.5g.py", "{checkpoint}"], "CheckpointError: "),
        (["{config}", "{checkpoint}", "--opset", "9"], "ConfigError: --opset 9: from 11 to 20"),
        (["{config}", "{checkpoint}", "--shape", "1", "2", "3"], "ConfigError: --shape 1 2 3: one or two"),
        (["{config}", "{checkpoint}", "--shape", "16"], "ConfigError: --shape 16 16: at least 32 each"),
        (
            ["{config}", "{checkpoint}", "--shape", "64", "--output-file", "/proc/a.onnx"],
            "WriteError: /proc/a",
        ),
        (
            ["{config}", "{checkpoint}", "--output-file", "m/x.json"],
            "ConfigError: --output-file m/x.json: ",
        ),
        (
            ["{config}", "{checkpoint}", "--shape", "641", "641"],
            "ConfigError: --shape 641 641: both must be multiples of 32, the largest stride; "
            "nearest: height 640 or 672, width 640 or 672\n",
        ),
        (
            ["{config}", "{checkpoint}", "--shape", "96", "100"],
            "ConfigError: --shape 96 100: .*; nearest: height 96, width 96 or 128\n",
        ),
    ],
)
def test_mistakes_end_with_one_line(run_tool, repo, checkpoint, monkeypatch, args, message):
    monkeypatch.chdir(repo)
    code, out, err = run_tool("scrfd2onnx", *(a.format(config=CONFIG, checkpoint=checkpoint) for a in args))
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and re.match(message, err), err


def face_configs():
    from pathlib import Path

    return sorted(path.stem for path in (Path(__file__).resolve().parents[4] / "configs/scrfd").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", face_configs())
@pytest.mark.parametrize("hw", [(-1, -1), (128, 256)], ids=["open", "fixed"])
def test_every_face_config(repo, tmp_path, name, hw):
    """Also simplified and with merged predictors in the open case, plain in the fixed one."""
    is_open = hw == (-1, -1)
    options = ExportOptions(*hw, dynamic_batch=is_open, simplify=is_open, merge_heads=is_open)
    model = make_model(repo / f"configs/scrfd/{name}.py")
    module = export(model, tmp_path / "a.onnx", options)
    results = verify(tmp_path / "a.onnx", module, options, ((64, 96), (160, 128)))
    assert len(results) == (4 if is_open else 1)
    assert describe(model, options).strides == open_model(tmp_path / "a.onnx", "cpu").description.strides


def test_checkpoint_to_file_and_back_to_faces(repo, checkpoint, tmp_path):
    path, module = export_checkpoint(repo / CONFIG, checkpoint, tmp_path / "a.onnx", ExportOptions(96, 96))
    assert path == tmp_path / "a.onnx" and isinstance(module, ExportModule)
    image = np.random.RandomState(0).randint(0, 256, (96, 96, 3)).astype(np.uint8)
    bboxes, kps = SCRFD(path, provider="cpu").detect(image, thresh=0.1)
    assert len(bboxes) > 3 and kps.shape == (len(bboxes), 5, 2)


@pytest.mark.parametrize("whose", ["torch", "the file"])
def test_verify_names_what_is_not_finite(model, tmp_path, whose):
    """A file of NaN differs from nothing: max(0.0, nan) is 0.0, and `nan > tolerance` is False."""
    options = ExportOptions(64, 64)
    module = export(model, tmp_path / "a.onnx", options)
    broken = copy.deepcopy(model)
    next(broken.parameters()).data[0] = float("nan")
    if whose == "torch":
        module = ExportModule(broken, describe(model, options))
    else:
        export(broken, tmp_path / "a.onnx", options)
    with pytest.raises(CheckpointError, match=f"values of {whose}'s output score_8 are not finite"):
        verify(tmp_path / "a.onnx", module, options)
