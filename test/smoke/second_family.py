"""A detector family of a user's own: `custom_imports` loads this module, which adds to the public tables.

Two convolutions on each level, two square priors per cell coded with variances, a softmax over background and
face, a matcher by IoU, a criterion, a metric and a label format (one line of CSV per face).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.core.assigners import ASSIGNERS
from mmdet.core.bbox import pairwise_overlaps
from mmdet.core.structures import Assignment, Batch, Outputs
from mmdet.datasets.labels import LABEL_READERS
from mmdet.datasets.labels.base import LabelFile, Record, join_records
from mmdet.evaluation.metrics import METRICS
from mmdet.models.criteria import CRITERIA
from mmdet.models.dense_heads import HEADS
from mmdet.models.detectors import DETECTORS
from mmdet.models.detectors.dense import SCRFD
from mmdet.models.init import init_normal


class TwoConvHead(nn.Module):
    """Two convolutions per level: (background, face) logits and box codes."""

    num_kps = 0
    use_dfl = False

    def __init__(self, *, in_channels: int, anchor_generator):
        super().__init__()
        self.num_classes = 2  # numbers per anchor
        num_anchors = anchor_generator.num_anchors_per_cell
        self.cls = nn.Conv2d(in_channels, num_anchors * 2, 3, padding=1)
        self.bbox = nn.Conv2d(in_channels, num_anchors * 4, 3, padding=1)

    def init_weights(self) -> None:
        init_normal(self)

    def forward(self, feats: Sequence[Tensor]):
        return [self.cls(f) for f in feats], [self.bbox(f) for f in feats], [None for _ in feats]


class PriorDetector(SCRFD):
    """The dense detector with priors and a softmax."""

    default_criterion = "PriorCriterion"
    default_coder = "PriorCoder"

    def scores(self, outputs: Outputs) -> Tensor:
        return outputs.cls_logits.softmax(-1)[..., 1:]


class IoUMatcher:
    """Each anchor learns the face it overlaps most, if by more than iou_thr."""

    needs_predictions = False

    def __init__(self, *, iou_thr: float):
        self.iou_thr = iou_thr

    def __call__(self, grid, gt_bboxes, gt_valid, gt_ignore, valid_hw) -> Assignment:
        iou = pairwise_overlaps(grid.bboxes, gt_bboxes).masked_fill(~gt_valid[:, None], -1)  # (B, A, G)
        best, gt_index = iou.max(-1)
        return Assignment(gt_index, best > self.iou_thr, torch.zeros_like(best, dtype=torch.bool))


class PriorCriterion:
    """Cross-entropy on all anchors, smooth L1 on the codes of the positive ones."""

    def __init__(self, *, anchor_generator, coder, assigner):
        self.anchor_generator, self.coder, self.assigner = anchor_generator, coder, assigner

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        grid = self.anchor_generator.grid(outputs.level_sizes_hw, outputs.cls_logits.device)
        found = self.assigner(grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
        positive = found.is_positive
        num_positives = positive.sum().clamp(min=1)
        face = batch.gt_bboxes.gather(1, found.gt_index[..., None].expand(-1, -1, 4))
        face = torch.where(positive[..., None], face, grid.bboxes)  # a negative's code is 0
        codes = self.coder.encode_bboxes(face, grid.anchors)
        loss_bbox = F.smooth_l1_loss(outputs.bbox_pred, codes, reduction="none").sum(-1)
        loss_cls = F.cross_entropy(outputs.cls_logits.flatten(0, 1), positive.flatten().long())
        return {"loss_cls": loss_cls, "loss_bbox": (loss_bbox * positive).sum() / num_positives}


def read_csv(path, *, train, classes=None, num_kps=5) -> LabelFile:
    """Read lines `name,x1,y1,x2,y2`; the format knows neither sizes nor points."""
    faces: dict[str, list] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, *values = line.split(",")
        faces.setdefault(name, []).append([float(v) for v in values])
    records = [
        Record(
            name=name,
            bboxes=np.array(rows, np.float32),
            labels=np.zeros(len(rows), np.int64),
            kps=np.zeros((len(rows), num_kps, 3), np.float32),
            bboxes_ignore=np.zeros((0, 4), np.float32),
        )
        for name, rows in faces.items()
    ]
    return join_records(records, num_kps, classes or ("face",))


class DetectionsPerFace:
    """Detections for each labelled face: a figure no other metric has."""

    names = ("per_face",)

    def __init__(self, num_faces: int):
        self.num_faces = num_faces

    @classmethod
    def prepare(cls, dataset, cfg) -> "DetectionsPerFace":
        return cls(int((~dataset.labels.is_ignored).sum()))

    def compute(self, predictions) -> dict[str, float]:
        return {"per_face": sum(len(rows) for rows in predictions.values()) / self.num_faces}

    def report(self, folder: Path, title: str) -> str:
        return f"{title}: counted"


HEADS["TwoConvHead"] = TwoConvHead
DETECTORS["PriorDetector"] = PriorDetector
ASSIGNERS["IoUMatcher"] = IoUMatcher
CRITERIA["PriorCriterion"] = PriorCriterion
METRICS["DetectionsPerFace"] = DetectionsPerFace
LABEL_READERS["csv_lines"] = read_csv
