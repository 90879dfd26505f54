"""The command line of tools/train.py against the config file: which value counts."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmdet.config import RunConfig, load_config
from mmdet.engine.optim import scale_lr
from mmdet.errors import ConfigError

logger = logging.getLogger("mmdet")

PERF_EPOCHS = 3
LOG_INTERVAL = 50


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The command line of tools/train.py; None leaves the choice to the config file.

    Attributes:
        amp: level, instead of the config's amp.level.
        epochs: length of training, to which the recipe's milestones and intervals are scaled; a fraction
            of an epoch ends inside the last one.
        schedule: "auto" replaces the config's lr_config and intervals.
        perf: measure speed: 3 epochs or max_iters, no checkpoints, no evaluation.
        resume_from: a file or "auto".
        load_fitting: take of load_from what fits; else every weight must.
        freeze: modules that keep their weights.
        hang_timeout: seconds without progress, beyond the longest step, after which the run ends; 0: never.
        profiling: write a trace of steps 10 to 15 to work_dir/profile.
    """

    config: str
    work_dir: str | None = None
    device: str = "auto"
    cfg_options: Sequence[str] = ()
    seed: int | None = None
    deterministic: bool = False
    validate: bool = True
    epochs: float | None = None
    schedule: str | None = None
    perf: bool = False
    max_iters: int | None = None
    resume_from: str | None = None
    load_from: str | None = None
    load_fitting: bool = False
    freeze: Sequence[str] = ()
    auto_scale_lr: bool = False
    amp: str | None = None
    profiling: bool = False
    hang_timeout: float = 60.0


def read_config(options: TrainOptions) -> RunConfig:
    """Load the config file and let the command line win over it."""
    cfg = load_config(options.config, options.cfg_options, options.epochs, options.schedule)
    if not cfg.data.train:
        raise ConfigError(f"config {options.config}: data.train is missing; it says what to train on")
    if options.load_fitting and not (options.load_from or cfg.load_from):
        raise ConfigError("--load-fitting: give the weights with --load-from FILE")
    amp = cfg.amp if options.amp is None else replace(cfg.amp, level=options.amp)
    stem = Path(options.config).stem
    return replace(
        cfg,
        work_dir=options.work_dir or cfg.work_dir or f"work_dirs/{stem}",
        seed=cfg.seed if options.seed is None else options.seed,
        resume_from=options.resume_from or cfg.resume_from,
        load_from=options.load_from or cfg.load_from,
        load_fitting=options.load_fitting or cfg.load_fitting,
        freeze=tuple(options.freeze) or cfg.freeze,
        amp=amp,
    )


def choose_work_dir(cfg: RunConfig) -> Path:
    """Return work_dir; ConfigError if it cannot be written. Makes nothing yet."""
    assert cfg.work_dir is not None
    work_dir = Path(cfg.work_dir).expanduser()
    existing = next(path for path in (work_dir.absolute(), *work_dir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(f"work_dir {work_dir}: {existing} is a file; choose another --work-dir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"work_dir {work_dir}: {existing} is not writable; choose another --work-dir")
    return work_dir


def choose_seed(wanted: int | None, resumed: dict | None) -> int:
    """Return the seed: asked for, else of the run that is resumed, else 0."""
    if wanted is not None:
        return wanted
    return int(resumed["position"]["seed"]) if resumed else 0


def choose_lr(cfg: RunConfig, batch_size_total: int, is_auto: bool, power: float = 1.0) -> dict:
    """Return the optimizer's dict, with the learning rate scaled if asked for.

    Args:
        cfg: the config.
        batch_size_total: images per step over all ranks.
        is_auto: scale it.
        power: of the batch size that the rate is proportional to.

    Raises:
        ConfigError: asked for, but the config does not say which batch size its rate is meant for.
    """
    base, lr = cfg.base_batch_size, cfg.optimizer["lr"]
    if is_auto:
        if base is None:
            raise ConfigError("--auto-scale-lr: the config lacks auto_scale_lr=dict(base_batch_size=...)")
        scaled = scale_lr(lr, batch_size_total, base, power)
        logger.info(
            "learning rate %g for %d images per step becomes %g for %d", lr, base, scaled, batch_size_total
        )
        return {**cfg.optimizer, "lr": scaled}
    if base is not None and base != batch_size_total:
        logger.info(
            "learning rate %g is meant for %d images per step, this run has %d: --auto-scale-lr makes it %g",
            lr,
            base,
            batch_size_total,
            scale_lr(lr, batch_size_total, base),
        )
    return cfg.optimizer


def choose_power(cfg: RunConfig) -> float:
    """Return the power of the batch size by which an automatic schedule scales the rate.

    1 for SGD (arXiv:1706.02677), 0.5 for Adam and AdamW (arXiv:2205.10287).
    """
    return 0.5 if cfg.optimizer["type"].startswith("Adam") else 1.0


def choose_log_interval(cfg: RunConfig, total_iters: int) -> int:
    """Return the iterations between log lines."""
    if cfg.log_interval is not None or cfg.lr.policy != "auto":
        return cfg.log_interval or LOG_INTERVAL
    return min(LOG_INTERVAL, max(1, total_iters // 100))


def count_iters(options: TrainOptions, total_epochs: int, iters_per_epoch: int) -> int:
    """Return where training ends."""
    if options.perf:
        return options.max_iters or PERF_EPOCHS * iters_per_epoch
    planned = round((options.epochs or total_epochs) * iters_per_epoch)
    return planned if options.max_iters is None else min(options.max_iters, planned)
