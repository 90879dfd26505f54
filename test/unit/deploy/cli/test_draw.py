"""Pictures with faces drawn in: where the colours are."""

import numpy as np
import pytest

from mmdet.deploy.cli.draw import CLASS_COLORS, POINT_COLORS, draw_faces
from mmdet.deploy.runtime.decode import Faces


def faces(*rows, points=None, labels=None):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    kps = None if points is None else np.array(points, np.float32).reshape(len(rows), -1, 2)
    return Faces(rows, kps, np.zeros(len(rows), np.int64) if labels is None else np.array(labels))


def black(height=400, width=600):
    return np.zeros((height, width, 3), np.uint8)


def test_edges_points_and_score():
    image = black()
    points = [[150, 150], [250, 150], [200, 200], [160, 250], [240, 250]]
    drawn = draw_faces(image, faces([100, 100, 300, 300, 0.9], points=points))
    assert not image.any() and drawn.shape == image.shape and drawn.dtype == np.uint8
    for x, y in ((100, 200), (300, 200), (200, 300)):
        assert tuple(drawn[y, x]) == CLASS_COLORS[0]
    for (x, y), color in zip(points, POINT_COLORS, strict=True):
        assert tuple(drawn[y, x]) == color
    label = drawn[:99, 100:160]
    assert (label == CLASS_COLORS[0]).all(axis=2).sum() > 200  # a patch of the box's colour above the box
    assert not drawn[320:].any() and not drawn[:, 320:].any()


def test_no_room_above_puts_the_score_inside():
    drawn = draw_faces(black(), faces([100, 0, 300, 200, 0.9]))
    assert (drawn[2:20, 104:140] == CLASS_COLORS[0]).all(axis=2).sum() > 100


def test_small_faces_have_no_label():
    drawn = draw_faces(black(), faces([100, 100, 110, 110, 0.9]))
    assert not drawn[:97].any() and drawn[105, 100].any()


def test_classes_have_their_colours_and_the_best_is_on_top():
    found = faces(
        [50, 200, 250, 380, 0.9], [50, 200, 250, 380, 0.5], [300, 200, 500, 380, 0.8], labels=[1, 0, 1]
    )
    drawn = draw_faces(black(), found, ("face", "mask"))
    assert tuple(drawn[300, 50]) == CLASS_COLORS[1] and tuple(drawn[300, 300]) == CLASS_COLORS[1]


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (2000, 3000)])
def test_any_size_and_boxes_beyond_the_picture(hw):
    row = [-50.0, -60.0, hw[1] + 70.0, hw[0] + 80.0, 0.5]
    drawn = draw_faces(black(*hw), faces(row, points=[[-5, -5], [hw[1] + 5, 3], [0, 0], [1e4, 1e4], [0, -9]]))
    assert drawn.shape == (*hw, 3)


def test_nobody_is_nothing():
    image = np.full((5, 5, 3), 7, np.uint8)
    np.testing.assert_array_equal(draw_faces(image, faces()), image)
