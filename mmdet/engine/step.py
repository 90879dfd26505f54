"""What carries out a training step: the model on its device, precision and optimizer, as `speed` asks for."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from mmdet.config.types import RunConfig
from mmdet.engine.optim import build_optimizer
from mmdet.engine.speed import choose_memory_format, fuse_optimizer, start_momentum
from mmdet.precision import Precision


class StepParts(NamedTuple):
    """What `Trainer` needs of a step besides the network; the fields have its names for them."""

    precision: Precision
    optimizer: torch.optim.Optimizer
    memory_format: torch.memory_format


def build_step(
    model: nn.Module, cfg: RunConfig, device: torch.device, optimizer_cfg: Mapping[str, object]
) -> StepParts:
    """Move the model to the device, in place, and build what updates it; runs and benchmarks do the same.

    Afterwards come, in this order: DDP, `compile_network`, the trainer, `record_steps`.

    Args:
        model: fp32, its weights loaded; O2 changes it to half precision.
        cfg: amp and speed.
        device: of the step.
        optimizer_cfg: cfg.optimizer, or with another learning rate.
    """
    memory_format = choose_memory_format(cfg.speed, device)
    precision = Precision(model.to(device, memory_format=memory_format), cfg.amp, device)
    fused_cfg = fuse_optimizer(optimizer_cfg, cfg.speed)
    optimizer = build_optimizer(precision.optimizer_params(), fused_cfg, cfg.amp.backend)
    start_momentum(optimizer)
    return StepParts(precision, precision.prepare(optimizer), memory_format)
