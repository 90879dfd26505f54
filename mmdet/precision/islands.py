"""Which layers of a half-precision model stay fp32.

- BatchNorm (SyncBatchNorm too): parameters and running statistics fp32; its kernels take a half input
  beside fp32 parameters and compute in fp32, so the input is not copied (apex does the same).
- other norms (GroupNorm, LayerNorm, ...): their kernels refuse mixed dtypes, so hooks cast the input to
  fp32 and the output back. apex leaves these in half precision.
- layers whose own parameters are single numbers (a learned `Scale`): the gradient of such a number
  sums over a whole feature map and would overflow in fp16. Hooks, as above.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

HOOKED_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def half_tensors(model: nn.Module) -> set[int]:
    """Return the ids of the parameters and buffers that become half precision."""
    found: set[int] = set()
    for module in model.modules():
        if not (isinstance(module, _BatchNorm) or needs_hooks(module)):
            tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            found.update(id(tensor) for tensor in tensors if tensor.is_floating_point())
    return found


def needs_hooks(module: nn.Module) -> bool:
    """Say whether the layer computes in fp32 on a cast input."""
    own = list(module.parameters(recurse=False))
    is_scalar_layer = bool(own) and all(parameter.numel() == 1 for parameter in own)
    return is_scalar_layer or (isinstance(module, HOOKED_NORMS) and not isinstance(module, _BatchNorm))


def add_hooks(model: nn.Module, dtype: torch.dtype) -> None:
    """Make the fp32 layers that need it cast their input to fp32 and their output to `dtype`."""
    for module in model.modules():
        if needs_hooks(module):
            module.register_forward_pre_hook(inputs_to_fp32)
            module.register_forward_hook(OutputTo(dtype))


def inputs_to_fp32(_module: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook: cast floating-point inputs to fp32."""
    return tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)


class OutputTo:
    """Forward hook: cast the output. A class, so that a model with hooks can be copied and pickled."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        """Return the output in the model's dtype."""
        return output.to(self.dtype)
