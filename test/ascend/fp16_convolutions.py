"""Makes convolutions of fp32 on the CPU what a 910A makes of them, written without the simulator; an oracle.

A config imports it (`custom_imports`). The matrix unit reads fp16, adds in fp32 and writes fp16.
"""

import torch
import torch.nn.functional as F


def through_fp16(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return an fp32 tensor with the values of fp16."""
    if tensor is None:
        return None
    assert tensor.abs().max() < 65504, "overflow, which a 910A saturates"
    return tensor.half().float()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, weight, bias, stride, padding, dilation, groups):
        ctx.save_for_backward(image, weight)
        ctx.rest = (stride, padding, dilation, groups)
        ctx.has_bias = bias is not None
        operands = [through_fp16(t) for t in (image, weight, bias)]
        return through_fp16(torch.conv2d(*operands, stride, padding, dilation, groups))

    @staticmethod
    def backward(ctx, grad):
        stride, padding, dilation, groups = ctx.rest
        grad, image, weight = (through_fp16(t) for t in (grad, *ctx.saved_tensors))
        needed = [ctx.needs_input_grad[0], True, ctx.has_bias]
        grads = torch.ops.aten.convolution_backward(
            *(grad, image, weight, [len(weight)] if ctx.has_bias else None),
            *(stride, padding, dilation, False, [0, 0], groups, needed),
        )
        return (*(through_fp16(g) for g in grads), None, None, None, None)


def conv2d(image, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Stand for F.conv2d."""
    if image.dtype is not torch.float32 or image.device.type != "cpu":
        return plain(image, weight, bias, stride, padding, dilation, groups)
    pairs = [[v, v] if isinstance(v, int) else list(v) for v in (stride, padding, dilation)]
    return _Convolution.apply(image, weight, bias, *pairs, groups)


plain, F.conv2d = F.conv2d, conv2d
