"""AP of one's own labelled images through pycocotools: plain scores, ignore boxes as crowd.

The names of the published configs' `evaluation.metric='mAP'`: AP50 is the VOC number at IoU 0.5.
"""

import contextlib
import io
from collections.abc import Iterable

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet.datasets.labels import Record
from mmdet.errors import DataError
from mmdet.evaluation.widerface.files import Predictions, split_name

_MAX_DETECTIONS = 1_000_000  # COCO's 100 per image would cut crowds


def evaluate_map(predictions: Predictions, labels: Iterable[Record]) -> dict[str, float]:
    """Return {"AP50": ..., "AP75": ..., "AP50:95": ..., "AR50:95": ...}; -1 where the labels hold no face.

    Args:
        predictions: event -> image name without suffix -> (n, 5) x, y, w, h, score.
        labels: the images to judge; a detection inside one of their ignore boxes counts neither way.

    Raises:
        DataError: a labelled image has no predictions.
    """
    records = list(labels)
    gt, detections = _coco_gt(records), []
    for number, record in enumerate(records, start=1):
        event, name = split_name(record.name)
        rows = predictions.get(event, {}).get(name)
        if rows is None:
            raise DataError(
                f"predictions lack {record.name}; an image without detections gets a (0, 5) array."
            )
        rows = np.asarray(rows, dtype=np.float64).reshape(-1, 5)
        number_of, category = np.full((len(rows), 1), number), np.ones((len(rows), 1))
        detections.append(np.concatenate([number_of, rows, category], axis=1))
    table = np.concatenate(detections) if detections else np.zeros((0, 7))
    if not len(table):
        has_faces = any(len(record.bboxes) for record in records)
        return dict.fromkeys(("AP50", "AP75", "AP50:95", "AR50:95"), 0.0 if has_faces else -1.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        judge = COCOeval(gt, gt.loadRes(table), "bbox")
        judge.params.maxDets = [_MAX_DETECTIONS]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision, recall = judge.eval["precision"][..., 0, 0, 0], judge.eval["recall"][..., 0, 0, 0]
    return {
        "AP50": float(precision[0].mean()),
        "AP75": float(precision[5].mean()),
        "AP50:95": float(precision.mean()),
        "AR50:95": float(recall.mean()),
    }


def _coco_gt(records: list[Record]) -> COCO:
    """Return the labels as pycocotools wants them."""
    annotations: list[dict] = []
    for number, record in enumerate(records, start=1):
        for bboxes, is_crowd in ((record.bboxes, 0), (record.bboxes_ignore, 1)):
            for x1, y1, x2, y2 in bboxes.astype(np.float64).tolist():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": is_crowd,
                    }
                )
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(1, len(records) + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
    return gt
