"""MobileNetV1 with a free number of blocks and channels per stage."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmdet.errors import ConfigError, unknown_name
from mmdet.models.init import init_backbone
from mmdet.models.layers import BatchNorm2d, check_supported

DEFAULT_BLOCK_CFG = dict(stage_planes=(8, 16, 32, 64, 128, 256), stage_blocks=(2, 4, 4, 2))
BLOCK_CFG_SIZES = {"stage_planes": 6, "stage_blocks": 4}


class MobileNetV1(nn.Module):
    """Depthwise-separable network; outputs at strides 4, 8, 16, 32 with stage_planes[2:] channels.

    Args:
        block_cfg: dict(stage_planes: two numbers for the stem and one per stage, stage_blocks: units per
            stage).
        num_stages: always 4.
        out_indices: stages (from 0) to return.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(
        self,
        *,
        in_channels: int = 3,
        block_cfg: dict | None = None,
        num_stages: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
    ):
        super().__init__()
        check_supported("num_stages", num_stages, 4)
        cfg = DEFAULT_BLOCK_CFG if block_cfg is None else block_cfg
        _check_block_cfg(cfg)
        planes = cfg["stage_planes"]
        self.out_indices = tuple(out_indices)
        self.stem = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(in_channels, planes[0], 3, 2, 1, bias=False),
                BatchNorm2d(planes[0]),
                nn.ReLU(inplace=True),
            ),
            _depthwise_unit(planes[0], planes[1], stride=1),
        )
        for index, num_units in enumerate(cfg["stage_blocks"]):
            channels = planes[index + 2]
            first = _depthwise_unit(planes[index + 1], channels, stride=2)
            rest = [_depthwise_unit(channels, channels, stride=1) for _ in range(num_units - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(first, *rest))

    def init_weights(self) -> None:
        """Draw the weights."""
        init_backbone(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the maps of `out_indices`, strides 4, 8, 16, 32."""
        x = self.stem(images)
        outs = []
        for index, layer in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
            x = layer(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)


def _check_block_cfg(cfg: dict) -> None:
    for key in cfg:
        if key not in BLOCK_CFG_SIZES:
            raise ConfigError(unknown_name("block_cfg: key", key, BLOCK_CFG_SIZES))
    for key, size in BLOCK_CFG_SIZES.items():
        if len(cfg.get(key, ())) != size:
            raise ConfigError(f"block_cfg.{key} = {cfg.get(key)!r} must have {size} entries")


def _depthwise_unit(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
