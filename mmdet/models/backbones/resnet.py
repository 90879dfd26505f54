"""ResNetV1e: residual network with a three-convolution stem and average-pooled shortcuts."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from mmdet.errors import ConfigError, unknown_name
from mmdet.models.init import init_backbone, init_norms
from mmdet.models.layers import build_norm, check_supported, run_checkpointed

BASIC_DEPTHS = {
    0: (2, 2, 2, 2), 18: (2, 2, 2, 2), 19: (2, 4, 4, 1), 20: (2, 3, 2, 2), 22: (2, 4, 3, 1),
    24: (2, 4, 4, 1), 26: (2, 4, 4, 2), 28: (2, 5, 4, 2), 29: (2, 6, 3, 2), 30: (2, 5, 5, 2),
    32: (2, 6, 5, 2), 34: (3, 4, 6, 3), 35: (3, 6, 4, 3), 38: (3, 8, 4, 3), 40: (3, 8, 5, 3),
}  # fmt: skip
BOTTLENECK_DEPTHS = {
    50: (3, 4, 6, 3), 56: (3, 8, 4, 3), 68: (3, 10, 6, 3), 74: (3, 12, 6, 3), 101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}  # fmt: skip


class ResidualBlock(nn.Module):
    """relu(residual(x) + shortcut(x)); subclasses hold the residual's layers.

    Args:
        with_cp: compute the activations again in the backward pass instead of keeping them.
    """

    expansion = 1
    relu: nn.Module
    downsample: nn.Module | None

    def __init__(self, with_cp: bool):
        super().__init__()
        self.with_cp = with_cp

    def residual(self, x: Tensor) -> Tensor:
        """Return the branch that is added to the shortcut."""
        raise NotImplementedError

    def last_norm(self) -> nn.Module:
        """Return the norm before the sum; weight 0 there makes the block an identity at the start."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, planes * expansion, H / stride, W / stride), rounded up."""
        if self.with_cp and self.training:
            return run_checkpointed(self, self._forward, x)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.residual(x) + shortcut)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions."""

    def __init__(
        self, in_channels: int, planes: int, stride: int, dilation: int, style: str, norm_cfg: dict,  # noqa: ARG002
        with_cp: bool, downsample: nn.Module | None,
    ):  # fmt: skip
        super().__init__(with_cp)
        self.conv1 = _conv3x3(in_channels, planes, stride, dilation)
        self.bn1 = build_norm(norm_cfg, planes)[1]
        self.conv2 = _conv3x3(planes, planes)
        self.bn2 = build_norm(norm_cfg, planes)[1]
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """Return conv-bn-relu-conv-bn of x."""
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def last_norm(self) -> nn.Module:
        """Return bn2."""
        return self.bn2


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions; the last one widens fourfold.

    Args:
        style: "pytorch" puts the stride on the 3x3 convolution, "caffe" on the first 1x1.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, planes: int, stride: int, dilation: int, style: str, norm_cfg: dict,
        with_cp: bool, downsample: nn.Module | None,
    ):  # fmt: skip
        super().__init__(with_cp)
        stride1, stride2 = (1, stride) if style == "pytorch" else (stride, 1)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, stride1, bias=False)
        self.bn1 = build_norm(norm_cfg, planes)[1]
        self.conv2 = _conv3x3(planes, planes, stride2, dilation)
        self.bn2 = build_norm(norm_cfg, planes)[1]
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = build_norm(norm_cfg, planes * self.expansion)[1]
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """Return the three convolutions of x."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    def last_norm(self) -> nn.Module:
        """Return bn3."""
        return self.bn3


BlockClass = type[BasicBlock] | type[Bottleneck]
BLOCKS: dict[str, BlockClass] = {"BasicBlock": BasicBlock, "Bottleneck": Bottleneck}


class ResNetV1e(nn.Module):
    """ResNet with deep stem, 2x2 max-pool and average-pool shortcuts; outputs at strides 4 to 32.

    Args:
        depth: a known depth (0 = 18); chooses blocks where block_cfg does not.
        block_cfg: dict(block="BasicBlock" | "Bottleneck", stage_blocks, stage_planes (optional)).
        base_channels: planes of stage 1; doubled per stage unless block_cfg gives stage_planes.
        stem_channels: output channels of the stem; default base_channels.
        strides, dilations: per stage.
        out_indices: stages (from 0) to return.
        frozen_stages: N >= 0 keeps the stem and stages 1..N as they are (weights and statistics).
        norm_eval: keep the statistics of every norm fixed while training.
        with_cp: trade time for memory, see `run_checkpointed`.
        zero_init_residual: start each residual branch at zero.
        conv_cfg, dcn, plugins, stage_with_dcn: mmdet's; only None (or all False) is supported.

    Raises:
        ConfigError: unknown depth or block, or a value that is not supported.
    """

    def __init__(  # noqa: PLR0913  the keys of its config dict
        self,
        *,
        depth: int,
        block_cfg: dict | None = None,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: str = "pytorch",
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        norm_eval: bool = True,
        dcn: dict | None = None,
        stage_with_dcn: Sequence[bool] = (False, False, False, False),
        plugins: list | None = None,
        with_cp: bool = False,
        zero_init_residual: bool = True,
    ):
        super().__init__()
        check_supported("style", style, "pytorch", "caffe")
        check_supported("conv_cfg", conv_cfg, None, {"type": "Conv2d"}, {"type": "Conv"})
        check_supported("num_stages", num_stages, 1, 2, 3, 4)
        check_supported("frozen_stages", frozen_stages, *range(-1, num_stages + 1))
        check_supported("dcn", dcn, None)
        check_supported("plugins", plugins, None)
        check_supported("any of stage_with_dcn", any(stage_with_dcn), False)
        norm_cfg = dict(type="BN", requires_grad=True) if norm_cfg is None else norm_cfg
        check_supported("norm_cfg.type", norm_cfg.get("type"), "BN", "SyncBN")
        block, stage_blocks, stage_planes = _stages(depth, block_cfg, base_channels, num_stages)
        self.out_indices, self.norm_eval = tuple(out_indices), norm_eval
        self.num_stages, self.frozen_stages = num_stages, frozen_stages
        self.zero_init_residual = zero_init_residual

        channels = stem_channels or base_channels
        self.stem = _make_stem(in_channels, channels, norm_cfg)
        self.maxpool = nn.MaxPool2d(kernel_size=2, stride=2)
        for index in range(num_stages):
            planes = stage_planes[index]
            make_block = partial(
                block, dilation=dilations[index], style=style, norm_cfg=norm_cfg, with_cp=with_cp
            )
            widened = planes * block.expansion
            stage = _make_stage(
                make_block, channels, planes, widened, stage_blocks[index], strides[index], norm_cfg
            )
            self.add_module(f"layer{index + 1}", stage)
            channels = widened
        self._freeze()

    def init_weights(self) -> None:
        """Draw the weights; the last norm of each block starts at 0 with zero_init_residual."""
        init_backbone(self)
        if self.zero_init_residual:
            for block in self.modules():
                if isinstance(block, ResidualBlock):
                    init_norms(block.last_norm(), weight=0.0)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the maps of `out_indices`, strides 4, 8, 16, 32."""
        x = self.maxpool(self.stem(images))
        outs = []
        for index in range(self.num_stages):
            x = getattr(self, f"layer{index + 1}")(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> "ResNetV1e":
        """Switch to training, except for frozen stages and, with norm_eval, all norms."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for layer in self.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        names = ["stem", *(f"layer{n}" for n in range(1, self.frozen_stages + 1))]
        for name in names:
            getattr(self, name).eval().requires_grad_(False)


def _stages(
    depth: int, block_cfg: dict | None, base_channels: int, num_stages: int
) -> tuple[BlockClass, Sequence[int], Sequence[int]]:
    """Return block class, blocks per stage and planes per stage."""
    depths = {**BASIC_DEPTHS, **BOTTLENECK_DEPTHS}
    if depth not in depths:
        raise ConfigError(f"depth = {depth!r} is unknown; known: {', '.join(map(str, sorted(depths)))}")
    cfg = block_cfg or {
        "block": "BasicBlock" if depth in BASIC_DEPTHS else "Bottleneck",
        "stage_blocks": depths[depth],
    }
    for key in cfg:
        if key not in ("block", "stage_blocks", "stage_planes"):
            raise ConfigError(unknown_name("block_cfg: key", key, ("block", "stage_blocks", "stage_planes")))
    if cfg.get("block") not in BLOCKS:
        raise ConfigError(unknown_name("block_cfg.block", cfg.get("block"), BLOCKS))
    planes = cfg.get("stage_planes") or [base_channels * 2**index for index in range(num_stages)]
    for key, values in (("stage_blocks", cfg.get("stage_blocks") or ()), ("stage_planes", planes)):
        if len(values) < num_stages:
            raise ConfigError(f"block_cfg.{key} = {values!r} has fewer than num_stages={num_stages} entries")
    return BLOCKS[cfg["block"]], cfg["stage_blocks"], planes


def _make_stem(in_channels: int, channels: int, norm_cfg: dict) -> nn.Sequential:
    half = channels // 2
    return nn.Sequential(
        _conv3x3(in_channels, half, stride=2), build_norm(norm_cfg, half)[1], nn.ReLU(inplace=True),
        _conv3x3(half, half), build_norm(norm_cfg, half)[1], nn.ReLU(inplace=True),
        _conv3x3(half, channels), build_norm(norm_cfg, channels)[1], nn.ReLU(inplace=True),
    )  # fmt: skip


def _make_stage(
    make_block: Callable[..., ResidualBlock], in_channels: int, planes: int, channels: int, num_blocks: int,
    stride: int, norm_cfg: dict,
) -> nn.Sequential:  # fmt: skip
    """Return one stage, from in_channels to channels; only its first block strides."""
    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(
            nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            build_norm(norm_cfg, channels)[1],
        )
    first = make_block(in_channels, planes, stride, downsample=shortcut)
    rest = [make_block(channels, planes, 1, downsample=None) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
