"""mAP through pycocotools: numbers by hand."""

import numpy as np
import pytest

from mmdet.datasets.labels import Record
from mmdet.errors import DataError
from mmdet.evaluation.voc_map import evaluate_map, judge_map

FACE, FAR = [10, 10, 30, 30], [100, 100, 120, 120]  # xyxy


def record(faces=(), ignore=(), name="e/a.jpg", labels=None):
    faces, ignore = (np.array(b, np.float32).reshape(-1, 4) for b in (faces, ignore))
    labels = np.array(labels or [0] * len(faces), np.int64)
    return Record(name, faces, labels, np.zeros((len(faces), 5, 3), np.float32), ignore)


def detections(*xyxy_score):
    rows = [(x1, y1, x2 - x1, y2 - y1, score, *label) for x1, y1, x2, y2, score, *label in xyxy_score]
    return {"e/a.jpg": np.array([(*row, 0)[:6] for row in rows], np.float64).reshape(-1, 6)}


def test_perfect():
    figures = evaluate_map(detections((*FACE, 0.9), (*FAR, 0.8)), [record([FACE, FAR])])
    assert figures == pytest.approx({"AP50": 1.0, "AP75": 1.0, "AP50:95": 1.0, "AR50:95": 1.0})


def test_one_of_two_found_after_a_wrong_one():
    """Precision 1/2 up to recall 0.5: 51 of COCO's 101 recall points."""
    figures = evaluate_map(detections((50, 50, 60, 60, 0.9), (*FACE, 0.8)), [record([FACE, FAR])])
    assert figures["AP50"] == pytest.approx(0.5 * 51 / 101)
    assert figures["AR50:95"] == pytest.approx(0.5)
    _, curves = judge_map(detections((50, 50, 60, 60, 0.9), (*FACE, 0.8)), [record([FACE, FAR])])
    recalls, precisions = curves["face"].T
    assert recalls[[0, 50, 100]] == pytest.approx([0, 0.5, 1]) and len(recalls) == 101
    assert precisions[[0, 50, 51, 100]] == pytest.approx([0.5, 0.5, 0, 0])


def test_iou_thresholds():
    """A detection of 20 x 14.4 on a face of 20 x 20 has IoU 0.72: right at 0.5 to 0.7, wrong from 0.75 on."""
    figures = evaluate_map(detections((10, 10, 30, 24.4, 0.9)), [record([FACE])])
    assert (figures["AP50"], figures["AP75"], figures["AP50:95"]) == pytest.approx((1.0, 0.0, 0.5))


def test_detections_in_an_ignore_box_do_not_count():
    det = detections((100, 100, 110, 110, 0.95), (110, 110, 118, 118, 0.94), (*FACE, 0.9))
    assert evaluate_map(det, [record([FACE], ignore=[FAR])])["AP50"] == pytest.approx(1)
    assert evaluate_map(det, [record([FACE])])["AP50"] == pytest.approx(1 / 3)


def test_more_than_a_hundred_faces():
    faces = [(20 * i, 0, 20 * i + 10, 10) for i in range(150)]
    det = detections(*[(*face, 1 - i / 1000) for i, face in enumerate(faces)])
    assert evaluate_map(det, [record(faces)])["AP50"] == pytest.approx(1)


def test_image_without_folder_and_without_detections():
    predictions = {"b.jpg": np.zeros((0, 6), np.float32)}
    assert evaluate_map(predictions, [record([FACE], name="b.jpg")])["AP50"] == 0.0
    assert evaluate_map(predictions, [record(name="b.jpg")])["AP50"] == -1.0


def test_missing_image_is_named():
    with pytest.raises(DataError, match=r"predictions lack e/other.jpg"):
        evaluate_map(detections(), [record(name="e/other.jpg")])


def test_classes_are_judged_apart():
    """Class 0: its face is found. Class 1: a detection of class 0 does not find it. Class 2 has no face."""
    detected = detections((*FACE, 0.9, 0), (*FAR, 0.8, 0))
    labels = [record([FACE, FAR], labels=[0, 1])]
    figures = evaluate_map(detected, labels, ("mask", "none", "other"))
    assert [figures[f"AP50_{name}"] for name in ("mask", "none", "other")] == pytest.approx([1, 0, -1])
    assert [figures["AP50"], figures["AP50:95"]] == pytest.approx([0.5, 0.5])
    right = detections((*FACE, 0.9, 0), (*FAR, 0.8, 1))
    assert evaluate_map(right, labels, ("mask", "none"))["AP50"] == pytest.approx(1.0)
    nothing = evaluate_map({"e/a.jpg": np.zeros((0, 6))}, labels, ("mask", "none", "other"))
    assert (nothing["AP50_none"], nothing["AP50_other"], nothing["AP50"]) == (0.0, -1.0, 0.0)


def test_an_ignore_box_is_ignored_by_every_class():
    detected = detections((100, 100, 110, 110, 0.95, 1), (*FACE, 0.9, 1))
    figures = evaluate_map(detected, [record([FACE], ignore=[FAR], labels=[1])], ("mask", "none"))
    assert figures["AP50_none"] == pytest.approx(1.0)
