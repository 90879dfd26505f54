"""Give back to BatchNorm what an ONNX file does not hold: the statistics of its input."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdet.deploy.export.quantize import read_blobs
from mmdet.deploy.runtime.description import Description
from mmdet.models.detectors.dense import SCRFD

NUM_IMAGES = 16
BATCH_NORM = nn.modules.batchnorm._BatchNorm


def calibrate(model: SCRFD, folder: str | Path, facts: Description) -> tuple[int, int]:
    """Set mean and variance of every BatchNorm to those of its input on some images.

    Its weight and bias change along, so that in eval mode the model computes the same as before. In train
    mode, where the statistics are the batch's, it then computes about that, too, and can be fine-tuned.

    Args:
        model: on the CPU.
        folder: with images like those of the training; 16 of them, evenly spaced by name, are read.
        facts: how the images are normalised.

    Returns:
        Number of layers, and of images used.

    Raises:
        DataError: no image there, or one cannot be read.
    """
    num, blobs = read_blobs(str(folder), NUM_IMAGES, facts)
    sums = _sum_inputs(model, map(torch.from_numpy, blobs))
    for layer, (total, squares, count) in sums.items():
        mean = total / count
        set_statistics(layer, mean, (squares / count - mean**2).clamp(min=0))
    return len(sums), num


def set_statistics(layer: nn.Module, mean: Tensor, var: Tensor) -> None:
    """Change a BatchNorm's running mean and variance, (C,), but not what it computes in eval mode."""
    factor = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
    term = layer.bias.double() - layer.running_mean.double() * factor
    with torch.no_grad():
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
        layer.weight.copy_(factor * (var + layer.eps).sqrt())
        layer.bias.copy_(term + mean * factor)


def _sum_inputs(model: SCRFD, blobs: Iterable[Tensor]) -> dict[nn.Module, list]:
    """Return, per BatchNorm, the sum, the sum of squares (C,) and the number of values of its input."""
    sums: dict[nn.Module, list] = {}

    def add(layer: nn.Module, args: tuple[Tensor]) -> None:
        values = args[0].double()
        entry = sums.setdefault(layer, [0.0, 0.0, 0])
        entry[0] += values.sum((0, 2, 3))
        entry[1] += (values * values).sum((0, 2, 3))
        entry[2] += values.numel() // values.shape[1]

    with ExitStack() as hooks, torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, BATCH_NORM):
                hooks.enter_context(layer.register_forward_pre_hook(add))
        for blob in blobs:
            model.eval().raw(blob)
    return sums
