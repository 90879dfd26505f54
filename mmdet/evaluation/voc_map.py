"""AP of one's own labelled images through pycocotools: plain scores, ignore boxes as crowd.

The names of the published configs' `evaluation.metric='mAP'`: AP50 is the VOC number at IoU 0.5.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet.datasets.labels.base import Record
from mmdet.errors import DataError

_MAX_DETECTIONS = 1_000_000  # COCO's 100 per image would cut crowds
_NAMES = ("AP50", "AP75", "AP50:95", "AR50:95")


def evaluate_map(
    predictions: Mapping[str, np.ndarray], labels: Iterable[Record], classes: Sequence[str] = ("face",)
) -> dict[str, float]:
    """Return the figures of `judge_map` without its curves."""
    return judge_map(predictions, labels, classes)[0]


def judge_map(
    predictions: Mapping[str, np.ndarray], labels: Iterable[Record], classes: Sequence[str] = ("face",)
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return {"AP50": ..., "AP75": ..., "AP50:95": ..., "AR50:95": ...}, and each class's curve at IoU 0.5.

    A figure is -1 where the labels hold no face; a class without one has no curve. A curve is (101, 2) recall
    and precision.

    Several classes: the means over those that have faces, and AP50_NAME of each class.

    Args:
        predictions: image name -> (n, 6) x, y, w, h, score, class.
        labels: the images to judge; a detection inside one of their ignore boxes counts neither way.
        classes: names of the classes.

    Raises:
        DataError: a labelled image has no predictions.
    """
    records = list(labels)
    gt, rows = _coco_gt(records, len(classes)), []
    for number, record in enumerate(records, start=1):
        found = predictions.get(record.name)
        if found is None:
            raise DataError(
                f"predictions lack {record.name}; an image without detections gets a (0, 6) array."
            )
        found = np.asarray(found, dtype=np.float64).reshape(-1, 6)
        rows.append(np.insert(found, 0, number, axis=1))
    table = np.concatenate(rows) if rows else np.zeros((0, 7))
    table[:, 6] += 1  # COCO counts categories from 1
    precision, recall = _judge(gt, table, [label for record in records for label in record.labels])
    per_class = {f"AP50_{name}": _mean(precision[0, :, k]) for k, name in enumerate(classes)}
    values = (_mean(precision[0]), _mean(precision[5]), _mean(precision), _mean(recall))
    figures = {**dict(zip(_NAMES, values, strict=True)), **(per_class if len(classes) > 1 else {})}
    recalls = np.linspace(0, 1, precision.shape[1])
    curves = {name: np.column_stack([recalls, precision[0, :, k]]) for k, name in enumerate(classes)}
    return figures, {name: curve for name, curve in curves.items() if (curve >= 0).all()}


def _judge(gt: COCO, table: np.ndarray, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return precision (10 IoU, 101 recalls, C) and recall (10 IoU, C), -1 for classes without a face."""
    num_classes = len(gt.dataset["categories"])
    if not len(table):  # pycocotools refuses an empty table
        nothing = np.where(np.isin(np.arange(num_classes), labels), 0.0, -1.0)
        return np.broadcast_to(nothing, (10, 101, num_classes)), np.broadcast_to(nothing, (10, num_classes))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        judge = COCOeval(gt, gt.loadRes(table), "bbox")
        judge.params.maxDets = [_MAX_DETECTIONS]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][..., 0, 0], judge.eval["recall"][..., 0, 0]


def _mean(values: np.ndarray) -> float:
    """Return the mean over all but the classes without a face, -1 if no class has one."""
    known = values[values > -1]
    return float(known.mean()) if len(known) else -1.0


def _coco_gt(records: list[Record], num_classes: int) -> COCO:
    """Return the labels in pycocotools' form."""
    annotations: list[dict] = []
    for number, record in enumerate(records, start=1):
        ignored = np.concatenate([record.bboxes_ignore] * num_classes)  # by every class
        labels = [*record.labels.tolist(), *np.repeat(np.arange(num_classes), len(record.bboxes_ignore))]
        bboxes = np.concatenate([record.bboxes, ignored]).astype(np.float64)
        for index, ((x1, y1, x2, y2), label) in enumerate(zip(bboxes.tolist(), labels, strict=True)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(index >= len(record.bboxes)),
                }
            )
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(1, len(records) + 1)],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in range(num_classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
    return gt
