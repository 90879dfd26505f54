"""Where drawing puts its pixels, read back from small images."""

import numpy as np

from mmdet.visualize import draw


def blank(height, width):
    return np.zeros((height, width, 3), np.uint8)


def test_boxes_points_and_weights():
    image = blank(20, 30)
    kps = np.array([[[8, 8, 1], [14, 5, 0]]], np.float32)
    draw.draw_faces(image, np.array([[2.0, 3, 12, 15]]), kps, np.array([[20.0, 2, 28, 9]]))
    assert tuple(image[3, 5]) == draw.GREEN and tuple(image[15, 12]) == draw.GREEN
    assert tuple(image[8, 8]) == draw.RED and not image[5, 14].any()  # weight 0
    assert tuple(image[2, 22]) == draw.GRAY
    assert not image[10, 6].any()  # inside


def test_what_lies_far_outside_is_no_error():
    image = blank(10, 10)
    draw.draw_bboxes(image, np.array([[-1e12, -3, 1e12, 4]]), draw.GREEN)
    draw.draw_points(image, np.array([[1e12, 5.0]]), draw.RED)
    assert tuple(image[4, 5]) == draw.GREEN


def test_fit_and_sheet():
    small, scale = draw.fit(blank(50, 200), 40)
    assert small.shape == (10, 40, 3) and scale == 0.2
    sheet = draw.make_sheet([blank(10, 40), blank(40, 7), blank(1, 1)], 40, columns=2)
    assert sheet.shape == (80, 80, 3)
    assert not sheet[:10, :40].any() and (sheet[10:40, :40] == 255).all()  # image, then paper
    assert not sheet[:40, 40:47].any() and (sheet[40:, 40:] == 255).all()
    assert draw.make_sheet([blank(2, 2)], 4, columns=9).shape == (4, 36, 3)


def test_spread():
    assert draw.spread(10, 3) == [0, 4, 9]
    assert draw.spread(2, 5) == [0, 1] and draw.spread(0, 5) == [] and draw.spread(4, 1) == [0]
