"""Losses without reduction: `LOSSES`, by the name in `model.bbox_head.loss_*.type`.

Aligned tensors in, one value per element out, times `loss_weight`. What is summed, and divided by what, is
decided by a criterion (models/criteria/). All of them expect fp32 and have finite gradients for all finite
inputs. Read iou.py, focal.py, smooth_l1.py.
"""

from collections.abc import Callable

from mmdet.models.losses.focal import DistributionFocalLoss, QualityFocalLoss
from mmdet.models.losses.iou import CIoULoss, DIoULoss, GIoULoss, IoULoss
from mmdet.models.losses.smooth_l1 import SmoothL1Loss

LOSSES: dict[str, Callable] = {
    "QualityFocalLoss": QualityFocalLoss,
    "DIoULoss": DIoULoss,
    "GIoULoss": GIoULoss,
    "CIoULoss": CIoULoss,
    "IoULoss": IoULoss,
    "DistributionFocalLoss": DistributionFocalLoss,
    "SmoothL1Loss": SmoothL1Loss,
}
