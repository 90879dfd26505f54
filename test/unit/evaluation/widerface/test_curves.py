"""The PNG of the precision-recall curves."""

import cv2
import pytest
from wider_fixture import image, rows

from mmdet.errors import WriteError
from mmdet.evaluation import evaluate_widerface
from mmdet.evaluation.widerface.curves import draw_curves, write_curves

FACE = [10, 10, 20, 20]


def result(det=((*FACE, 0.9), (50, 50, 5, 5, 0.1))):
    return evaluate_widerface({"e": {"a": rows(*det)}}, [image([FACE])])


def test_three_curves_of_recall_and_precision():
    [axes] = draw_curves(result()).axes
    labels = [line.get_label() for line in axes.lines]
    assert labels == [f"{setting}  AP 1.0000  (1 faces)" for setting in ("easy", "medium", "hard")]
    assert axes.lines[0].get_xydata()[-1].tolist() == [1.0, 0.5]


def test_nothing_detected_still_draws(tmp_path):
    write_curves(result(det=()), tmp_path / "a.png")
    write_curves(evaluate_widerface({}, []), tmp_path / "b.png")
    assert all(cv2.imread(str(path)).shape == (680, 900, 3) for path in tmp_path.iterdir())


def test_writes_a_png(tmp_path):
    write_curves(result(), tmp_path / "pr.png")
    assert cv2.imread(str(tmp_path / "pr.png")).shape == (680, 900, 3)
    with pytest.raises(WriteError, match="pr.png cannot be written"):
        write_curves(result(), tmp_path / "none" / "pr.png")
