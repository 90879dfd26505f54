"""Where the trained values live: in the model itself, or in flat fp32 master weights (O2).

Under O2 the parameters of one dtype are views of ONE flat buffer, and their gradients views of another:

    model (half)    conv1.weight | pad | conv2.weight | pad | ...     storage   what forward reads
    .grad (half)    autograd's own, joined after backward             grad      then `.grad` are its views
    master (fp32)   same layout, an nn.Parameter                      master    what the optimizer sees
    master.grad     fp32 copy of grad

so unscaling, the finite check, clipping, the optimizer and the copy back are one kernel each.
For fp32 parameters (the islands) storage and master are the same memory, and so are the gradients.

Several ranks average the joined gradients, one collective per dtype: DistributedDataParallel would copy every
gradient into a bucket and back. Do not call model.to() afterwards.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.distributed import average_across_ranks, broadcast_from_main
from mmdet.precision.islands import add_hooks, half_tensors

# Every parameter starts at a multiple of this many elements: 256 bytes in half precision, which is what
# the convolution kernels want. The gap between two parameters is zero and stays zero.
ALIGN = 128


class ModelWeights:
    """O0 and O1: the optimizer works on the model's own fp32 parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def optimizer_params(self) -> list[nn.Parameter]:
        """Return what the optimizer updates."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def fp32_values(self) -> dict[str, Tensor]:
        """Return every entry of the model's state_dict; the live tensors, not copies."""
        return {name: value.detach() for name, value in self.model.state_dict().items()}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.model.zero_grad(set_to_none=True)

    def gather_grads(self) -> None:
        """Bring the gradients to where the optimizer looks."""

    def push(self) -> None:
        """Bring the optimizer's result to the model."""

    def layout(self) -> list[dict[str, Any]]:
        """Describe the flat buffers; there are none."""
        return []

    def masters(self) -> list[Tensor]:
        """Return the flat master weights; there are none."""
        return []


class FlatGroup:
    """The trainable parameters of one dtype in one flat buffer (see the module's picture)."""

    def __init__(self, named: list[tuple[str, nn.Parameter]], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.names = [name for name, _ in named]
        self.params = [parameter for _, parameter in named]
        self.shapes = [tuple(parameter.shape) for parameter in self.params]
        padded = [-(-parameter.numel() // ALIGN) * ALIGN for parameter in self.params]
        self.offsets = [sum(padded[:i]) for i in range(len(padded))]
        flat = torch.zeros(sum(padded), device=self.params[0].device)
        self.master = nn.Parameter(flat)
        for view, parameter in zip(self.master_views(), self.params, strict=True):
            view.copy_(parameter.detach())
        is_fp32 = dtype == torch.float32
        self.storage = flat if is_fp32 else flat.to(dtype)
        self.grad = torch.zeros_like(self.storage)
        self.master_grad = self.grad if is_fp32 else torch.zeros_like(flat)
        self.grad_views = list(self._views(self.grad))
        zeros = torch.zeros_like(self.storage[: max(padded)])
        self._gaps = [zeros[: p - w.numel()] for p, w in zip(padded, self.params, strict=True)]
        self._no_grads = [zeros[: parameter.numel()] for parameter in self.params]
        for parameter, view in zip(self.params, self._views(self.storage), strict=True):
            parameter.data = view

    def _views(self, flat: Tensor) -> Iterator[Tensor]:
        for offset, shape in zip(self.offsets, self.shapes, strict=True):
            numel = torch.Size(shape).numel()
            yield flat[offset : offset + numel].view(shape)

    def master_views(self) -> Iterator[Tensor]:
        """Yield each parameter's part of the master weights, in its own shape."""
        return self._views(self.master.detach())

    def zero_grad(self) -> None:
        """Forget the gradients: autograd then hands over its own instead of adding each to zeros."""
        for parameter in self.params:
            parameter.grad = None

    def gather_grads(self) -> None:
        """Join the gradients in the flat buffer, average them over ranks, copy them to the master's in fp32.

        `.grad` then are views of the buffer.
        """
        pieces = []
        for parameter, nothing, gap in zip(self.params, self._no_grads, self._gaps, strict=True):
            pieces.append(nothing if parameter.grad is None else parameter.grad.flatten())
            pieces += [gap] if len(gap) else []
        torch.cat(pieces, out=self.grad)
        average_across_ranks(self.grad)
        for parameter, view in zip(self.params, self.grad_views, strict=True):
            parameter.grad = view
        if self.master_grad is not self.grad:
            self.master_grad.copy_(self.grad)
        self.master.grad = self.master_grad

    def push(self) -> None:
        """Copy the master weights to the model."""
        if self.dtype != torch.float32:
            self.storage.copy_(self.master.detach())


class FlatWeights(ModelWeights):
    """O2: a half-precision model with fp32 islands and flat fp32 master weights.

    A parameter that takes no part in a step has a zero gradient here, not None: weight decay reaches it.
    Tensors that become half but are not trained (frozen layers, constant buffers) keep their fp32
    original for checkpoints.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(model)
        half = half_tensors(model)
        self.constants: dict[int, Tensor] = {}
        trained: dict[torch.dtype, list[tuple[str, nn.Parameter]]] = {dtype: [], torch.float32: []}
        for name, parameter in model.named_parameters():
            target = dtype if id(parameter) in half else torch.float32
            if parameter.requires_grad:
                trained[target].append((name, parameter))
            elif target != torch.float32:
                self._cast_constant(parameter, dtype)
        for buffer in model.buffers():
            if id(buffer) in half:
                self._cast_constant(buffer, dtype)
        add_hooks(model, dtype)
        self.groups = [FlatGroup(named, kind) for kind, named in trained.items() if named]
        broadcast_from_main(self.masters())
        self.push()
        self.zero_grad()

    def _cast_constant(self, tensor: Tensor, dtype: torch.dtype) -> None:
        self.constants[id(tensor)] = tensor.detach().clone()
        tensor.data = tensor.data.to(dtype)

    def optimizer_params(self) -> list[nn.Parameter]:
        """Return the flat master weights, one per dtype of the model."""
        return [group.master for group in self.groups]

    def fp32_values(self) -> dict[str, Tensor]:
        """Return every entry of the model's state_dict, with masters for half-precision values."""
        fp32 = dict(self.constants)
        for group in self.groups:
            fp32.update(zip(map(id, group.params), group.master_views(), strict=True))
        state = self.model.state_dict(keep_vars=True)
        return {name: fp32.get(id(value), value).detach() for name, value in state.items()}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.groups:
            group.zero_grad()

    def gather_grads(self) -> None:
        """Join the gradients in flat buffers, averaged over ranks, and in fp32 beside the master weights."""
        for group in self.groups:
            group.gather_grads()

    def push(self) -> None:
        """Round the master weights (and what was loaded into constants) into the model."""
        for group in self.groups:
            group.push()
        tensors = [*self.model.parameters(), *self.model.buffers()]
        for tensor in tensors if self.constants else ():
            if id(tensor) in self.constants:
                tensor.data.copy_(self.constants[id(tensor)])

    def layout(self) -> list[dict[str, Any]]:
        """Describe the flat buffers: what a checkpoint must agree with."""
        return [
            {"dtype": str(group.dtype), "names": group.names, "shapes": [list(s) for s in group.shapes]}
            for group in self.groups
        ]

    def masters(self) -> list[Tensor]:
        """Return the flat master weights, padding included."""
        return [group.master.detach() for group in self.groups]
