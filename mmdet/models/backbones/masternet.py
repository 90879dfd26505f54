"""MasterNet: the DamoFD backbones, built from a structure string (models/plainnet/)."""

from torch import Tensor, nn

from mmdet.models.init import init_norms
from mmdet.models.plainnet.blocks import ResidualUnit, SuperBlock
from mmdet.models.plainnet.structure import parse, stage_outputs

XAVIER_GAIN = 3.26033  # of the reference


class MasterNet(nn.Module):
    """Super blocks in a row; outputs at strides 4, 8, 16, 32, each of the first block that reaches it.

    Args:
        plainnet_struct: structure string, for example "SuperConvK3BNRELU(3,24,2,2)SuperResK3K3(...)...".

    Raises:
        ConfigError: the string is malformed (with the position), or a stride is never reached.

    Differs from the reference: strides are those of the string, not ratios of the feature maps' heights, so
    any input size works; the reference fails where a height does not halve evenly (250 pixels).
    """

    def __init__(self, *, plainnet_struct: str):
        super().__init__()
        blocks = parse(plainnet_struct)
        self.module_list = nn.ModuleList(map(SuperBlock, blocks))
        self.out_indices = tuple(stage_outputs(blocks).values())

    def init_weights(self) -> None:
        """Draw the weights (Xavier normal); the last norm of each residual unit starts at 0."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight, gain=XAVIER_GAIN)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        init_norms(self)
        for unit in self.modules():
            if isinstance(unit, ResidualUnit):
                init_norms(unit.module_list[-1], weight=0.0)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to four maps, strides 4, 8, 16, 32."""
        x, outs = images, []
        for index, block in enumerate(self.module_list):
            x = block(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
