"""The optimizer of a config file, and the linear rule for its learning rate."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from mmdet.errors import ConfigError, unknown_name

# Ascend's SGD over one flat gradient buffer. Level O2 gives torch's SGD such a buffer anyway.
FUSED_SGD = "NpuFusedSGD"
UNFIT = ("Optimizer", "LBFGS", "SparseAdam")  # the base class; needs a closure; needs sparse gradients
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name: value
    for name, value in vars(torch.optim).items()
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and name not in UNFIT
} | {FUSED_SGD: torch.optim.SGD}


def build_optimizer(
    params: Iterable[nn.Parameter], cfg: Mapping[str, object], backend: str = "native"
) -> torch.optim.Optimizer:
    """Return the optimizer that `cfg` describes.

    Args:
        params: what it updates (`Precision.optimizer_params()`).
        cfg: {"type": a name of OPTIMIZERS, "lr": ..., ...}; not changed.
        backend: "apex" takes NpuFusedSGD from apex; otherwise it is torch's SGD, the same formula.

    Raises:
        ConfigError: unknown type, or arguments its class refuses.
    """
    arguments: dict[str, Any] = {key: value for key, value in cfg.items() if key != "type"}
    name = str(cfg.get("type"))
    optimizer_class = _find_class(name, backend)
    try:
        return optimizer_class(params, **arguments)
    except (TypeError, ValueError) as error:
        reason = str(error).split(") ", 1)[-1] if "__init__()" in str(error) else str(error)
        raise ConfigError(f"optimizer: {name} refuses its arguments: {reason}") from error


def _find_class(name: str, backend: str) -> type[torch.optim.Optimizer]:
    if name == FUSED_SGD and backend == "apex":
        try:
            return importlib.import_module("apex.optimizers").NpuFusedSGD
        except (ImportError, AttributeError, OSError) as error:
            raise ConfigError(
                f"optimizer.type = {name!r} with amp.backend = 'apex': {error}. Use optimizer.type=SGD, or "
                "amp.backend=native."
            ) from error
    if name not in OPTIMIZERS:
        raise ConfigError(unknown_name("optimizer.type", name, OPTIMIZERS))
    return OPTIMIZERS[name]


def scale_lr(lr: float, batch_size_total: int, base_batch_size: int, power: float = 1.0) -> float:
    """Return the learning rate for another number of images per step over all ranks (1: the linear rule)."""
    return lr * (batch_size_total / base_batch_size) ** power
