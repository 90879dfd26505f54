"""The validation AP of ternaus/retinaface: all images pooled, one IoU, area under the precision envelope.

Not COCO's and not WIDER FACE's: a detection goes to the face it overlaps most, also when another one has it
already (then it is false); an IoU of exactly the threshold is no match.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmdet.evaluation.options import MetricOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmdet.datasets.faces import FacesDataset
    from mmdet.datasets.labels import LabelFile

_EPS = 1e-7  # added to every union


class Curve(NamedTuple):
    """Recall and precision after each detection, best score first, and the area under the envelope."""

    recalls: np.ndarray
    precisions: np.ndarray
    ap: float


def average_precision(
    gt: "Mapping[str, np.ndarray]", predictions: "Mapping[str, np.ndarray]", iou_thr: float = 0.5
) -> Curve:
    """Return the curve of detections of one class.

    Args:
        gt: image name -> (m, 4) x, y, w, h.
        predictions: image name -> (n, 5 or more) x, y, w, h, score, ... Equal scores keep their order.
        iou_thr: a detection is true if its IoU is at least this, with 1e-7 added to the union.

    Returns:
        Curve; ap is nan without faces, 0 without detections.
    """
    matched = [_match(rows, gt.get(name), iou_thr) for name, rows in predictions.items()]
    score = np.concatenate([np.zeros(0), *[rows[:, 4] for rows in predictions.values()]])
    is_first = np.concatenate([np.zeros(0, bool), *_first_claims(matched, list(predictions.values()))])
    order = np.argsort(-score, kind="stable")
    true = np.cumsum(is_first[order])
    num_faces = sum(len(rows) for rows in gt.values())
    with np.errstate(invalid="ignore", divide="ignore"):
        recalls = true / np.float64(num_faces)
    precisions = true / np.arange(1, len(order) + 1)
    return Curve(recalls, precisions, _area(recalls, precisions) if num_faces else float("nan"))


def _match(rows: np.ndarray, gt: np.ndarray | None, iou_thr: float) -> np.ndarray:
    """Return (n,) the face that each detection overlaps most, -1 below the threshold."""
    if gt is None or not len(gt) or not len(rows):
        return np.full(len(rows), -1)
    rows, gt = rows[:, None].astype(np.float64), gt[None].astype(np.float64)
    lower = np.maximum(rows[..., :2], gt[..., :2])
    upper = np.minimum(rows[..., :2] + rows[..., 2:4], gt[..., :2] + gt[..., 2:4])
    inter = np.prod((upper - lower).clip(min=0), axis=-1)
    area = np.prod(rows[..., 2:4], axis=-1) + np.prod(gt[..., 2:4], axis=-1)
    iou = inter / (area - inter + _EPS)
    best = iou.argmax(axis=1)
    return np.where(iou[np.arange(len(iou)), best] >= iou_thr, best, -1)


def _first_claims(matched: list[np.ndarray], predictions: list[np.ndarray]) -> list[np.ndarray]:
    """Return, image by image, whether a detection is the best-scored one of its face."""
    claims = []
    for face, rows in zip(matched, predictions, strict=True):
        order = np.argsort(-rows[:, 4], kind="stable")
        _, first = np.unique(face[order], return_index=True)
        is_first = np.zeros(len(face), bool)
        is_first[order[first]] = True
        claims.append(is_first & (face >= 0))
    return claims


def _area(recalls: np.ndarray, precisions: np.ndarray) -> float:
    """Return the area under the envelope: at each recall the best precision at that recall or above."""
    recall = np.concatenate([[0.0], recalls, [1.0]])
    precision = np.concatenate([[0.0], precisions, [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum((recall[1:] - recall[:-1]) * precision[1:]))


class RetinaFaceMetric:
    """AP of class 0 at evaluation.iou_thr on the label file."""

    names: tuple[str, ...] = ("retinaface_AP",)

    def __init__(self, labels: "LabelFile", iou_thr: float) -> None:
        self.labels, self.iou_thr = labels, iou_thr
        self.ap = float("nan")

    @classmethod
    def prepare(cls, dataset: "FacesDataset", cfg: MetricOptions) -> "RetinaFaceMetric":
        """Take the labels of the data set."""
        return cls(dataset.labels, cfg.iou_thr)

    def compute(self, predictions: "Mapping[str, np.ndarray]") -> dict[str, float]:
        """Return the figure; nan where the labels hold no face."""
        gt = {}
        for record in self.labels:
            gt[record.name] = np.concatenate(
                [record.bboxes[:, :2], record.bboxes[:, 2:] - record.bboxes[:, :2]], axis=1
            )
        of_class_0 = {name: rows[rows[:, 5] == 0] for name, rows in predictions.items()}
        self.ap = average_precision(gt, of_class_0, self.iou_thr).ap
        return {self.names[0]: self.ap}

    def report(self, folder: Path, title: str) -> str:
        """Return one line."""
        return f"{self.names[0]} {self.ap:.4f} at IoU {self.iou_thr:g}"
