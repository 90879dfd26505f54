"""The optional apex backend: `amp = dict(level="O2", backend="apex")` on a machine that has Ascend's apex.

Ascend's apex.amp differs from NVIDIA's by `combine_grad`, which gathers the gradients in one buffer.
Nothing else in the package knows apex.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.config.types import AmpConfig
from mmdet.errors import ConfigError
from mmdet.precision.flat import ModelWeights


def import_apex_amp() -> Any:
    """Return apex.amp; ConfigError with the reason if it cannot be imported."""
    try:
        return importlib.import_module("apex.amp")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"amp.backend = 'apex', but apex cannot be used ({reason}). Install Ascend's apex, or set "
            "amp.backend='native', which needs nothing and does the same."
        ) from error


def initialize(
    amp: Any, model: nn.Module, optimizer: torch.optim.Optimizer, cfg: AmpConfig
) -> torch.optim.Optimizer:
    """Let apex take over model and optimizer, as the Ascend folder's trainer does.

    apex changes the model in place; the model it returns must be the same object, because the caller
    and DistributedDataParallel hold on to ours.
    """
    same_model, optimizer = amp.initialize(
        model, optimizer, opt_level=cfg.level, loss_scale=cfg.loss_scale, combine_grad=True
    )
    if same_model is not model:
        raise ConfigError("amp.backend = 'apex': this apex replaces the model; set amp.backend='native'.")
    return optimizer


class ApexWeights(ModelWeights):
    """Master weights kept by apex, in the order in which the optimizer got the parameters."""

    def __init__(self, model: nn.Module, amp: Any) -> None:
        super().__init__(model)
        self.amp = amp
        self.optimizer: torch.optim.Optimizer | None = None
        self._trained = super().optimizer_params()

    def optimizer_params(self) -> list[nn.Parameter]:
        """Return the model's parameters, then, once apex took over, its master weights."""
        return self._trained if self.optimizer is None else list(self.amp.master_params(self.optimizer))

    def fp32_values(self) -> dict[str, Tensor]:
        """Return every entry of the model's state_dict, with apex's masters for trained values."""
        masters = dict(zip(map(id, self._trained), self.optimizer_params(), strict=True))
        state = self.model.state_dict(keep_vars=True)
        return {name: to_fp32(masters.get(id(value), value).detach()) for name, value in state.items()}

    def push(self) -> None:
        """Round the masters into the model, after loading (in a step apex does it)."""
        for parameter, master in zip(self._trained, self.optimizer_params(), strict=True):
            if parameter is not master:
                parameter.data.copy_(master.detach())

    def masters(self) -> list[Tensor]:
        """Return apex's master weights."""
        return [parameter.detach() for parameter in self.optimizer_params()]


def to_fp32(value: Tensor) -> Tensor:
    """Return floating-point values as fp32, others (counters) as they are."""
    return value.float() if value.is_floating_point() else value
