"""The two losses of Generalized Focal Loss (arXiv:2006.04388)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import ConfigError


class QualityFocalLoss:
    """Binary cross-entropy with a soft target q, times |q - sigmoid(logit)| ** beta (equation 3).

    The gradient also flows through that second factor.
    """

    def __init__(self, *, use_sigmoid: bool = True, beta: float = 2.0, loss_weight: float = 1.0):
        if not use_sigmoid:
            raise ConfigError(
                "QualityFocalLoss.use_sigmoid=False is not possible: its target is a probability."
            )
        self.beta = beta
        self.loss_weight = loss_weight

    def __call__(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return the loss of each logit (any shape); quality in [0, 1], 0 for background, same shape."""
        gap = logits.sigmoid() - quality
        # beta 2 without abs() and pow(): cheaper, and smooth where the gap is 0.
        focus = gap.square() if self.beta == 2 else gap.abs().pow(self.beta)
        cross_entropy = F.softplus(logits) - logits * quality
        return (cross_entropy if self.loss_weight == 1 else self.loss_weight * cross_entropy) * focus


class DistributionFocalLoss:
    """Cross-entropy with the two integers around a target between 0 and reg_max (equation 6)."""

    def __init__(self, *, loss_weight: float = 1.0):
        self.loss_weight = loss_weight

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return (...) losses of logits (..., reg_max + 1) for targets (...) in [0, reg_max)."""
        left = target.floor()
        log_prob = F.log_softmax(logits, dim=-1)
        log_left = log_prob.gather(-1, left.long()[..., None]).squeeze(-1)
        log_right = log_prob.gather(-1, left.long()[..., None] + 1).squeeze(-1)
        share_right = target - left
        return -self.loss_weight * torch.lerp(log_left, log_right, share_right)
