"""num_batches_tracked of all BatchNorm layers, counted by one kernel instead of one each."""

import torch
from torch import nn

from mmdet.models.layers import BatchNorm2d


class BatchCounter:
    """Takes over the counting of the layers that train with a fixed momentum; nothing depends on the numbers.

    The counters become views of one tensor: do not call model.to() afterwards.

    Args:
        model: on its device, in training mode: layers in evaluation mode count no batches.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [
            layer
            for layer in model.modules()
            if isinstance(layer, BatchNorm2d) and layer.training and layer.num_batches_tracked is not None
        ]
        layers = [layer for layer in layers if layer.momentum is not None]
        self._counts: torch.Tensor | None = None
        if not layers:
            return
        self._counts = torch.stack([layer.num_batches_tracked for layer in layers])  # type: ignore[misc]
        for layer, count in zip(layers, self._counts, strict=True):
            layer.num_batches_tracked = count
            layer.counts = False

    def add(self) -> None:
        """Count one batch."""
        if self._counts is not None:
            self._counts += 1
