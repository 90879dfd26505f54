"""WIDER FACE evaluation as the public Python code does it: face by face, threshold by threshold.

Written from the rules in evaluation/widerface.py's docstring, in loops. A baseline and an oracle.
"""

from collections.abc import Sequence

import numpy as np

from mmdet.evaluation.widerface.files import SETTINGS, Predictions, WiderImage

NUM_THRESHOLDS = 1000


def evaluate(
    predictions: Predictions, images: Sequence[WiderImage], iou_thr: float = 0.5
) -> dict[str, float]:
    """Return the AP of each setting."""
    predictions = _stretch_scores(predictions)
    result = {}
    for setting in SETTINGS:
        totals, num_faces = np.zeros((NUM_THRESHOLDS, 2)), 0
        for image in images:
            kept = image.kept[setting]
            num_faces += int(kept.sum())
            rows = predictions[image.event][image.name]
            if len(image.bboxes_xywh) == 0 or len(rows) == 0:
                continue
            found, proposals = _match(rows, image.bboxes_xywh, kept, iou_thr)
            totals += _image_counts(rows, found, proposals)
        curve = np.zeros((NUM_THRESHOLDS, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            for number in range(NUM_THRESHOLDS):
                curve[number] = totals[number, 1] / num_faces, totals[number, 1] / totals[number, 0]
        result[setting] = _area(curve[:, 0], curve[:, 1])
    return result


def _stretch_scores(predictions: Predictions) -> dict[str, dict[str, np.ndarray]]:
    low, high = np.inf, -np.inf
    for event in predictions.values():
        for rows in event.values():
            if len(rows):
                low, high = min(low, rows[:, 4].min()), max(high, rows[:, 4].max())
    stretched: dict[str, dict[str, np.ndarray]] = {}
    for name, event in predictions.items():
        stretched[name] = {}
        for image, rows in event.items():
            rows = np.array(rows, dtype=np.float64).reshape(-1, 5)
            rows[:, 4] = (rows[:, 4] - low) / (high - low)
            stretched[name][image] = rows
    return stretched


def _match(
    rows: np.ndarray, gt_xywh: np.ndarray, kept: np.ndarray, iou_thr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return, per prediction, how many faces are found up to it and whether it counts (1, else -1)."""
    state = np.zeros(len(gt_xywh))  # 1 found, -1 an ignored face was hit
    found, proposals = np.zeros(len(rows)), np.ones(len(rows))
    overlaps = _overlaps(rows[:, :4], gt_xywh.astype(np.float64))
    for number in range(len(rows)):
        best = overlaps[number].argmax()
        if overlaps[number, best] >= iou_thr:
            if not kept[best]:
                state[best] = -1
                proposals[number] = -1
            elif state[best] == 0:
                state[best] = 1
        found[number] = len(np.where(state == 1)[0])
    return found, proposals


def _overlaps(a_xywh: np.ndarray, b_xywh: np.ndarray) -> np.ndarray:
    """Return (n, g) IoU, a box from 3 to 3 being one pixel wide."""
    a, b = a_xywh.copy(), b_xywh.copy()
    a[:, 2:] += a[:, :2]
    b[:, 2:] += b[:, :2]
    width = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0]) + 1
    height = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1]) + 1
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = (a[:, 2] - a[:, 0] + 1) * (a[:, 3] - a[:, 1] + 1)
    area_b = (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1)
    return np.where(inter > 0, inter / (area_a[:, None] + area_b - inter), 0)


def _image_counts(rows: np.ndarray, found: np.ndarray, proposals: np.ndarray) -> np.ndarray:
    """Return (1000, 2): predictions that count and faces found, at each threshold."""
    counts = np.zeros((NUM_THRESHOLDS, 2))
    for number in range(NUM_THRESHOLDS):
        threshold = 1 - (number + 1) / NUM_THRESHOLDS
        reached = np.where(rows[:, 4] >= threshold)[0]
        if len(reached) == 0:
            continue
        last = reached[-1]
        counts[number] = len(np.where(proposals[: last + 1] == 1)[0]), found[last]
    return counts


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    recall = np.concatenate(([0.0], recall, [1.0]))
    precision = np.concatenate(([0.0], precision, [0.0]))
    for number in range(len(precision) - 1, 0, -1):
        precision[number - 1] = np.maximum(precision[number - 1], precision[number])
    step = np.where(recall[1:] != recall[:-1])[0]
    return float(np.sum((recall[step + 1] - recall[step]) * precision[step + 1]))
