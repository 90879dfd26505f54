"""Building blocks of the networks: convolution + norm + activation, learnable scale, DFL's integral.

Attribute names (`conv`, `bn`, `gn`, `depthwise_conv`, ...) are part of the checkpoint format.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet.errors import ConfigError, unknown_name


class BatchNorm2d(nn.BatchNorm2d):
    """torch's layer, whose batches may be counted elsewhere: by one kernel for all layers (BatchCounter).

    Attributes:
        counts: False: leave num_batches_tracked to somebody else; momentum must then be a number.
    """

    counts = True

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.counts or not self.training:
            return super().forward(input)
        assert self.momentum is not None  # BatchCounter leaves such layers alone
        statistics = (self.running_mean, self.running_var)
        return F.batch_norm(input, *statistics, self.weight, self.bias, True, self.momentum, self.eps)


NORMS = {
    "BN": ("bn", BatchNorm2d),
    "BN2d": ("bn", BatchNorm2d),
    "SyncBN": ("bn", nn.SyncBatchNorm),
    "GN": ("gn", nn.GroupNorm),
}


def check_supported(name: str, value: object, *allowed: object) -> None:
    """Refuse a value that mmdet knows and this trainer has no use for."""
    if value not in allowed:
        raise ConfigError(f"{name} = {value!r} is not supported; use {' or '.join(map(repr, allowed))}")


def build_norm(norm_cfg: dict, channels: int) -> tuple[str, nn.Module]:
    """Return the attribute name ("bn" or "gn") and the norm layer of a norm_cfg.

    Args:
        norm_cfg: dict(type="BN" | "SyncBN" | "GN", num_groups=... for GN, requires_grad=True, eps=1e-5,
            momentum=0.1).
        channels: of the layer's input.

    Raises:
        ConfigError: unknown type or argument, or groups that do not divide the channels.
    """
    kind = norm_cfg.get("type")
    if kind not in NORMS:
        raise ConfigError(unknown_name("norm_cfg.type", kind, NORMS))
    name, layer_class = NORMS[kind]
    own = ("num_groups",) if name == "gn" else ("momentum",)
    for key in norm_cfg:
        if key not in ("type", "requires_grad", "eps", *own):
            known = ("type", "requires_grad", "eps", *own)
            raise ConfigError(unknown_name(f"norm_cfg: argument of {kind}", key, known))
    options = {key: norm_cfg[key] for key in ("eps", "momentum") if key in norm_cfg}
    if name == "bn":
        layer: nn.Module = layer_class(channels, **options)
    else:
        groups = norm_cfg.get("num_groups")
        if not isinstance(groups, int) or groups < 1 or channels % groups:
            raise ConfigError(f"norm_cfg.num_groups = {groups!r} does not divide {channels} channels")
        layer = layer_class(groups, channels, **options)
    for parameter in layer.parameters():
        parameter.requires_grad_(norm_cfg.get("requires_grad", True))
    return name, layer


class ConvModule(nn.Module):
    """Convolution, then norm, then ReLU; the convolution has a bias only where there is no norm.

    Args:
        norm_cfg: see `build_norm`; None for no norm.
        with_relu: False for a linear layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        norm_cfg: dict | None = None,
        with_relu: bool = True,
    ):
        super().__init__()
        padding = kernel_size // 2
        bias = norm_cfg is None
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
        )
        self.norm_name = ""
        if norm_cfg is not None:
            self.norm_name, norm = build_norm(norm_cfg, out_channels)
            self.add_module(self.norm_name, norm)
        self.activate = nn.ReLU(inplace=True) if with_relu else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride), rounded up."""
        x = self.conv(x)
        if self.norm_name:
            x = getattr(self, self.norm_name)(x)
        return x if self.activate is None else self.activate(x)


class DepthwiseSeparableConv(nn.Module):
    """3x3 convolution per channel, then 1x1 across channels, each with norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: dict | None):
        super().__init__()
        self.depthwise_conv = ConvModule(in_channels, in_channels, 3, groups=in_channels, norm_cfg=norm_cfg)
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H, W)."""
        return self.pointwise_conv(self.depthwise_conv(x))


class Scale(nn.Module):
    """Multiply by one learnable number."""

    def __init__(self, value: float = 1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value, dtype=torch.float))

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the number."""
        return x * self.scale


class Integral(nn.Module):
    """Expectation of a distance whose distribution over 0..reg_max the network predicts (DFL).

    The buffer `project` is in every published checkpoint, also of models without DFL.
    """

    project: Tensor

    def __init__(self, reg_max: int):
        super().__init__()
        self.register_buffer("project", torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, logits: Tensor) -> Tensor:
        """Map (..., reg_max + 1) logits of any precision to (...) fp32 distances."""
        return (logits.float().softmax(dim=-1) * self.project.float()).sum(dim=-1)


def run_checkpointed(block: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run function(x) and compute its activations again in the backward pass, to save memory.

    Args:
        block: the module whose layers `function` uses; its BatchNorm statistics move once per step,
            not a second time when the activations are computed again.
        function: from x to the block's output.
        x: input of the block.
    """
    contexts = lambda: (nullcontext(), _statistics_held(block))  # noqa: E731
    return checkpoint(function, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, _counter(norm).clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # running = 1 * running + 0 * batch; None would save other tensors
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            _counter(norm).copy_(num_batches)


def _counter(norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    assert norm.num_batches_tracked is not None
    return norm.num_batches_tracked


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm_cfg: dict,
    *,
    stride: int = 1,
    slope: float | None = 0.0,
) -> nn.Sequential:
    """Return convolution, norm and leaky ReLU as a plain Sequential, the layout of RetinaFace's checkpoints.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: odd; the padding keeps the size.
        norm_cfg: see `build_norm`.
        stride: of the convolution.
        slope: of the negative side; 0 is ReLU, None leaves the activation out.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    layers = [conv, build_norm(norm_cfg, out_channels)[1]]
    return nn.Sequential(*layers, *([] if slope is None else [leaky(slope)]))


def depthwise_norm(
    in_channels: int, out_channels: int, stride: int, norm_cfg: dict, slope: float
) -> nn.Sequential:
    """Return a 3x3 convolution per channel and a 1x1 one, each with norm and leaky ReLU."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
    first = (depthwise, build_norm(norm_cfg, in_channels)[1], leaky(slope))
    return nn.Sequential(*first, *conv_norm(in_channels, out_channels, 1, norm_cfg, slope=slope))


def leaky(slope: float) -> nn.Module:
    """Return LeakyReLU, or ReLU for slope 0 (the same function, one operator less in an exported graph)."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
