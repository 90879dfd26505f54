"""Distillation: the losses of another criterion, and those that compare with a larger detector.

Letters: B images, A anchors, C classes. With p the teacher's probability of an anchor's best class, an
anchor counts p^2, so that the many anchors without a face count next to nothing.
"""

from typing import Any

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGrid, Anchors
from mmdet.core.coders import DistanceCoder
from mmdet.core.structures import Batch, Outputs
from mmdet.errors import ConfigError
from mmdet.models.teacher import Teacher, Told, attention_of


class DistillCriterion:
    """Adds losses to those of `base`; P is the sum of p^2 over all anchors, at least 1.

    * loss_teacher_cls = sum over anchors and classes of the class loss of `base` (quality focal loss) / P,
      the target being the teacher's probability;
    * loss_teacher_bbox = sum of p^2 * the box loss of `base` / P, the target being the teacher's box;
    * loss_teacher_kps likewise, where both have keypoints;
    * loss_teacher_features = mean over images and levels of the squared distance of attention maps.

    All are 0 where student and teacher say the same. The teacher is not part of checkpoints.

    Args:
        base: the criterion that learns from labels; an SCRFDCriterion.
        teacher: gives `Told` for images. It must have the student's anchors and classes.
        cls_weight, bbox_weight, kps_weight, features_weight: of the losses above; 0 leaves one out.

    Attributes:
        needs_features: outputs have to come with `features`.
    """

    def __init__(
        self,
        *,
        base: Any,
        teacher: Teacher,
        cls_weight: float = 1.0,
        bbox_weight: float = 1.0,
        kps_weight: float = 1.0,
        features_weight: float = 1.0,
    ) -> None:
        if not isinstance(getattr(base, "coder", None), DistanceCoder):
            raise ConfigError("DistillCriterion works with the criterion of SCRFD as its base")
        net, mine = teacher.net, base.anchor_generator
        theirs = net.anchor_generator
        if vars(theirs) != vars(mine) or net.bbox_head.num_classes != base.num_classes:
            raise ConfigError(
                f"model.criterion.teacher has strides {theirs.strides} with base sizes "
                f"{theirs.base_sizes} and {net.bbox_head.num_classes} classes, the student {mine.strides}, "
                f"{mine.base_sizes} and {base.num_classes}; both need the same anchors and classes"
            )
        if min(cls_weight, bbox_weight, kps_weight, features_weight) < 0:
            raise ConfigError("DistillCriterion: weights must be at least 0")
        self.base, self.teacher = base, teacher
        self.anchor_generator, self.assigner = mine, base.assigner
        has_kps = base.loss_kps is not None and net.bbox_head.num_kps > 0
        self.weights = {"cls": cls_weight, "bbox": bbox_weight, "kps": kps_weight * has_kps}
        self.features_weight = features_weight
        self.needs_features = features_weight > 0

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of `base` and those above, fp32 scalars on the device."""
        losses = self.base(outputs, batch)
        told = self.teacher(batch.images)
        prob = told.cls_logits.sigmoid()
        weight = prob.amax(dim=-1).square()  # (B, A)
        total = weight.sum().clamp(min=1)
        grid = self.anchor_generator.grid(outputs.level_sizes_hw, weight.device)
        sums = {
            "cls": lambda: self.base.loss_cls(outputs.cls_logits, prob).sum(),
            "bbox": lambda: (self._bbox_loss(outputs, told, grid) * weight).sum(),
            "kps": lambda: (self.base.loss_kps(outputs.kps_pred, told.kps_pred).sum(-1) * weight).sum(),
        }
        for name, factor in self.weights.items():
            if factor:
                losses[f"loss_teacher_{name}"] = factor * sums[name]() / total
        if self.needs_features:
            assert outputs.features is not None
            losses["loss_teacher_features"] = self.features_weight * _distance(
                attention_of(outputs.features), told.attention
            )
        return losses

    def _bbox_loss(self, outputs: Outputs, told: Told, grid: AnchorGrid) -> Tensor:
        """Return (B, A), the loss between the boxes of both, in strides."""
        anchors = Anchors(grid.cells[:2].t(), stride=None, wh=None)
        mine, theirs = (
            self.base.coder.decode_bboxes(ltrb, anchors) for ltrb in (outputs.bbox_pred, told.bbox_pred)
        )
        return self.base.loss_bbox(mine, theirs)


def _distance(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
    """Return the mean over images and levels of the squared distance of maps (B, H, W)."""
    return torch.stack(
        [(a - b).square().sum(dim=(1, 2)).mean() for a, b in zip(mine, theirs, strict=True)]
    ).mean()
