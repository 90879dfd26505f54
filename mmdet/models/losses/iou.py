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
    left, top, right, bottom = pred.unbind(-1)
    target_left, target_top, target_right, target_bottom = target.unbind(-1)
    inter_w = torch.minimum(right, target_right) - torch.maximum(left, target_left)
    inter_h = torch.minimum(bottom, target_bottom) - torch.maximum(top, target_top)
    inter = inter_w.clamp(min=0) * inter_h.clamp(min=0)
    pred_area = (right - left) * (bottom - top)
    target_area = (target_right - target_left) * (target_bottom - target_top)
    # Without inversion the union is at least eps. With it inter is 0, so the clamp only avoids 0 / 0.
    return inter / (pred_area + target_area - inter + eps).clamp(min=eps)


def _center_penalty(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the smallest box around both."""
    left, top, right, bottom = pred.unbind(-1)
    target_left, target_top, target_right, target_bottom = target.unbind(-1)
    hull_w = torch.maximum(right, target_right) - torch.minimum(left, target_left)
    hull_h = torch.maximum(bottom, target_bottom) - torch.minimum(top, target_top)
    diagonal2 = hull_w.clamp(min=0).square() + hull_h.clamp(min=0).square() + eps
    shift_x = (target_left + target_right) - (left + right)
    shift_y = (target_top + target_bottom) - (top + bottom)
    return (shift_x.square() + shift_y.square()) / 4 / diagonal2


def _slope_angle(bboxes: Tensor, eps: float) -> Tensor:
    """arctan(width / height), with finite gradients everywhere."""
    width, height = (bboxes[..., 2:] - bboxes[..., :2]).unbind(-1)
    height = height + eps
    return torch.atan(width / torch.where(height == 0, eps, height))
