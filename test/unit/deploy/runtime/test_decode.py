"""Network output to faces: numbers typed by hand, and a slow loop as the oracle."""

import numpy as np
import pytest

from mmdet.deploy.runtime.coders import DistanceDecoder
from mmdet.deploy.runtime.decode import (
    Faces,
    concatenate,
    decode_level,
    keep_largest,
    level_anchors,
    nms,
    suppress,
)


def faces(rows, kps=None, labels=None):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return Faces(rows, kps, np.zeros(len(rows), np.int64) if labels is None else np.array(labels))


def test_centers_go_row_by_row_and_repeat_for_the_anchors_of_a_cell():
    row = [[0, 0], [0, 0], [16, 0], [16, 0], [32, 0], [32, 0]]
    want = [*row, *([x, 16] for x, _ in row)]
    np.testing.assert_array_equal(level_anchors(2, 3, 16, 2).center, want)
    with pytest.raises(ValueError, match="read-only"):
        level_anchors(2, 3, 16, 2).center[0, 0] = 1


def test_one_level_by_hand():
    """Two pictures, cells at (0, 0) and (8, 0), one anchor each."""
    scores = np.array([[[0.5], [0.4]], [[0.1], [0.9]]], np.float32)
    bbox = np.array([[[1, 2, 3, 4], [0, 0, 0, 0]], [[0, 0, 0, 0], [0.5, 0.25, 1, 2]]], np.float32)
    kps = np.zeros((2, 2, 4), np.float32)
    kps[0, 0], kps[1, 1] = [1, -1, 0.5, 2], [0, 1, -1, 0]
    image, found = decode_level(scores, bbox, kps, level_anchors(1, 2, 8, 1), DistanceDecoder(), 0.5)
    np.testing.assert_array_equal(image, [0, 1])  # 0.5 counts: the threshold itself is enough
    np.testing.assert_allclose(found.bboxes, [[-8, -16, 24, 32, 0.5], [4, -2, 16, 16, 0.9]])
    np.testing.assert_allclose(found.kps, [[[8, -8], [4, 16]], [[8, 8], [0, 0]]])
    np.testing.assert_array_equal(found.labels, [0, 0])
    assert found.bboxes.dtype == found.kps.dtype == np.float32


def test_several_classes_and_no_keypoints():
    scores = np.array([[[0.2, 0.7], [0.6, 0.8]]], np.float32)
    image, found = decode_level(
        scores, np.ones((1, 2, 4), np.float32), None, level_anchors(1, 2, 8, 1), DistanceDecoder(), 0.5
    )
    np.testing.assert_array_equal(found.labels, [1, 0, 1])
    np.testing.assert_allclose(found.bboxes[:, 4], [0.7, 0.6, 0.8])
    np.testing.assert_array_equal(image, [0, 0, 0])
    assert found.kps is None


def test_nothing_above_the_threshold_keeps_shapes():
    zeros = np.zeros((2, 4, 1), np.float32)
    image, found = decode_level(
        zeros, zeros.repeat(4, 2), zeros.repeat(10, 2), level_anchors(2, 2, 8, 1), DistanceDecoder(), 0.5
    )
    assert image.shape == (0,) and found.bboxes.shape == (0, 5) and found.kps.shape == (0, 5, 2)
    assert suppress(found, 0.4).kps.shape == (0, 5, 2) and len(concatenate([found, found])) == 0


def test_overlap_counts_the_last_pixel():
    """Boxes of 10 and 10 pixels, 5 in common: 50 / 150 with the last pixel; 36 / 126 = 0.286 without."""
    bboxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9]], np.float32)
    assert nms(bboxes, 0.33).tolist() == [0]
    assert nms(bboxes, 1 / 3 + 1e-6).tolist() == [0, 1]


def test_a_box_overlapping_exactly_as_much_as_allowed_stays():
    bboxes = np.array([[0, 0, 9, 9], [0, 0, 9, 4]], np.float32)  # 50 / 100
    assert nms(bboxes, 0.5).tolist() == [0, 1]
    assert nms(bboxes, 0.499).tolist() == [0]


def slow_nms(bboxes, limit):
    """Compare every pair, pixel counts as integers."""
    kept = []
    for i, (x1, y1, x2, y2) in enumerate(bboxes):
        overlaps = []
        for j in kept:
            a1, b1, a2, b2 = bboxes[j]
            inter = max(min(x2, a2) - max(x1, a1) + 1, 0) * max(min(y2, b2) - max(y1, b1) + 1, 0)
            union = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1) - inter
            overlaps.append(inter / union)
        if all(overlap <= limit for overlap in overlaps):
            kept.append(i)
    return kept


@pytest.mark.parametrize("num", [0, 1, 2, 200])
@pytest.mark.parametrize("limit", [0.0, 0.3, 0.45])
def test_nms_against_a_loop(num, limit):
    rng = np.random.RandomState(num)
    corner = rng.randint(0, 60, (num, 2))
    bboxes = np.concatenate((corner, corner + rng.randint(0, 40, (num, 2))), axis=1)
    assert nms(bboxes.astype(np.float32), limit).tolist() == slow_nms(bboxes.tolist(), limit)


def test_classes_do_not_suppress_each_other_and_the_best_come_first():
    rows = [[0, 0, 9, 9, 0.6], [0, 0, 9, 9, 0.9], [0, 0, 9, 9, 0.7], [50, 0, 59, 9, 0.8]]
    kept = suppress(faces(rows, labels=[0, 0, 1, 1]), 0.4)
    np.testing.assert_allclose(kept.bboxes[:, 4], [0.9, 0.8, 0.7])
    np.testing.assert_array_equal(kept.labels, [0, 1, 1])


def test_of_equal_scores_the_later_one_is_first_as_in_the_reference():
    kept = suppress(faces([[0, 0, 9, 9, 0.5], [50, 0, 59, 9, 0.5]]), 0.4)
    np.testing.assert_array_equal(kept.bboxes[:, 0], [50, 0])


def test_largest_and_most_central():
    """Picture of 100 x 100; areas 100, 400, 900; the largest is far from the middle."""
    found = faces([[45, 45, 55, 55, 0.9], [40, 40, 60, 60, 0.8], [0, 0, 30, 30, 0.7]])
    assert keep_largest(found, 0, "max", (100, 100)) is found
    assert keep_largest(found, 3, "max", (100, 100)) is found  # no more than asked for: order stays
    np.testing.assert_allclose(keep_largest(found, 2, "max", (100, 100)).bboxes[:, 4], [0.7, 0.8])
    # 900 - 2 * (35^2 + 35^2) < 100 - 0 < 400 - 0
    np.testing.assert_allclose(keep_largest(found, 2, "default", (100, 100)).bboxes[:, 4], [0.8, 0.9])
    np.testing.assert_allclose(keep_largest(found, 1, "default", (100, 100)).bboxes[:, 4], [0.8])


def test_an_odd_picture_has_its_middle_rounded_down():
    """Middle of 5 x 3 pixels: (2, 1), so the face around it wins over the equal one around (3, 1)."""
    found = faces([[2, 0, 4, 2, 0.9], [1, 0, 3, 2, 0.8]])
    np.testing.assert_allclose(keep_largest(found, 1, "default", (3, 5)).bboxes[:, 4], [0.8])


def test_the_middle_of_a_wide_picture():
    """300 x 100 pixels: the middle is (150, 50), not (50, 150)."""
    found = faces([[55, 55, 65, 65, 0.9], [145, 45, 155, 55, 0.8]])
    np.testing.assert_allclose(keep_largest(found, 1, "default", (100, 300)).bboxes[:, 4], [0.8])


def test_scaling_back_divides_positions_and_leaves_scores():
    found = Faces(
        np.array([[10, 20, 30, 40, 0.5]], np.float32), np.full((1, 2, 2), 8, np.float32), np.zeros(1, int)
    )
    scaled = found.scaled(0.5)
    np.testing.assert_array_equal(scaled.bboxes, [[20, 40, 60, 80, 0.5]])
    np.testing.assert_array_equal(scaled.kps, [[[16, 16], [16, 16]]])
    assert scaled.kps.dtype == np.float32 and found.bboxes[0, 0] == 10
