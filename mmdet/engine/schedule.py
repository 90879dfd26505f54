"""Learning rate as a pure function of the iteration: nothing to save, nothing to restore."""

import logging
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import torch

from mmdet.config.types import LrConfig
from mmdet.errors import ConfigError, unknown_name

logger = logging.getLogger("mmdet")

# The warm-up of policy "auto": three epochs within bounds, where the run has room for it.
WARMUP_EPOCHS = 3
LEAST_WARMUP_ITERS = 50
MOST_WARMUP_ITERS = 1500
WARMUP_SHARE = 0.15  # most that a fitted warm-up takes of a run
FINAL_LR = 0.01  # the cosine of "auto" ends at this share of the rate


def step_lr(cfg: LrConfig, base_lr: float, progress: int, total: float) -> float:  # noqa: ARG001
    """Return base_lr * gamma^(number of steps <= progress), at least min_lr."""
    return max(base_lr * cfg.gamma ** bisect_right(cfg.step, progress), cfg.min_lr or 0.0)


def cosine_lr(cfg: LrConfig, base_lr: float, progress: int, total: float) -> float:
    """Return the rate of half a cosine wave from base_lr down to min_lr over `total`."""
    return _half_wave(base_lr, cfg.min_lr or 0.0, min(progress / max(total, 1), 1.0))


def cosine_restarts_lr(cfg: LrConfig, base_lr: float, progress: int, total: float) -> float:  # noqa: ARG001
    """Return the rate of half waves of length T_0, T_0 * T_mult, ... (SGDR, arXiv:1608.03983, equation 5).

    Equal to torch's CosineAnnealingWarmRestarts with eta_min = min_lr, stepped once per epoch.
    """
    period = cfg.T_0
    if cfg.T_mult == 1:
        progress %= period
    while progress >= period:
        progress, period = progress - period, period * cfg.T_mult
    return _half_wave(base_lr, cfg.min_lr or 0.0, progress / period)


def _half_wave(high: float, low: float, fraction: float) -> float:
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * fraction))


# `lr_config.policy` -> (cfg, optimizer.lr, progress, total) -> regular rate; progress and total count epochs,
# or iterations with by_epoch=False.
SCHEDULES: dict[str, Callable[[LrConfig, float, int, float], float]] = {
    "step": step_lr,
    "cosine": cosine_lr,
    "CosineRestarts": cosine_restarts_lr,
}


def fit_lr(cfg: LrConfig, base_lr: float, iters_per_epoch: int, total_epochs: float) -> LrConfig:
    """Return what policy "auto" means for a run: a linear warm-up, then a cosine, iteration by iteration."""
    total_iters = round(iters_per_epoch * total_epochs)
    wanted = min(max(WARMUP_EPOCHS * iters_per_epoch, LEAST_WARMUP_ITERS), MOST_WARMUP_ITERS)
    fitted = min(wanted, int(WARMUP_SHARE * total_iters))
    if fitted < LEAST_WARMUP_ITERS:
        logger.warning(
            "lr_config.policy auto: %d iters are too few for a warm-up of %d; used %d",
            total_iters,
            LEAST_WARMUP_ITERS,
            fitted,
        )
    return LrConfig(
        policy="cosine",
        by_epoch=False,
        min_lr=FINAL_LR * base_lr if cfg.min_lr is None else cfg.min_lr,
        warmup="linear" if fitted else None,
        warmup_iters=fitted,
        warmup_ratio=cfg.warmup_ratio,
    )


def shorten_warmup(cfg: LrConfig, iters_per_epoch: int, total_epochs: float) -> LrConfig:
    """Return the config with a warm-up that leaves room for the rest of a run; log a change."""
    most = int(WARMUP_SHARE * total_epochs * iters_per_epoch)
    iters = cfg.warmup_iters * (iters_per_epoch if cfg.warmup_by_epoch else 1)
    if cfg.warmup is None or iters <= most:
        return cfg
    logger.warning("lr_config: the warm-up of %d iters is shortened to %d, to fit the run", iters, most)
    return replace(cfg, warmup=cfg.warmup if most else None, warmup_iters=most, warmup_by_epoch=False)


class Schedule:
    """A policy of SCHEDULES, or "auto", with a warm-up, as mmcv's learning-rate hooks compute them.

    During the first warmup_iters iterations the regular rate is multiplied by a factor that grows from
    warmup_ratio to 1.

    Args:
        cfg: `lr_config` of the config file.
        base_lr: optimizer.lr.
        iters_per_epoch: iterations of one epoch.
        total_epochs: epochs the policy is planned for; need not be whole.

    Raises:
        ConfigError: unknown policy, or one whose arguments are missing.
    """

    def __init__(self, cfg: LrConfig, base_lr: float, iters_per_epoch: int, total_epochs: float) -> None:
        if cfg.policy == "auto":
            cfg = fit_lr(cfg, base_lr, iters_per_epoch, total_epochs)
        if cfg.policy not in SCHEDULES:
            raise ConfigError(unknown_name("lr_config.policy", cfg.policy, (*SCHEDULES, "auto")))
        if cfg.policy == "CosineRestarts" and not (cfg.T_0 >= 1 and cfg.T_mult >= 1):
            raise ConfigError(
                f"lr_config.policy = 'CosineRestarts' needs T_0 >= 1 (length of the first period) and "
                f"T_mult >= 1, not {cfg.T_0} and {cfg.T_mult}"
            )
        self.cfg = cfg
        self.base_lr = base_lr
        self.iters_per_epoch = iters_per_epoch
        self.total = total_epochs if cfg.by_epoch else round(total_epochs * iters_per_epoch)
        self.warmup_iters = cfg.warmup_iters * (iters_per_epoch if cfg.warmup_by_epoch else 1)

    def misfit(self, total_iters: int) -> str:
        """Return what of the schedule lies beyond a run of so many iterations, "" if nothing does."""
        late = []
        if self.cfg.warmup is not None and self.warmup_iters >= total_iters:
            late.append(f"the warm-up ends at iter {self.warmup_iters}")
        if self.cfg.policy == "step" and self.cfg.step:
            first = self.cfg.step[0] * (self.iters_per_epoch if self.cfg.by_epoch else 1)
            late += [f"the rate first falls at iter {first}"] if first >= total_iters else []
        return " and ".join(late)

    def lr_at(self, iter: int) -> float:
        """Return the learning rate of an iteration, counted from 0 over the whole run."""
        progress = iter // self.iters_per_epoch if self.cfg.by_epoch else iter
        regular = SCHEDULES[self.cfg.policy](self.cfg, self.base_lr, progress, self.total)
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

    def _warmup_factor(self, fraction: float) -> float:
        ratio = self.cfg.warmup_ratio
        if self.cfg.warmup == "constant":
            return ratio
        if self.cfg.warmup == "linear":
            return 1 - (1 - fraction) * (1 - ratio)
        return ratio ** (1 - fraction)  # "exp"
