"""Norm and clipping of gradients, and an optimizer step that the device may skip."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdet.precision.sgd import is_plain_sgd, sgd_step_if


def is_finite(tensor: Tensor) -> Tensor:
    """Return where a float tensor is finite; by a comparison, since isfinite runs on a 910A's AI CPU."""
    return tensor.abs() < torch.inf


def clip_by_norm(params: Sequence[nn.Parameter], grad_clip: dict | None) -> Tensor:
    """Clip the gradients in place and return their norm before clipping, a scalar on the device.

    Args:
        params: parameters with unscaled fp32 gradients.
        grad_clip: dict(max_norm=..., norm_type=...), or None to measure only.
    """
    norm_type = float(grad_clip["norm_type"]) if grad_clip else 2.0
    grads = [parameter.grad for parameter in params if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(grads, norm_type))), norm_type)
    if grad_clip:
        torch._foreach_mul_(grads, (grad_clip["max_norm"] / (norm + 1e-6)).clamp(max=1.0))
    return norm


def step_if(optimizer: torch.optim.Optimizer, is_wanted: Tensor, sync_free: bool) -> None:
    """Take the optimizer step if `is_wanted` (bool scalar on the device) holds.

    A fused optimizer skips the step itself (`found_inf`, what the loss scaler uses too). With `sync_free` SGD
    is computed here; any other takes the step and gets its old values back. Otherwise the host reads
    `is_wanted`.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = (~is_wanted).float()  # type: ignore[attr-defined]
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf, optimizer.grad_scale  # type: ignore[attr-defined]
    elif sync_free and is_plain_sgd(optimizer):
        sgd_step_if(optimizer, is_wanted)
    elif sync_free:
        step_and_put_back(optimizer, is_wanted)
    elif is_wanted:
        optimizer.step()


def step_and_put_back(optimizer: torch.optim.Optimizer, is_wanted: Tensor) -> None:
    """Take the step; unless `is_wanted`, restore parameters and optimizer state as they were.

    State that the very first step creates is zeroed instead. What lies on the host, Adam's counter of steps,
    counts a step that is put back, too: to know better, the host would have to wait for the device.
    """
    before = {id(tensor): (tensor, tensor.detach().clone()) for tensor in _tensors(optimizer)}
    optimizer.step()
    with torch.no_grad():
        for tensor in _tensors(optimizer):
            if tensor.device == is_wanted.device:
                _, old = before.get(id(tensor), (None, torch.zeros_like(tensor)))
                tensor.copy_(torch.where(is_wanted, tensor, old))


def _tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    params = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = [value for values in optimizer.state.values() for value in values.values()]
    return [*params, *(value for value in state if isinstance(value, Tensor))]
