"""Learning rate as a pure function of the iteration: nothing to save, nothing to restore."""

import math
from bisect import bisect_right

import torch

from mmdet.config.types import LrConfig


class Schedule:
    """Step or cosine policy with a warm-up, as mmcv's learning-rate hooks compute them.

    Regular rate of epoch e (0-based): base_lr * gamma^(number of steps <= e), at least min_lr; cosine:
    from base_lr down to min_lr over all epochs. During the first warmup_iters iterations the regular rate
    is multiplied by a factor that grows from warmup_ratio to 1.

    Args:
        cfg: `lr_config` of the config file.
        base_lr: optimizer.lr.
        iters_per_epoch: iterations of one epoch.
        total_epochs: epochs the policy is planned for.
    """

    def __init__(self, cfg: LrConfig, base_lr: float, iters_per_epoch: int, total_epochs: int) -> None:
        self.cfg = cfg
        self.base_lr = base_lr
        self.iters_per_epoch = iters_per_epoch
        self.total_epochs = total_epochs
        self.warmup_iters = cfg.warmup_iters * (iters_per_epoch if cfg.warmup_by_epoch else 1)

    def lr_at(self, iter: int) -> float:
        """Return the learning rate of an iteration, counted from 0 over the whole run."""
        regular = self._regular_lr(iter)
        if self.cfg.warmup is None or iter >= self.warmup_iters:
            return regular
        return regular * self._warmup_factor(iter / self.warmup_iters)

    def apply(self, optimizer: torch.optim.Optimizer, iter: int) -> None:
        """Give the optimizer the learning rate of an iteration; a tensor stays and changes its value."""
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(self.lr_at(iter))
            else:
                group["lr"] = self.lr_at(iter)

    def _regular_lr(self, iter: int) -> float:
        cfg, low = self.cfg, self.cfg.min_lr or 0.0
        progress = iter // self.iters_per_epoch if cfg.by_epoch else iter
        if cfg.policy == "cosine":
            end = self.total_epochs * (1 if cfg.by_epoch else self.iters_per_epoch)
            fraction = min(progress / max(end, 1), 1.0)
            return low + 0.5 * (self.base_lr - low) * (1 + math.cos(math.pi * fraction))
        num_steps = bisect_right(cfg.step, progress)
        return max(self.base_lr * cfg.gamma**num_steps, low)

    def _warmup_factor(self, fraction: float) -> float:
        ratio = self.cfg.warmup_ratio
        if self.cfg.warmup == "constant":
            return ratio
        if self.cfg.warmup == "linear":
            return 1 - (1 - fraction) * (1 - ratio)
        return ratio ** (1 - fraction)  # "exp"
