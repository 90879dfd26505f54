"""Losses on how well a predicted box covers its target, all 1 - something.

`pred` and `target` are (..., 4) xyxy in the same unit; the result is (...). Predictions may be inverted
(a box distance may be negative): they overlap nothing, and gradients stay finite. `of` takes both as a
`BboxPair`, which a criterion asks for other things, too.
"""

import math

import torch
from torch import Tensor

from mmdet.core.bbox import BboxPair, bbox_overlaps, split_corners


class BboxLoss:
    """What the losses of this file share."""

    def __init__(self, *, eps: float = 1e-6, loss_weight: float = 1.0):
        self.eps = eps
        self.loss_weight = loss_weight

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return (...) losses of boxes (..., 4)."""
        return self.of(BboxPair(pred, target))

    def of(self, pair: BboxPair) -> Tensor:
        """Return (...) losses of aligned boxes."""
        return self.loss_weight * self._loss(pair)

    def _loss(self, pair: BboxPair) -> Tensor:
        raise NotImplementedError


class IoULoss(BboxLoss):
    """-log(IoU), the IoU at least eps (arXiv:1608.01471)."""

    def _loss(self, pair: BboxPair) -> Tensor:
        return -bbox_overlaps(pair.pred, pair.target).clamp(min=self.eps).log()


class GIoULoss(BboxLoss):
    """1 - GIoU (arXiv:1902.09630)."""

    def _loss(self, pair: BboxPair) -> Tensor:
        return 1 - bbox_overlaps(pair.pred, pair.target, mode="giou", eps=self.eps)


class DIoULoss(BboxLoss):
    """1 - IoU + (distance of centres / diagonal of the hull) ** 2 (arXiv:1911.08287)."""

    def _loss(self, pair: BboxPair) -> Tensor:
        return 1 - _iou(pair, self.eps) + _center_penalty(pair, self.eps)


class CIoULoss(BboxLoss):
    """DIoULoss plus a term for the aspect ratio (arXiv:1911.08287, equation 8).

    Differs from the reference: 0 instead of NaN where the boxes are identical.
    """

    def _loss(self, pair: BboxPair) -> Tensor:
        iou = _iou(pair, self.eps)
        turn = _slope_angle(pair.target, self.eps) - _slope_angle(pair.pred, self.eps)
        v = (4 / math.pi**2) * turn.square()
        shape_penalty = v * v / (1 - iou + v).clamp(min=self.eps)
        return 1 - iou + _center_penalty(pair, self.eps) + shape_penalty


def _iou(pair: BboxPair, eps: float) -> Tensor:
    """IoU with eps added to the union, as DIoU and CIoU have it."""
    # Without inversion the union is at least eps. With it inter is 0, so the clamp only avoids 0 / 0.
    union = pair.area + pair.target_area - pair.inter + eps
    return pair.inter / union.clamp(min=eps)


def _center_penalty(pair: BboxPair, eps: float) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the smallest box around both."""
    low, high = split_corners(pair.pred)
    target_low, target_high = split_corners(pair.target)
    hull = (torch.maximum(high, target_high) - torch.minimum(low, target_low)).relu()
    shift = (low + high) - (target_low + target_high)
    return _squared_length(shift) / 4 / (_squared_length(hull) + eps)


def _squared_length(xy: Tensor) -> Tensor:
    x2, y2 = xy.square().unbind(0)
    return x2 + y2


def _slope_angle(bboxes: Tensor, eps: float) -> Tensor:
    """arctan(width / height), with finite gradients everywhere."""
    width, height = (bboxes[..., 2:] - bboxes[..., :2]).unbind(-1)
    height = height + eps
    return torch.atan(width / torch.where(height == 0, eps, height))
