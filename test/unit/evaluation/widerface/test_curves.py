"""The PNG of the precision-recall curves."""

import cv2
import numpy as np
import pytest
from wider_fixture import image, rows

from mmdet.errors import WriteError
from mmdet.evaluation import evaluate_widerface
from mmdet.evaluation.widerface.curves import draw_curves, plot_curves, write_curves

FACE = [10, 10, 20, 20]


def result(det=((*FACE, 0.9), (50, 50, 5, 5, 0.1))):
    return evaluate_widerface({"e": {"a": rows(*det)}}, [image([FACE])])


def test_a_curve_lies_where_recall_and_precision_are():
    corner = np.array([[0.0, 0.5], [0.5, 0.5], [0.5, np.nan], [0.5, 1.0]])
    image = plot_curves([("a", corner, (0, 0, 255))], "title")
    is_red = (image == (0, 0, 255)).all(axis=-1)
    assert image.shape == (680, 900, 3)
    assert is_red[335, 100:470].all()  # (60 + 610) / 2; 80 to (80 + 870) / 2
    assert is_red[70:330, 475].all()
    assert not is_red[345:580, 80:870].any()


def test_three_curves_have_colours_of_their_own_and_seven_do_not_end_the_list():
    assert len(np.unique(draw_curves(result()).reshape(-1, 3), axis=0)) > 5
    curve = np.array([[0.0, 1.0], [1.0, 0.5]])
    assert plot_curves([("a", curve, None)] * 7, "title").min() < 40


def test_nothing_detected_still_draws(tmp_path):
    write_curves(result(det=()), tmp_path / "a.png")
    write_curves(evaluate_widerface({}, []), tmp_path / "b.png")
    assert all(cv2.imread(str(path)).shape == (680, 900, 3) for path in tmp_path.iterdir())


def test_writes_a_png(tmp_path):
    write_curves(result(), tmp_path / "pr.png")
    assert cv2.imread(str(tmp_path / "pr.png")).shape == (680, 900, 3)
    with pytest.raises(WriteError, match="pr.png cannot be written"):
        write_curves(result(), tmp_path / "none" / "pr.png")
