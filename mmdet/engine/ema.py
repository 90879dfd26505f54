"""Exponential moving average of the weights, kept in fp32 beside the model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmdet.config.types import EmaConfig
from mmdet.errors import CheckpointError


class WeightAverage:
    """avg += m * (weights - avg) after each iteration, for every floating-point entry of the state_dict.

    m = max(momentum, (warm_up - 1) / (warm_up + t)) at update t = 0, 1, ...: the first weights are
    forgotten as soon as there are better ones. (mmcv takes the smaller of the two, so that with its
    momentum of 0.0002 an untrained network stays in the average for some 20,000 iterations.)

    Args:
        cfg: momentum and warm_up.
        weights: the live fp32 values (`Precision.named_masters()`), by name.
    """

    def __init__(self, cfg: EmaConfig, weights: Mapping[str, Tensor]) -> None:
        self.cfg = cfg
        self.num_updates = 0
        self.average = {name: value.detach().clone() for name, value in weights.items()}

    def momentum(self) -> float:
        """Return the share that the next update gives to the live weights."""
        warm_up = self.cfg.warm_up
        early = (warm_up - 1) / (warm_up + self.num_updates) if warm_up else 0.0
        return max(self.cfg.momentum, early)

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the live weights; counters (integers) are copied. No host sync."""
        names = [name for name, value in weights.items() if value.is_floating_point()]
        averages = [self.average[name] for name in names]
        torch._foreach_lerp_(averages, [weights[name] for name in names], self.momentum())
        for name, value in weights.items():
            if not value.is_floating_point():
                self.average[name].copy_(value)
        self.num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides the averages, which are the checkpoint's state_dict."""
        return {"num_updates": self.num_updates}

    def load_state_dict(self, state: Mapping[str, Any], average: Mapping[str, Tensor]) -> None:
        """Restore; `average` holds the checkpoint's averages by name."""
        if set(average) != set(self.average):
            raise CheckpointError("the averaged weights in the checkpoint are of another model")
        with torch.no_grad():
            for name, value in average.items():
                self.average[name].copy_(value)
        self.num_updates = int(state["num_updates"])
