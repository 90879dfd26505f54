"""Losses without reduction: aligned tensors in, one value per element out, times `loss_weight`.

What is summed, and divided by what, is decided in one place: models/criterion.py. All of them expect
fp32 and have finite gradients for all finite inputs.
"""

from mmdet.models.losses.focal import DistributionFocalLoss, QualityFocalLoss
from mmdet.models.losses.iou import CIoULoss, DIoULoss, GIoULoss, IoULoss
from mmdet.models.losses.smooth_l1 import SmoothL1Loss

__all__ = [
    "CIoULoss",
    "DIoULoss",
    "DistributionFocalLoss",
    "GIoULoss",
    "IoULoss",
    "QualityFocalLoss",
    "SmoothL1Loss",
]
