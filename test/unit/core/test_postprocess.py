import pytest
import torch

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.coders import DistanceCoder
from mmdet.core.postprocess import Postprocess
from mmdet.core.structures import Outputs
from mmdet.errors import ConfigError

SIZES = ((2, 2), (1, 1))


class Model:
    """What post-processing asks of a detector; 4 + 1 anchors."""

    anchor_generator = AnchorGenerator(strides=[8, 16], ratios=[1.0], scales=[1])
    coder = DistanceCoder()

    def scores(self, outputs):
        return outputs.cls_logits.sigmoid()


FAR = -20.0  # logit of nothing


def make_outputs(logits, ltrb=2.0, kps=None):
    """One image; logits (5,) or (5, C)."""
    logits = torch.as_tensor(logits).reshape(1, 5, -1)
    return Outputs(logits, torch.full((1, 5, 4), ltrb), kps, None, SIZES)


def run(postprocess, outputs, img_hw=(640, 640), scale=(1.0, 1.0)):
    (detections,) = postprocess(Model(), outputs, [img_hw], [scale])
    return detections


def test_decode_clamp_and_scale():
    got = run(Postprocess(), make_outputs([FAR, 0.0, FAR, FAR, FAR]), img_hw=(10, 20), scale=(2.0, 0.5))
    # Anchor 1: centre (8, 0), 2 * 8 px to each side: (-8, -16, 24, 16), clamped to 20 x 10, divided.
    assert got.bboxes.tolist() == [[0, 0, 10, 20]]
    assert got.scores.tolist() == [0.5] and got.labels.tolist() == [0] and got.kps is None


def test_keypoints_are_decoded_like_boxes():
    kps = torch.zeros(1, 5, 10)
    kps[0, 4] = torch.tensor([1.0, 2, 0, 0, 0, 0, 0, 0, 9, -1])
    got = run(Postprocess(), make_outputs([FAR, FAR, FAR, FAR, 3.0], kps=kps), (100, 100), (0.5, 0.25))
    # Centre (0, 0), stride 16: (16, 32), ..., (144, -16) clamped to (100, 0); then divided.
    assert got.kps.shape == (1, 5, 2)
    assert got.kps[0, [0, 1, 4]].tolist() == [[32, 128], [0, 0], [200, 0]]


def test_score_threshold_is_strict():
    outputs = make_outputs([0.0, 0.1, -0.1, FAR, FAR], ltrb=0.1)
    assert len(run(Postprocess(score_thr=0.5), outputs).scores) == 1


def test_best_first_and_limited():
    outputs = make_outputs([1.0, 2.0, 3.0, 0.0, 4.0], ltrb=0.1)
    assert run(Postprocess(), outputs).bboxes[:, 0].round().tolist() == [0, 0, 7, 0, 7]
    assert len(run(Postprocess(max_per_img=2), outputs).scores) == 2
    assert len(run(Postprocess(max_per_img=9), outputs).scores) == 5


def test_nms_pre_is_per_level():
    outputs = make_outputs([1.0, 2.0, 3.0, 2.0, -1.0], ltrb=0.1)
    got = run(Postprocess(nms_pre=2), outputs)
    # Level 0 gives its best two; of the equal ones the lower index. Level 1 gives its only one.
    assert torch.logit(got.scores).tolist() == pytest.approx([3, 2, -1])
    assert got.bboxes[1].tolist() == pytest.approx([8 - 0.8, 0, 8 + 0.8, 0.8])


def test_duplicates_of_one_class_only():
    logits = torch.full((5, 2), FAR)
    logits[0, 0], logits[1, 0], logits[1, 1] = 3.0, 2.0, 1.0
    outputs = make_outputs(logits, ltrb=20.0)  # centres 8 px apart, boxes 320 px: IoU 0.95
    got = run(Postprocess(), outputs)
    assert got.labels.tolist() == [0, 1]
    assert len(run(Postprocess(iou_thr=0.96), outputs).labels) == 3


def test_nothing_found():
    got = run(Postprocess(), make_outputs([FAR] * 5, kps=torch.zeros(1, 5, 10)))
    assert got.bboxes.shape == (0, 4) and got.scores.shape == (0,) and got.kps.shape == (0, 5, 2)


def test_half_precision_outputs_are_decoded_in_fp32():
    got = run(Postprocess(), make_outputs(torch.zeros(5, dtype=torch.float16)))
    assert got.bboxes.dtype == got.scores.dtype == torch.float32


def test_from_a_published_test_cfg():
    cfg = dict(
        nms_pre=-1, min_bbox_size=0, score_thr=0.3, nms=dict(type="nms", iou_threshold=0.4), max_per_img=7
    )
    got = Postprocess.from_test_cfg(cfg)
    assert (got.score_thr, got.iou_thr, got.nms_pre, got.max_per_img) == (0.3, 0.4, -1, 7)
    assert Postprocess.from_test_cfg(None).score_thr == 0.02
    with pytest.raises(ConfigError, match="did you mean 'score_thr'"):
        Postprocess.from_test_cfg(dict(score_threshold=0.1))
    with pytest.raises(ConfigError, match="soft_nms"):
        Postprocess.from_test_cfg(dict(nms=dict(type="soft_nms")))
