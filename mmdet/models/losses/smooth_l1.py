"""Smooth L1, for keypoints."""

import torch.nn.functional as F
from torch import Tensor


class SmoothL1Loss:
    """0.5 * d ** 2 / beta where |d| < beta, |d| - 0.5 * beta elsewhere."""

    def __init__(self, *, beta: float = 1.0, loss_weight: float = 1.0):
        self.beta = beta
        self.loss_weight = loss_weight

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each element; same shapes."""
        return self.loss_weight * F.smooth_l1_loss(pred, target, beta=self.beta, reduction="none")
