"""Two classes and three keypoints on drawn faces, from labels to figures per class."""

import math
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from runs import make_options, train

from mmdet.checkpoint import files as checkpoint
from mmdet.deploy.cli.demo import load_finder
from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint
from mmdet.errors import MMDetError

CLASSES = "['mask','none']"


def relabel(path):
    """Keep three of five points; every second face is of the second class."""
    lines, count = [], 0
    for line in path.read_text().splitlines():
        words = line.split()
        if line[0] != "#" and len(words) == 19:
            count += 1
            line = " ".join([*words[:13], "0", str(count % 2)])
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def options(repo, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "data")
    for split in ("train", "val"):
        relabel(tmp_path / "data" / split / "labelv2.txt")
    sets = [
        f"data.{name}.{option}" for name in ("train", "val") for option in (f"classes={CLASSES}", "num_kps=3")
    ]
    changes = [*sets, "model.bbox_head.num_classes=2", "model.bbox_head.num_kps=3", "evaluation.metric=mAP"]
    flips = ["data.train.pipeline.4.flip_pairs=[[0,1]]", "total_epochs=1"]

    def make(*more):
        return make_options(repo, tmp_path / "data", tmp_path / "out", *changes, *flips, *more)

    return make


def test_figures_of_each_class(options, tmp_path, capsys):
    figures = train(options())
    assert {"AP50_mask", "AP50_none", "mAP"} <= set(figures)
    assert figures["mAP"] == pytest.approx((figures["AP50_mask"] + figures["AP50_none"]) / 2, abs=1e-6)
    losses = re.findall(r"loss_kps: ([\d.]+)", capsys.readouterr().out)
    assert losses and all(math.isfinite(float(loss)) for loss in losses)
    content = checkpoint.load(tmp_path / "out" / "latest.pth")
    assert content["meta"]["CLASSES"] == ("mask", "none")
    assert [
        tuple(v.shape)[0] for k, v in content["state_dict"].items() if "stride_kps" in k and "weight" in k
    ][0] == 12


def paint_masks(root):
    """Cover the lower half of the faces of class 0, so that there is something to tell classes by."""
    for header, *faces in blocks(root / "labelv2.txt"):
        path = root / "images" / header.split()[1]
        image = cv2.imread(str(path))
        for x1, y1, x2, y2 in [
            [int(float(word)) for word in face.split()[:4]] for face in faces if face.endswith(" 0 0")
        ]:
            image[(y1 + y2) // 2 : y2, x1:x2] = (200, 60, 30)
        cv2.imwrite(str(path), image)


def blocks(path):
    found = []
    for line in path.read_text().splitlines():
        if line[0] == "#":
            found.append([])
        found[-1].append(line)
    return found


@pytest.mark.slow
def test_from_labels_to_detections_of_two_classes(options, shared, tmp_path):
    """Learns eight images by heart from published weights, as far as they fit; then exports and detects."""
    data, out = tmp_path / "data", tmp_path / "out"
    paint_masks(data / "train")
    (weights,) = (shared / "data/scrfd_pth").glob("*.pth")
    same = [f"data.val.ann_file={data}/train/labelv2.txt", f"data.val.img_prefix={data}/train/images"]
    fixed = ["data.train.pipeline.2.crop_choice=[1.0]", "data.samples_per_gpu=8", "evaluation.interval=100"]
    adam = ["optimizer._delete_=True", "optimizer.type=AdamW", "optimizer.lr=0.002", "total_epochs=40"]
    run = replace(options(*same, *fixed, *adam), load_from=str(weights), load_fitting=True)
    figures = train(run)
    assert figures["AP50_mask"] > 0.1 and figures["AP50_none"] > 0.1, figures
    path, _ = export_checkpoint(
        out / "scrfd_500m_bnkps.py", out / "latest.pth", tmp_path / "m.onnx", ExportOptions()
    )
    find, classes = load_finder(str(path), None, 0.2, "cpu")
    found = [find(cv2.imread(str(image))) for image in sorted((data / "train/images").rglob("*.jpg"))]
    assert classes == ("mask", "none")
    assert set(np.concatenate([one.labels for one in found]).tolist()) == {0, 1}
    assert all(one.kps.shape == (len(one.bboxes), 3, 2) for one in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model.bbox_head.num_classes=1",
            "has faces of class 1 .'none'., but model.bbox_head.num_classes = 1",
        ),
        ("model.bbox_head.num_kps=5", "num_kps = 5, but data.train.num_kps = 3; take one"),
        ("data.train.num_kps=5", r"labelv2.txt:\d+: 15 values; .* if it has|15 values"),
        ("data.train.classes=['mask']", "class 1, but the classes are"),
    ],
)
def test_a_head_that_does_not_fit_the_labels_is_refused(options, tmp_path, change, message):
    with pytest.raises(MMDetError, match=message):
        train(options(change))
    assert not (tmp_path / "out").exists()


def test_a_missing_validation_image_is_named_before_training(options, tmp_path):
    """B21 of the shared cases: it once ended the run, and every resume, at the first evaluation."""
    sorted((tmp_path / "data/val/images").rglob("*.jpg"))[-1].unlink()
    with pytest.raises(
        MMDetError, match=r"images of .*labelv2.txt are missing, the first: .*--no-validate trains"
    ):
        train(options())
    assert not (tmp_path / "out").exists()
