"""Count parameters and operations, by the rules mmcv's counter has (so figures compare with published ones).

A multiply-add is one operation. Counted: convolutions with their bias, affine norms (2 per element), ReLU
modules (1 per output element), pooling (1 per input element). Not counted: additions, up-sampling, Scale.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Complexity:
    """Size and cost of a detector for one image.

    Attributes:
        params: per part ("backbone", "neck", "bbox_head"), trainable or not.
        flops: per part, by the rules above.
        conv_macs: per part, multiply-adds of the convolutions alone.
    """

    params: dict[str, int]
    flops: dict[str, int]
    conv_macs: dict[str, int]


def count_complexity(model: Any, height: int, width: int) -> Complexity:
    """Count one image of height x width through model.raw; runs on shapes only, in no time.

    Args:
        model: a detector; not changed.
        height: of the network input, pixels.
        width: likewise.
    """
    model = copy.deepcopy(model).to("meta").eval()
    flops = {name: 0 for name, _ in model.named_children()}
    conv_macs = dict(flops)
    for part, child in model.named_children():

        def add(layer: nn.Module, inputs: tuple[Tensor], output: Tensor, part: str = part) -> None:
            flops[part] += count_layer(layer, inputs[0], output)
            conv_macs[part] += _count_macs(layer, output)

        for layer in child.modules():
            if not list(layer.children()):
                layer.register_forward_hook(add)
    with torch.no_grad():
        model.raw(torch.empty(1, 3, height, width, device="meta"))
    params = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    return Complexity(params, flops, conv_macs)


def count_layer(layer: nn.Module, x: Tensor, out: Tensor) -> int:
    """Return the operations of one call of a leaf layer; 0 for kinds that are not counted."""
    if isinstance(layer, nn.Conv2d):
        return _count_macs(layer, out) + (out.numel() if layer.bias is not None else 0)
    if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
        return x.numel() * (2 if layer.affine else 1)
    if isinstance(layer, nn.ReLU):
        return out.numel()
    if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
        return x.numel()
    return 0


def _count_macs(layer: nn.Module, out: Tensor) -> int:
    if not isinstance(layer, nn.Conv2d):
        return 0
    kernel_height, kernel_width = layer.kernel_size
    return out.numel() * layer.in_channels // layer.groups * kernel_height * kernel_width
