import numpy as np
import pytest
import torch

from mmdet.core.bbox import pairwise_overlaps
from mmdet.core.nms import batched_nms, nms


def oracle(bboxes, scores, iou_thr):
    """One box at a time, best first."""
    overlaps = (pairwise_overlaps(bboxes, bboxes) > iou_thr).tolist()
    left, keep = scores.argsort(descending=True, stable=True).tolist(), []
    while left:
        best = left.pop(0)
        keep.append(best)
        left = [i for i in left if not overlaps[best][i]]
    return keep


def boxes(count, spread, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=generator) * spread
    half = (torch.rand(count, 2, generator=generator) + 0.5) * size / 2
    scores = torch.rand(count, generator=generator).mul(50).round() / 50  # many ties
    return torch.cat((center - half, center + half), dim=1), scores


def test_by_hand():
    bboxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30], [0, 5, 10, 15]])
    scores = torch.tensor([0.5, 0.9, 0.1, 0.8])
    # 1 beats 0 (IoU 10 / 11); 3 has IoU 6 / 15 with 1 and stays
    assert nms(bboxes, scores, 0.45).tolist() == [1, 3, 2]
    assert nms(bboxes, scores, 0.3).tolist() == [1, 2]


def test_threshold_is_strict_and_ties_go_to_the_lower_index():
    bboxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]])
    assert nms(bboxes, torch.full((3,), 0.7), 0.5).tolist() == [0, 1]
    assert nms(bboxes, torch.full((3,), 0.7), 0.49).tolist() == [0]


def test_inverted_and_empty_boxes_stay():
    bboxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 1, 1]])
    assert nms(bboxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.3).tolist() == [0, 1, 2, 3]


def test_nothing_in_nothing_out():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert (
        batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []
    )


@pytest.mark.parametrize("count,spread,size", [(1, 100, 20), (64, 60, 20), (65, 60, 20), (300, 100, 30)])
@pytest.mark.parametrize("iou_thr", [0.0, 0.45, 1.0])
def test_equals_the_oracle(count, spread, size, iou_thr):
    bboxes, scores = boxes(count, spread, size)
    assert nms(bboxes, scores, iou_thr).tolist() == oracle(bboxes, scores, iou_thr)


@pytest.mark.parametrize("iou_thr", [0.0, 0.3, 0.7, 1.0])
def test_both_ways_agree(monkeypatch, iou_thr):
    # Scattered boxes take the sweep; forbidding it must not change it. A few are wide, high, inverted.
    bboxes, scores = boxes(3000, 640, 16)
    bboxes[:150, 2] += 60
    bboxes[100:200, 3] += 60
    bboxes[250:260] = bboxes[250:260, [2, 1, 0, 3]]
    monkeypatch.setattr("mmdet.core.nms._SCATTERED", 0.0)
    swept = nms(bboxes, scores, iou_thr)
    monkeypatch.setattr("mmdet.core.nms._SWEEP_FROM", 10**9)
    assert torch.equal(nms(bboxes, scores, iou_thr), swept)
    assert iou_thr < 0.3 or len(swept) > 1500


def test_sweep_in_small_chunks(monkeypatch):
    bboxes, scores = boxes(900, 300, 10)
    expected = nms(bboxes, scores, 0.3)
    monkeypatch.setattr("mmdet.core.nms._SWEEP_PAIRS", 1000)
    assert torch.equal(nms(bboxes, scores, 0.3), expected)


def test_classes_do_not_suppress_each_other():
    bboxes, scores = boxes(200, 60, 20)
    labels = torch.from_numpy(np.random.RandomState(0).randint(0, 3, 200))
    got = batched_nms(bboxes, scores, labels, 0.4)
    apart = bboxes + labels[:, None] * 1000
    assert torch.equal(got, nms(apart, scores, 0.4))
