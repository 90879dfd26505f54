"""The two bodies of RetinaFace: ResNet-50 as torchvision lays it out, and MobileNetV1 of a quarter width.

Attribute names are the keys of the published checkpoints.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import ConfigError
from mmdet.models.layers import build_norm, conv_norm, depthwise_norm

DEFAULT_NORM = dict(type="BN")


class ResNet50(nn.Module):
    """ResNet-50 (arXiv:1512.03385) with the stride on the 3x3 convolution, without pooling and classifier.

    Args:
        out_indices: stages (from 0) to return; 1, 2, 3 have 512, 1024, 2048 channels, strides 8, 16, 32.
        norm_cfg: BN or SyncBN, see `build_norm`.

    Keys are torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`), so a local file of
    ImageNet weights loads through `model.pretrained`.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, *, out_indices: Sequence[int] = (1, 2, 3), norm_cfg: dict | None = None):
        super().__init__()
        norm_cfg = norm_cfg or DEFAULT_NORM
        self.out_indices = _check_stages(out_indices, 4)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = build_norm(norm_cfg, 64)[1]
        in_channels = 64
        for index, num_blocks in enumerate((3, 4, 6, 3)):
            planes = 64 << index
            blocks = [_Bottleneck(in_channels, planes, 1 if index == 0 else 2, norm_cfg)]
            blocks += [_Bottleneck(4 * planes, planes, 1, norm_cfg) for _ in range(num_blocks - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            in_channels = 4 * planes

    def init_weights(self) -> None:
        """Draw convolutions from Kaiming normal (fan out), as torchvision does; norms stay 1 and 0."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the maps of `out_indices`, strides 4, 8, 16, 32."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        outs = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            outs.append(x)
        return tuple(outs[index] for index in self.out_indices)


class _Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times `planes` channels, and the shortcut."""

    def __init__(self, in_channels: int, planes: int, stride: int, norm_cfg: dict):
        super().__init__()
        out_channels = 4 * planes
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = build_norm(norm_cfg, planes)[1]
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = build_norm(norm_cfg, planes)[1]
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = build_norm(norm_cfg, out_channels)[1]
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, build_norm(norm_cfg, out_channels)[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, 4 * planes, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class MobileNet025(nn.Module):
    """MobileNetV1 x 0.25 with leaky ReLU; three maps of 64, 128, 256 channels, strides 8, 16, 32.

    Args:
        out_indices: stages (from 0) to return.
        norm_cfg: BN or SyncBN, see `build_norm`.
    """

    stage1: nn.Module
    stage2: nn.Module
    stage3: nn.Module

    SLOPE = 0.1
    STAGES = (  # (in, out, stride) of each depthwise unit
        ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
        ((64, 128, 2), *[(128, 128, 1)] * 5),
        ((128, 256, 2), (256, 256, 1)),
    )

    def __init__(self, *, out_indices: Sequence[int] = (0, 1, 2), norm_cfg: dict | None = None):
        super().__init__()
        norm_cfg = norm_cfg or DEFAULT_NORM
        self.out_indices = _check_stages(out_indices, 3)
        stem = conv_norm(3, 8, 3, norm_cfg, stride=2, slope=self.SLOPE)
        for index, units in enumerate(self.STAGES):
            layers = [depthwise_norm(*unit, norm_cfg, self.SLOPE) for unit in units]
            self.add_module(f"stage{index + 1}", nn.Sequential(*([stem] if index == 0 else []), *layers))

    def init_weights(self) -> None:
        """Keep torch's default weights, as the original does."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the maps of `out_indices`, strides 8, 16, 32."""
        x, outs = images, []
        for stage in (self.stage1, self.stage2, self.stage3):
            x = stage(x)
            outs.append(x)
        return tuple(outs[index] for index in self.out_indices)


def _check_stages(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    chosen = tuple(out_indices)
    if not chosen or list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(range(num_stages)):
        raise ConfigError(
            f"out_indices = {out_indices!r}: expected rising numbers from 0 to {num_stages - 1}"
        )
    return chosen
