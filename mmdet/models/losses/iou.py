"""Losses on how well a predicted box covers its target, all 1 - something.

`pred` and `target` are (..., 4) xyxy in the same unit; the result is (...). Predictions may be inverted
(a box distance may be negative): they overlap nothing, and gradients stay finite.
"""

import math

import torch
from torch import Tensor

from mmdet.core.bbox import bbox_overlaps


class _BboxLoss:
    def __init__(self, *, eps: float = 1e-6, loss_weight: float = 1.0):
        self.eps = eps
        self.loss_weight = loss_weight

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return (...) losses of boxes (..., 4)."""
        return self.loss_weight * self._loss(pred, target)

    def _loss(self, pred: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


class IoULoss(_BboxLoss):
    """-log(IoU), the IoU at least eps (arXiv:1608.01471)."""

    def _loss(self, pred: Tensor, target: Tensor) -> Tensor:
        return -bbox_overlaps(pred, target).clamp(min=self.eps).log()


class GIoULoss(_BboxLoss):
    """1 - GIoU (arXiv:1902.09630)."""

    def _loss(self, pred: Tensor, target: Tensor) -> Tensor:
        return 1 - bbox_overlaps(pred, target, mode="giou", eps=self.eps)


class DIoULoss(_BboxLoss):
    """1 - IoU + (distance of centres / diagonal of the hull) ** 2 (arXiv:1911.08287)."""

    def _loss(self, pred: Tensor, target: Tensor) -> Tensor:
        return 1 - _iou(pred, target, self.eps) + _center_penalty(pred, target, self.eps)


class CIoULoss(_BboxLoss):
    """DIoULoss plus a term for the aspect ratio (arXiv:1911.08287, equation 8).

    Differs from the reference: 0 instead of NaN where the boxes are identical.
    """

    def _loss(self, pred: Tensor, target: Tensor) -> Tensor:
        iou = _iou(pred, target, self.eps)
        v = (4 / math.pi**2) * (_slope_angle(target, self.eps) - _slope_angle(pred, self.eps)).square()
        shape_penalty = v * v / (1 - iou + v).clamp(min=self.eps)
        return 1 - iou + _center_penalty(pred, target, self.eps) + shape_penalty


def _iou(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """IoU with eps added to the union, as DIoU and CIoU have it."""
    lt = torch.maximum(pred[..., :2], target[..., :2])
    rb = torch.minimum(pred[..., 2:], target[..., 2:])
    inter = _area((rb - lt).clamp(min=0))
    pred_area, target_area = _area(pred[..., 2:] - pred[..., :2]), _area(target[..., 2:] - target[..., :2])
    # Without inversion the union is at least eps. With it inter is 0, so the clamp only avoids 0 / 0.
    return inter / (pred_area + target_area - inter + eps).clamp(min=eps)


def _area(wh: Tensor) -> Tensor:
    """Width times height; not prod(), whose gradient waits for the device to count zeros."""
    width, height = wh.unbind(-1)
    return width * height


def _center_penalty(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the smallest box around both."""
    hull_lt = torch.minimum(pred[..., :2], target[..., :2])
    hull_rb = torch.maximum(pred[..., 2:], target[..., 2:])
    diagonal2 = (hull_rb - hull_lt).clamp(min=0).square().sum(dim=-1) + eps
    shift = (target[..., :2] + target[..., 2:]) - (pred[..., :2] + pred[..., 2:])
    return shift.square().sum(dim=-1) / 4 / diagonal2


def _slope_angle(bboxes: Tensor, eps: float) -> Tensor:
    """arctan(width / height), with finite gradients everywhere."""
    width, height = (bboxes[..., 2:] - bboxes[..., :2]).unbind(-1)
    height = height + eps
    return torch.atan(width / torch.where(height == 0, eps, height))
