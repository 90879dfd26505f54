"""Super blocks as torch modules.

Attribute names (`module_list`, `netblock`, `proj`) and the places of ReLUs in the lists are part of the
checkpoint format. ReLU is no `nn.ReLU` here because the published FLOPs do not count it.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.models.layers import BatchNorm2d
from mmdet.models.plainnet.structure import Block, Conv, Structure, Unit, units

BN_EPS = 1e-3


class Layer(nn.Module):
    """A convolution or BatchNorm under the name `netblock`."""

    def __init__(self, netblock: nn.Module):
        super().__init__()
        self.netblock = netblock

    def forward(self, x: Tensor) -> Tensor:
        """Return netblock(x)."""
        return self.netblock(x)


class Relu(nn.Module):
    """ReLU in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Return max(x, 0) in the memory of x."""
        return F.relu(x, inplace=True)


class ResidualUnit(nn.Module):
    """Convolutions with ReLU between them, plus a shortcut; the ReLU after the sum is the caller's."""

    def __init__(self, unit: Unit):
        super().__init__()
        self.module_list = nn.ModuleList(_conv_layers(unit.convs))
        self.proj = None
        if unit.has_projection:
            shape = (unit.in_channels, unit.out_channels)
            conv = nn.Conv2d(*shape, kernel_size=1, stride=unit.stride)  # with a bias, as published
            self.proj = nn.Sequential(conv, BatchNorm2d(unit.out_channels, eps=BN_EPS))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride), rounded up."""
        out = x
        for layer in self.module_list:
            out = layer(out)
        return out + (x if self.proj is None else self.proj(x))


class SuperBlock(nn.Module):
    """The layers of one entry of a structure string.

    Args:
        block: the entry.
        with_shortcut: False leaves the residual units' shortcuts out, as zero-cost scores do.
    """

    def __init__(self, block: Block, with_shortcut: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        for unit in units(block):
            layers += [ResidualUnit(unit)] if unit.is_residual and with_shortcut else _conv_layers(unit.convs)
            layers.append(Relu())
        self.module_list = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride), rounded up."""
        for layer in self.module_list:
            x = layer(x)
        return x


class PlainNet(nn.Module):
    """The classifier that zero-cost scores look at: super blocks, global average pooling, a linear layer.

    Args:
        structure: the blocks.
        num_classes: outputs.
        with_shortcut: the published scores leave the shortcuts out.
    """

    def __init__(self, structure: Structure, num_classes: int, with_shortcut: bool = False):
        super().__init__()
        self.module_list = nn.ModuleList(SuperBlock(block, with_shortcut) for block in structure)
        self.fc_linear = Layer(nn.Linear(structure[-1].out_channels, num_classes))

    def features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to the last block's output."""
        x = images
        for block in self.module_list:
            x = block(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, num_classes) logits."""
        return self.fc_linear(self.features(images).mean(dim=(2, 3)))


def _conv_layers(convs: tuple[Conv, ...]) -> list[nn.Module]:
    """Return conv, BN, ReLU, conv, BN, ...; it ends with a BN."""
    layers: list[nn.Module] = []
    for conv in convs:
        shape, padding = (conv.in_channels, conv.out_channels, conv.kernel), (conv.kernel - 1) // 2
        layers += [
            Layer(nn.Conv2d(*shape, conv.stride, padding, groups=conv.groups, bias=False)),
            Layer(BatchNorm2d(conv.out_channels, eps=BN_EPS)),
            Relu(),
        ]
    return layers[:-1]
