"""A step of SGD that asks the host nothing: the device may refuse it, its learning rate may be a tensor.

torch's own SGD reads such a learning rate on the host, unless fused, which torch_npu is not.
"""

from typing import Any

import torch
from torch import Tensor


def is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether `sgd_step_if` computes what the optimizer's own step would."""
    variants = ("dampening", "nesterov", "maximize", "fused", "differentiable")
    is_plain = not any(group.get(variant) for group in optimizer.param_groups for variant in variants)
    return type(optimizer) is torch.optim.SGD and is_plain


@torch.no_grad()
def sgd_step_if(optimizer: torch.optim.Optimizer, is_wanted: Tensor) -> None:
    """Take the step of a plain torch.optim.SGD if `is_wanted` (bool scalar on the device) holds.

    The same bits as `optimizer.step()` on a CPU, and the same state. Gradients may be Inf or NaN if the step
    is not wanted; nothing changes then.
    """
    wanted = is_wanted.float()
    for group in optimizer.param_groups:
        params = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not params:
            continue
        grads: Any = [parameter.grad for parameter in params]
        if group["weight_decay"]:
            grads = torch._foreach_add(grads, params, alpha=group["weight_decay"])
        moved = [_momentum(optimizer, parameter, group["momentum"]) for parameter in params]
        sums = torch._foreach_mul(moved, group["momentum"])
        torch._foreach_add_(sums, grads)
        for value, kept in zip(sums, moved, strict=True):
            torch.where(is_wanted, value, kept, out=kept)
        lr = group["lr"]
        # wanted first: (-lr * 1) * value is added in one rounding, as SGD does it; no step adds zeros.
        factor, rate = (wanted * lr, -1.0) if isinstance(lr, Tensor) else (wanted, -float(lr))
        for parameter, value in zip(params, moved, strict=True):
            parameter.addcmul_(factor, value, value=rate)


def _momentum(optimizer: torch.optim.Optimizer, parameter: Tensor, momentum: float) -> Tensor:
    """Return the parameter's momentum, zeros before its first step; new zeros if SGD has none."""
    if not momentum:
        return torch.zeros_like(parameter)
    state = optimizer.state[parameter]
    if state.get("momentum_buffer") is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    return state["momentum_buffer"]
