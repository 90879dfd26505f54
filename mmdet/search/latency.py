"""Parameters of a config's model, and its latency on this machine as an ONNX file."""

import io
import statistics
import timeit
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from mmdet.deploy.runtime.session import import_onnxruntime
from mmdet.models.build import build_detector
from mmdet.models.plainnet.blocks import PlainNet
from mmdet.models.plainnet.structure import Structure
from mmdet.search.cost import SIZE_HW

RUNS, WARM_UP = 12, 3


def count_params(model_cfg: Mapping) -> int:
    """Return the number of parameters of a config's `model`."""
    return sum(parameter.numel() for parameter in build_detector(model_cfg).parameters())


def latency_ms(model_cfg: Mapping, size_hw: tuple[int, int] = SIZE_HW) -> float:
    """Return the median time of one image through a config's network, without decoding and NMS."""
    model = build_detector(model_cfg)
    return _measure(model, model.raw, size_hw)


def backbone_latency(structure: Structure, side: int) -> float:
    """Return the median time of one image through a structure's blocks, shortcuts included."""
    net = PlainNet(structure, num_classes=1, with_shortcut=True)
    return _measure(net, net.features, (side, side))


class _Call(nn.Module):
    def __init__(self, module: nn.Module, function: Callable):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, images: torch.Tensor):  # noqa: ANN201
        out = self.function(images)
        return [m for maps in out for m in maps if m is not None] if isinstance(out, tuple) else out


def _measure(module: nn.Module, function: Callable, size_hw: tuple[int, int]) -> float:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    file = io.BytesIO()
    torch.onnx.export(_Call(module, function).eval(), (torch.zeros(1, 3, *size_hw),), file, dynamo=False)
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.zeros((1, 3, *size_hw), np.float32)}
    times = timeit.repeat(lambda: session.run(None, feed), number=1, repeat=RUNS + WARM_UP)
    return statistics.median(times[WARM_UP:]) * 1000
