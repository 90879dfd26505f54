"""Aligned crops against numbers of the public implementations, crops and blurred faces by hand."""

import cv2
import numpy as np
import pytest

from mmdet.deploy.align import (
    TEMPLATE,
    align_faces,
    blur_faces,
    clip_bboxes,
    crop_faces,
    estimate_similarity,
    template_of,
)
from mmdet.errors import DataError

# Points found in a photograph, and skimage's SimilarityTransform.estimate for them (0.26).
POINTS = [
    [761.0890, 400.0930],
    [803.8240, 399.771],
    [774.5850, 428.968],
    [767.1560, 444.4500],
    [804.9940, 443.5400],
]
MATRIX = [[0.8375478, -0.0407142, -581.9753169], [0.0407142, 0.8375478, -314.5391055]]


def umeyama(source, target):
    """Return the similarity of one face, by the singular values (Umeyama 1991, equations 40 to 42)."""
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    u, d, vt = np.linalg.svd((target - mean_t).T @ (source - mean_s) / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = (d * sign).sum() / (source - mean_s).var(axis=0).sum()
    rotation = u @ np.diag(sign) @ vt
    return np.column_stack([scale * rotation, mean_t - scale * rotation @ mean_s])


def test_matrices_are_those_of_skimage():
    np.testing.assert_allclose(estimate_similarity(np.array([POINTS]), TEMPLATE)[0], MATRIX, atol=1e-6)


@pytest.mark.parametrize("size", [112, 128, 100, 256])
def test_a_batch_is_umeyama_for_each(size):
    rng = np.random.RandomState(0)
    faces = rng.uniform(0, 500, (10, 5, 2)) + rng.uniform(0, 2000, (10, 1, 2))
    got = estimate_similarity(faces, template_of(size))
    want = [umeyama(face, template_of(size)) for face in faces]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_templates():
    np.testing.assert_allclose(template_of(224), 2 * TEMPLATE)
    np.testing.assert_allclose(template_of(128)[2], (56.0252 + 8, 71.7366))  # a margin of 8 at both sides
    np.testing.assert_allclose(template_of(56), TEMPLATE / 2)


def test_a_face_turned_and_enlarged_comes_out_upright():
    face = np.zeros((112, 112, 3), np.uint8)
    for (x, y), value in zip(TEMPLATE.round().astype(int), (60, 100, 140, 180, 220), strict=True):
        cv2.circle(face, (int(x), int(y)), 5, (value,) * 3, -1)
    turn = cv2.getRotationMatrix2D((56, 56), 35, 2.5)
    turn[:, 2] += (150, 120)
    image = cv2.warpAffine(face, turn, (500, 400))
    points = TEMPLATE @ turn[:, :2].T + turn[:, 2]
    (upright,) = align_faces(image, points[None].astype(np.float32))
    assert upright.shape == (112, 112, 3) and np.abs(upright.astype(int) - face).mean() < 3
    for (x, y), value in zip(TEMPLATE.round().astype(int), (60, 100, 140, 180, 220), strict=True):
        assert abs(int(upright[y, x, 0]) - value) <= 2


def test_none_outside_and_coinciding_points():
    image = np.full((50, 50, 3), 200, np.uint8)
    assert align_faces(image, np.zeros((0, 5, 2), np.float32)).shape == (0, 112, 112, 3)
    assert align_faces(image, TEMPLATE[None] + 5000).max() == 0
    assert np.isfinite(estimate_similarity(np.zeros((1, 5, 2)), TEMPLATE)).all()
    for kps in (None, np.zeros((3, 10)), np.zeros((3, 4, 2))):
        with pytest.raises(DataError, match="five points per face"):
            align_faces(image, kps)


def test_boxes_are_clipped():
    bboxes = np.array([[-5, 10, 20, 300, 0.9], [90, -1, 130, 5, 0.8]], np.float32)
    want = np.array([[0, 10, 20, 80, 0.9], [90, 0, 100, 5, 0.8]], np.float32)
    np.testing.assert_array_equal(clip_bboxes(bboxes, (80, 100)), want)
    assert bboxes[0, 0] == -5 and clip_bboxes(bboxes[:0], (8, 8)).shape == (0, 5)


def test_crops_stay_inside():
    image = np.arange(80 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(80, 100, 3)
    boxes = np.array([[10.4, 20.6, 30.2, 50.0], [-9, -9, 5, 5], [200, 200, 300, 300], [7, 7, 7, 7]])
    crops = crop_faces(image, boxes)
    np.testing.assert_array_equal(crops[0], image[20:50, 10:31])
    np.testing.assert_array_equal(crops[1], image[:5, :5])
    assert [crop.shape[:2] for crop in crops[2:]] == [(1, 1), (1, 1)]
    assert crop_faces(image, boxes[:1], margin=0.5)[0].shape == (60, 45, 3)  # 29.4 / 2 more on each side
    assert crop_faces(image, boxes[:0]) == []


def test_blurred_faces_have_few_colours_left():
    image = np.random.RandomState(0).randint(0, 256, (100, 100, 3)).astype(np.uint8)
    blurred = blur_faces(image, np.array([[20, 20, 60, 60, 0.9], [90, 90, 91, 92, 0.5]]))
    assert len(np.unique(blurred[20:60, 20:60].reshape(-1, 3), axis=0)) <= 64
    assert (blurred[:15] == image[:15]).all() and (blurred[70:88] == image[70:88]).all()
    assert (blur_faces(image, np.zeros((0, 5))) == image).all() and image.std() > 70
