"""SSHFPN: RetinaFace's neck, a top-down pyramid and a context module per level.

Attribute names, with their odd spellings, are the keys of the published checkpoints.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import ConfigError
from mmdet.models.layers import conv_norm

LEAKY_UP_TO = 64  # channels; wider necks use plain ReLU
LEAKY_SLOPE = 0.1


class SSHFPN(nn.Module):
    """Feature pyramid (arXiv:1612.03144), then SSH context modules (arXiv:1708.03979); three levels.

    Args:
        in_channels: of the three backbone maps, fine to coarse.
        out_channels: of every output; a multiple of 4.
        norm_cfg: BN or SyncBN, see `build_norm`.

    The children `fpn`, `ssh1`, `ssh2`, `ssh3` are those of the published models.
    """

    def __init__(self, *, in_channels: Sequence[int], out_channels: int, norm_cfg: dict | None = None):
        super().__init__()
        if len(in_channels) != 3:
            raise ConfigError(f"in_channels = {in_channels!r}: expected three, one for each backbone map")
        if out_channels % 4:
            raise ConfigError(f"out_channels = {out_channels!r}: expected a multiple of 4")
        norm_cfg = norm_cfg or dict(type="BN")
        slope = LEAKY_SLOPE if out_channels <= LEAKY_UP_TO else 0.0
        self.fpn = _TopDown(in_channels, out_channels, norm_cfg, slope)
        self.ssh1, self.ssh2, self.ssh3 = (_SSH(out_channels, norm_cfg, slope) for _ in range(3))

    def init_weights(self) -> None:
        """Keep torch's default weights, as the original does."""

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map three (B, in, H, W), fine to coarse, to three (B, out_channels, H, W)."""
        if len(feats) != 3:
            raise ConfigError(f"the backbone gives {len(feats)} maps; SSHFPN needs three")
        contexts = (self.ssh1, self.ssh2, self.ssh3)
        return tuple(context(feat) for context, feat in zip(contexts, self.fpn(feats), strict=True))


class _TopDown(nn.Module):
    """Coarse maps, enlarged to the size of the next finer one, are added to it from the top down."""

    def __init__(self, in_channels: Sequence[int], out_channels: int, norm_cfg: dict, slope: float):
        super().__init__()
        lateral = [conv_norm(channels, out_channels, 1, norm_cfg, slope=slope) for channels in in_channels]
        self.output1, self.output2, self.output3 = lateral
        self.merge1 = conv_norm(out_channels, out_channels, 3, norm_cfg, slope=slope)
        self.merge2 = conv_norm(out_channels, out_channels, 3, norm_cfg, slope=slope)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self.output1(feats[0]), self.output2(feats[1]), self.output3(feats[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return fine, middle, coarse


class _SSH(nn.Module):
    """3x3, 5x5 and 7x7 context side by side, larger windows as stacked 3x3 convolutions, then ReLU."""

    def __init__(self, channels: int, norm_cfg: dict, slope: float):
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = conv_norm(channels, half, 3, norm_cfg, slope=None)
        self.conv5X5_1 = conv_norm(channels, quarter, 3, norm_cfg, slope=slope)
        self.conv5X5_2 = conv_norm(quarter, quarter, 3, norm_cfg, slope=None)
        self.conv7X7_2 = conv_norm(quarter, quarter, 3, norm_cfg, slope=slope)
        self.conv7x7_3 = conv_norm(quarter, quarter, 3, norm_cfg, slope=None)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5X5_1(x)
        wide, widest = self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))
        return F.relu(torch.cat((self.conv3X3(x), wide, widest), dim=1))
