"""The seams: another family of detectors goes the whole way through the public tables alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import assert_same_state, make_options, train

from mmdet.apis import detect, init_detector
from mmdet.datasets.labels import read_labels
from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint
from mmdet.deploy.runtime.session import open_model

REPO = Path(__file__).resolve().parents[2]
CONFIG = """
_base_ = ["{repo}/configs/scrfd/scrfd_500m_bnkps.py"]
custom_imports = dict(imports=["second_family"])
model = dict(
    type="PriorDetector",
    bbox_head=dict(_delete_=True, type="TwoConvHead", in_channels=16, anchor_generator=dict(
        type="AnchorGenerator", ratios=[1.0], scales=[1, 2], base_sizes=[16, 64, 256], strides=[8, 16, 32])),
)
train_cfg = dict(_delete_=True, assigner=dict(type="IoUMatcher", iou_thr=0.35))
optimizer = dict(_delete_=True, type="AdamW", lr=0.003)
evaluation = dict(metric=["DetectionsPerFace"], save_best="per_face")
data = dict(
    train=dict(label_format="csv_lines", ann_file="{data}/train.csv", img_prefix="{faces}/train/images"),
    val=dict(label_format="csv_lines", ann_file="{data}/val.csv", img_prefix="{faces}/val/images"),
)
"""


@pytest.fixture(scope="module")
def config(faces, tmp_path_factory) -> Path:
    """Write the drawn faces in the family's own label format, and its config."""
    folder = tmp_path_factory.mktemp("second_family")
    for part in ("train", "val"):
        lines = [
            ",".join([record.name, *(f"{v:g}" for v in bbox)])
            for record in read_labels(faces / part / "labelv2.txt", train=False)
            for bbox in record.bboxes
        ]
        (folder / f"{part}.csv").write_text("\n".join(lines), encoding="utf-8")
    path = folder / "prior_detector.py"
    path.write_text(CONFIG.format(repo=REPO, data=folder, faces=faces), encoding="utf-8")
    return path


def run(config: Path, faces: Path, work_dir: Path, *options: str, **others) -> dict:
    made = make_options(REPO, faces, work_dir, "total_epochs=5", *options, **others)
    values = [option for option in made.cfg_options if not option.startswith("data_root")]
    return train(type(made)(**{**vars(made), "config": str(config), "cfg_options": values}))


@pytest.mark.slow
def test_it_trains_resumes_evaluates_and_exports(config, faces, tmp_path):
    figures = run(config, faces, tmp_path / "whole", max_iters=20)
    assert figures["iters"] == 20
    assert "per_face" in figures and figures["per_face"] >= 0
    log = next((tmp_path / "whole").glob("*.log.json")).read_text(encoding="utf-8").splitlines()
    losses = [record["loss_cls"] for record in map(json.loads, log) if record.get("mode") == "train"]
    assert np.mean(losses[len(losses) // 2 :]) < 0.8 * losses[0]

    run(config, faces, tmp_path / "torn", max_iters=11)
    run(config, faces, tmp_path / "torn", max_iters=20, resume_from="auto")
    assert_same_state(tmp_path / "whole/latest.pth", tmp_path / "torn/latest.pth")

    model = init_detector(config, tmp_path / "whole/latest.pth", device="cpu")
    image = np.full((128, 160, 3), 90, np.uint8)
    (found,) = detect(model, [image])
    assert found.kps is None and found.bboxes.shape[1] == 4

    onnx = tmp_path / "prior.onnx"
    export_checkpoint(config, tmp_path / "whole/latest.pth", onnx, ExportOptions(height=64, width=64))
    images = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        outputs = model(torch.from_numpy(images))
    opened = open_model(onnx)
    scores = np.concatenate([s.reshape(-1) for s in opened.run(images)[:3]])
    np.testing.assert_allclose(scores, model.scores(outputs).flatten().numpy(), atol=1e-5)
    assert json.loads(onnx.with_suffix(".json").read_text())["coder"]["type"] == "PriorCoder"
