"""The convolutions of a network and nothing else: what a step cannot beat with this library.

The same calls with the same shapes, on random numbers, forward and backward, in both memory orders. A real
step may reach less (norms, activations, losses come on top) and, where a compiler fuses, hardly more.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdet.device import synchronize

LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class ConvCall:
    """One call of a convolution.

    Attributes:
        input_shape: (B, in, H, W); weight_shape: (out, in / groups, h, w); output_shape: (B, out, H', W').
        has_input_grad: False where nothing before it is trained (the image).
    """

    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    has_bias: bool
    has_input_grad: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def forward_flops(self) -> int:
        """Two per multiply-add."""
        _, in_channels, height, width = self.weight_shape
        return 2 * torch.Size(self.output_shape).numel() * in_channels * height * width

    @property
    def backward_flops(self) -> int:
        """Gradients of the weights, and of the input where it has one."""
        return self.forward_flops * (1 + self.has_input_grad)


def list_convolutions(model: nn.Module, batch_size: int, height: int, width: int) -> list[ConvCall]:
    """Return the calls of `model.raw` in order; runs on shapes only.

    Args:
        model: a detector on the meta device.
        batch_size: B.
        height: of the images, pixels.
        width: likewise.
    """
    calls: list[ConvCall] = []

    def note(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        (x,) = inputs
        calls.append(
            ConvCall(
                tuple(x.shape), tuple(layer.weight.shape), tuple(output.shape), layer.bias is not None,
                x.requires_grad, layer.stride, layer.padding, layer.dilation, layer.groups,  # type: ignore[arg-type]
            )
        )  # fmt: skip

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    model.raw(torch.empty(batch_size, 3, height, width, device="meta"))
    for handle in handles:
        handle.remove()
    return calls


class Roofline:
    """Runs the convolutions of a step in both memory orders.

    Args:
        calls: what to run. Calls of one shape share their tensors.
        device: where.
        dtype: of all tensors.
    """

    def __init__(self, calls: list[ConvCall], device: torch.device, dtype: torch.dtype) -> None:
        self.calls, self.device, self.dtype = calls, device, dtype
        self._tensors: dict[tuple, Tensor] = {}

    def _tensor(self, kind: str, shape: tuple[int, ...], layout: str) -> Tensor:
        key = (kind, shape, layout)
        if key not in self._tensors:
            made = torch.randn(shape, device=self.device).to(self.dtype)
            if len(shape) == 4:
                made = made.to(memory_format=LAYOUTS[layout])
            self._tensors[key] = made
        return self._tensors[key]

    def __call__(self) -> dict[str, float]:
        """Run everything once; return seconds per layout and direction."""
        figures = {}
        for layout in LAYOUTS:
            figures[f"{layout}_forward"] = self._run(layout, self._forward)
            figures[f"{layout}_backward"] = self._run(layout, self._backward)
        return figures

    def _run(self, layout: str, one) -> float:  # noqa: ANN001
        synchronize(self.device)
        start = time.perf_counter()
        with torch.no_grad():
            for call in self.calls:
                one(call, layout)
        synchronize(self.device)
        return time.perf_counter() - start

    def _forward(self, call: ConvCall, layout: str) -> None:
        x, weight = self._operands(call, layout)
        bias = self._tensor("bias", call.weight_shape[:1], layout) if call.has_bias else None
        torch.conv2d(x, weight, bias, call.stride, call.padding, call.dilation, call.groups)

    def _backward(self, call: ConvCall, layout: str) -> None:
        x, weight = self._operands(call, layout)
        torch.ops.aten.convolution_backward(
            self._tensor("y", call.output_shape, layout), x, weight,
            [call.weight_shape[0]] if call.has_bias else None, call.stride, call.padding, call.dilation,
            False, [0, 0], call.groups, [call.has_input_grad, True, call.has_bias],
        )  # fmt: skip

    def _operands(self, call: ConvCall, layout: str) -> tuple[Tensor, Tensor]:
        return self._tensor("x", call.input_shape, layout), self._tensor("w", call.weight_shape, layout)
