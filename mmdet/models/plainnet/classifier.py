"""The classification network whose gradients and activations zero-cost scores look at."""

from torch import Tensor, nn

from mmdet.models.plainnet.blocks import Layer, SuperBlock
from mmdet.models.plainnet.structure import Structure


class PlainNet(nn.Module):
    """Super blocks, global average pooling and a linear layer.

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
