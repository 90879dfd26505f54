"""Anchors, codec, elementwise losses and post-processing against the reference (golden G5)."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from mmdet.core import bbox as codec
from mmdet.core.anchors import AnchorGenerator
from mmdet.core.bbox import bbox_overlaps, pairwise_overlaps
from mmdet.core.coders import DistanceCoder
from mmdet.core.postprocess import Postprocess
from mmdet.core.structures import Outputs
from mmdet.models import losses
from mmdet.models.detectors import SCRFD

GENERATORS = {
    "scrfd": AnchorGenerator(strides=[8, 16, 32], base_sizes=[16, 64, 256], scales=[1, 2], ratios=[1.0]),
    "crowdhuman": AnchorGenerator(strides=[8, 16, 32, 64, 128], ratios=[2.0], scales=[3]),
}


@pytest.fixture(scope="module")
def arrays(golden):
    with np.load(golden / "g5_codec_losses_post.npz") as data:
        return {key: torch.tensor(data[key]) for key in data.files}


@pytest.fixture(scope="module")
def summary(golden):
    return json.loads((golden / "g5_summary.json").read_text())


@pytest.mark.parametrize("size_hw", [(640, 640), (480, 640)])
@pytest.mark.parametrize("tag", GENERATORS)
def test_anchors(tag, size_hw, arrays, summary):
    generator = GENERATORS[tag]
    name = f"{size_hw[0]}x{size_hw[1]}"
    shapes = [tuple(summary[f"anchors_{tag}"][f"{name}_stride{s}"]["featmap_hw"]) for s in generator.strides]
    grid = generator.grid(shapes)
    for stride, bboxes in zip(generator.strides, grid.bboxes.split(grid.level_sizes), strict=True):
        expected = summary[f"anchors_{tag}"][f"{name}_stride{stride}"]
        assert len(bboxes) == expected["n"]
        assert bboxes[:6].tolist() == expected["first6"]
        assert bboxes[-2:].tolist() == expected["last2"]
        if f"anchors_{tag}_{name}_s{stride}" in arrays:
            assert torch.equal(bboxes, arrays[f"anchors_{tag}_{name}_s{stride}"])


@pytest.mark.parametrize(
    "name,function,values",
    [
        ("distance2bbox", codec.distance2bbox, "codec_dist"),
        ("bbox2distance", codec.bbox2distance, "codec_boxes"),
        ("distance2kps", codec.distance2kps, "codec_kdist"),
        ("kps2distance", codec.kps2distance, "codec_kps"),
    ],
)
def test_codec(name, function, values, arrays):
    points, values = arrays["codec_points"], arrays[values]
    assert torch.equal(function(points, values), arrays[name])
    if name.startswith("distance2"):
        assert torch.equal(function(points, values, (480, 640)), arrays[f"{name}_max480x640"])
    else:
        close(function(points / 32, values / 32, 8), arrays[f"{name}_maxdis8"])


def test_overlaps(arrays):
    pred, target = arrays["iou_pred"], arrays["iou_target"]
    for mode in ("iou", "giou", "iof"):
        close(bbox_overlaps(pred, target, mode), arrays[f"bbox_overlaps_aligned_{mode}"])
    close(pairwise_overlaps(pred[:16], target[:16]), arrays["bbox_overlaps_matrix16x16"])


@pytest.mark.parametrize("name", ["IoULoss", "GIoULoss", "DIoULoss", "CIoULoss"])
def test_bbox_losses(name, arrays):
    """64 pairs, the first eight identical, disjoint, inverted or of zero size."""
    pred = arrays["iou_pred"].clone().requires_grad_()
    loss = getattr(losses, name)(loss_weight=2.0)(pred, arrays["iou_target"])
    loss.sum().backward()
    expected, expected_grad = arrays[f"{name}_none_lw2"], arrays[f"{name}_grad_of_sum_lw2"]
    # The reference's CIoU is 0 / 0 for the identical boxes of pair 0.
    defined = expected.isfinite()
    assert defined.sum() == (63 if name == "CIoULoss" else 64)
    close(loss[defined], expected[defined])
    close(pred.grad[defined], expected_grad[defined])
    assert loss[~defined].eq(0).all() and pred.grad.isfinite().all()


def test_quality_focal_loss(arrays):
    logits = arrays["qfl_logit"].clone().requires_grad_()
    quality = torch.where(arrays["qfl_label"] == 0, arrays["qfl_score"], 0)[:, None]
    loss = losses.QualityFocalLoss()(logits, quality)
    loss.sum().backward()
    close(loss[:, 0], arrays["qfl_none"])
    close(logits.grad, arrays["qfl_grad_of_sum"])


def test_smooth_l1_loss(arrays):
    pred = arrays["sl1_pred"].clone().requires_grad_()
    loss = losses.SmoothL1Loss(beta=1 / 9, loss_weight=0.1)(pred, arrays["sl1_target"])
    loss.sum().backward()
    close(loss, arrays["sl1_none_lw0.1"])
    close(pred.grad, arrays["sl1_grad_of_sum"])


def test_distribution_focal_loss(arrays):
    logits = arrays["dfl_pred"].clone().requires_grad_()
    loss = losses.DistributionFocalLoss(loss_weight=0.25)(logits, arrays["dfl_target"])
    loss.sum().backward()
    close(loss, arrays["dfl_none_lw0.25"])
    close(logits.grad, arrays["dfl_grad_of_sum"])


POST_CASES = [
    (config, add, options)
    for config in ("scrfd_10g_bnkps", "scrfd_10g")
    for add in (0, 2)
    for options in ("thr0.02_iou0.45_pre-1_max-1", "thr0.6_iou0.45_pre-1_max-1", "thr0.5_iou0.3_pre300_max50")
]


@pytest.mark.parametrize("config,add,options", POST_CASES)
def test_postprocess(config, add, options, golden, arrays):
    score_thr, iou_thr, nms_pre, max_per_img = (
        float(v) for v in re.fullmatch(r"thr(.*)_iou(.*)_pre(.*)_max(.*)", options).groups()
    )
    postprocess = Postprocess(
        score_thr=score_thr, iou_thr=iou_thr, nms_pre=int(nms_pre), max_per_img=int(max_per_img)
    )
    outputs = stored_outputs(golden / f"g2_{config}.npz", add)
    model = SCRFD(
        backbone=nn.Identity(),
        neck=nn.Identity(),
        bbox_head=nn.Identity(),
        anchor_generator=GENERATORS["scrfd"],
        coder=DistanceCoder(),
    )
    # Image 1 lies, as 200 x 300 pixels, at half scale in the top left of its input.
    found = postprocess(model, outputs, [(256, 320), (200, 300)], [(1.0, 1.0), (0.5, 0.5)])
    for image, detections in enumerate(found):
        expected = arrays[f"post_{config}_regadd{add}_{options}_img{image}"]
        got = torch.cat((detections.bboxes, detections.scores[:, None]), dim=1)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-3)
        assert (detections.labels == 0).all()


def stored_outputs(path, add):
    """Build the head's flat outputs from the raw maps of golden G2."""
    with np.load(path) as maps:
        cls, bbox = ([torch.tensor(maps[f"{part}_{s}"]) for s in (8, 16, 32)] for part in ("cls", "bbox"))

    def flat(levels, width):
        return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in levels], dim=1)

    sizes = tuple((m.shape[2], m.shape[3]) for m in cls)
    return Outputs(flat(cls, 1), flat(bbox, 4) + add, None, None, sizes)


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
