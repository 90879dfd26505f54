"""A copy of a detector for inference: batch norms folded into the convolutions before them, channels last.

Which norm follows which convolution is seen by running the network, not read from names, so that every
backbone takes part; the copy must then give what the original gives, else nothing is folded.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_PROBE_PX = 64
_TOLERANCE = 1e-3  # of the largest output; folding changes roundings, about 1e-6


@torch.no_grad()
def inference_copy(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode that gives the same outputs sooner, or the model itself if nothing folds.

    On a CPU the copy's weights, and so all feature maps, lie channels last.

    Args:
        model: fp32, takes (B, 3, H, W); BatchNorm layers use their running statistics. Not changed.
    """
    foldable = any(_is_norm(module) for module in model.modules())
    if not foldable or any(p.dtype != torch.float32 for p in model.parameters()):
        return model
    device = next(model.parameters()).device
    copied = copy.deepcopy(model).cpu().eval()
    probe = torch.randn(1, 3, _PROBE_PX, _PROBE_PX, generator=torch.Generator().manual_seed(0))
    before, pairs = _run_watched(copied, probe)
    for name_of_norm, (conv, norm) in pairs.items():
        _fold(conv, norm)
        parent, _, name = name_of_norm.rpartition(".")
        setattr(copied.get_submodule(parent), name, nn.Identity())
    is_cpu = device.type == "cpu"
    layout = torch.channels_last if is_cpu else torch.contiguous_format
    copied.to(memory_format=layout)  # type: ignore[call-overload]
    if is_cpu:
        for module in copied.modules():
            _suit_onednn(module)
    return copied.to(device) if pairs and _are_close(before, copied(probe)) else model


def _suit_onednn(module: nn.Module) -> None:
    """Join predictors, and let oneDNN run 1x1 convolutions.

    With one thread and few images torch multiplies matrices instead, adding biases in a pass of its own. It
    never does where there is a dilation, which a 1x1 kernel does not notice.
    """
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
        module.dilation = (2, 2)
    if hasattr(module, "joins_predictors"):
        module.joins_predictors = True  # type: ignore[assignment]


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


@dataclass
class _Watch:
    """What ran: the outputs of convolutions, and for each norm and convolution with what it met.

    Attributes:
        maps: the output of each convolution's last call, kept alive so that identity means something.
        calls: how often each module ran.
        pairs: (norm, convolution whose output it read), one per call of a norm; None: no convolution's.
    """

    maps: dict[nn.Module, Tensor] = field(default_factory=dict)
    calls: dict[nn.Module, int] = field(default_factory=dict)
    pairs: list[tuple[nn.Module, nn.Module | None]] = field(default_factory=list)

    def after_conv(self, conv: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.maps[conv] = output
        self.calls[conv] = self.calls.get(conv, 0) + 1

    def before_norm(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        conv = next((conv for conv, output in self.maps.items() if output is inputs[0]), None)
        self.calls[norm] = self.calls.get(norm, 0) + 1
        self.pairs.append((norm, conv))

    def found(self) -> dict[nn.Module, nn.Module]:
        """Return norm -> convolution, where each follows and precedes the other at every call."""
        followers: dict[nn.Module | None, set[nn.Module]] = {}
        sources: dict[nn.Module, set[nn.Module | None]] = {}
        for norm, conv in self.pairs:
            followers.setdefault(conv, set()).add(norm)
            sources.setdefault(norm, set()).add(conv)
        return {
            norm: conv
            for norm, conv in self.pairs
            if conv is not None
            and followers[conv] == {norm}
            and sources[norm] == {conv}
            and self.calls[conv] == self.calls[norm]
        }


def _run_watched(model: nn.Module, probe: Tensor) -> tuple[Any, dict[str, tuple[nn.Conv2d, nn.Module]]]:
    """Return the model's outputs, and the foldable pairs by the name of the norm."""
    watch = _Watch()
    names = dict(model.named_modules())
    handles = [m.register_forward_hook(watch.after_conv) for m in names.values() if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(watch.before_norm) for m in names.values() if _is_norm(m)]
    outputs = model(probe)
    for handle in handles:
        handle.remove()
    found = watch.found()
    return outputs, {name: (found[norm], norm) for name, norm in names.items() if norm in found}  # type: ignore[misc]


def _fold(conv: nn.Conv2d, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = weight, bias


def _are_close(one: Any, other: Any) -> bool:
    """Compare the tensors of two `Outputs`."""
    pairs = [
        (a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True) if isinstance(a, Tensor)
    ]
    return all(bool((a - b).abs().max() <= _TOLERANCE * (1 + a.abs().max())) for a, b in pairs)
