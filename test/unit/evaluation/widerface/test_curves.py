"""The PNG of the precision-recall curves."""

import cv2
import numpy as np
import pytest
from wider_fixture import image, rows

from mmdet.errors import WriteError
from mmdet.evaluation import evaluate_widerface
from mmdet.evaluation.widerface.curves import draw_curves, write_curves

FACE = [10, 10, 20, 20]


def result(det=((*FACE, 0.9), (50, 50, 5, 5, 0.1))):
    return evaluate_widerface({"e": {"a": rows(*det)}}, [image([FACE])])


def test_size_and_that_all_three_colours_are_there():
    picture = draw_curves(result())
    assert picture.shape == (680, 900, 3) and picture.dtype == np.uint8
    for bgr in ((180, 119, 31), (14, 127, 255), (40, 39, 214)):
        assert (np.abs(picture.astype(int) - bgr).max(axis=2) < 40).any()


def test_nothing_detected_still_draws():
    assert draw_curves(result(det=())).shape == (680, 900, 3)
    assert draw_curves(evaluate_widerface({}, [])).shape == (680, 900, 3)


def test_writes_a_png(tmp_path):
    write_curves(result(), tmp_path / "pr.png")
    assert cv2.imread(str(tmp_path / "pr.png")).shape == (680, 900, 3)
    with pytest.raises(WriteError, match="pr.png cannot be written"):
        write_curves(result(), tmp_path / "none" / "pr.png")
