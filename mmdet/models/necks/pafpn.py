"""PAFPN: features go down the pyramid, then up again (arXiv:1803.01534)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.errors import ConfigError
from mmdet.models.init import init_xavier
from mmdet.models.layers import ConvModule, check_supported


class PAFPN(nn.Module):
    """Path-aggregation pyramid over the backbone's maps start_level..end_level.

    Args:
        in_channels: of every backbone map; entries below start_level are not used.
        out_channels: of every output.
        num_outs: outputs; more than the used backbone maps adds coarser levels.
        start_level, end_level: backbone maps to use; -1 for all up to the last.
        add_extra_convs: source of extra levels: "on_output", "on_lateral", "on_input" (True means
            "on_input", or "on_output" without extra_convs_on_inputs); False subsamples the last output.
        relu_before_extra_convs: apply ReLU before the second and later extra convolutions.
        norm_cfg, act_cfg: of every convolution; None for none, and then it has a bias.

    Raises:
        ConfigError: levels and num_outs do not fit.
    """

    def __init__(  # noqa: PLR0913  the keys of its config dict
        self,
        *,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        extra_convs_on_inputs: bool = True,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
    ):
        super().__init__()
        check_supported("conv_cfg", conv_cfg, None, {"type": "Conv2d"}, {"type": "Conv"})
        check_supported("act_cfg", act_cfg, None, {"type": "ReLU"})
        sources = (False, True, "on_input", "on_lateral", "on_output")
        check_supported("add_extra_convs", add_extra_convs, *sources)
        if add_extra_convs is True:
            add_extra_convs = "on_input" if extra_convs_on_inputs else "on_output"
        end = len(in_channels) if end_level == -1 else end_level
        num_used = end - start_level
        if not 0 <= start_level < end <= len(in_channels):
            raise ConfigError(
                f"start_level = {start_level} and end_level = {end_level} choose no map of {in_channels}"
            )
        if num_outs < num_used or (end_level != -1 and num_outs != num_used):
            raise ConfigError(f"num_outs = {num_outs} does not fit the {num_used} backbone maps in use")
        self.in_channels, self.used = tuple(in_channels), slice(start_level, end)
        self.num_outs, self.add_extra_convs = num_outs, add_extra_convs
        self.relu_before_extra_convs = relu_before_extra_convs

        def conv3x3(channels: int, stride: int = 1) -> ConvModule:
            return ConvModule(channels, out_channels, 3, stride, norm_cfg=norm_cfg, with_relu=bool(act_cfg))

        lateral_norm = None if no_norm_on_lateral else norm_cfg
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, norm_cfg=lateral_norm, with_relu=bool(act_cfg))
            for channels in in_channels[self.used]
        )
        self.fpn_convs = nn.ModuleList(conv3x3(out_channels) for _ in range(num_used))
        if add_extra_convs:
            first = in_channels[end - 1] if add_extra_convs == "on_input" else out_channels
            for index in range(num_outs - num_used):
                self.fpn_convs.append(conv3x3(first if index == 0 else out_channels, stride=2))
        self.downsample_convs = nn.ModuleList(conv3x3(out_channels, stride=2) for _ in range(num_used - 1))
        self.pafpn_convs = nn.ModuleList(conv3x3(out_channels) for _ in range(num_used - 1))

    def init_weights(self) -> None:
        """Draw the weights."""
        init_xavier(self)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map the backbone's outputs to num_outs maps of out_channels, finest first."""
        if len(feats) != len(self.in_channels):
            raise ConfigError(
                f"the backbone gives {len(feats)} maps, model.neck.in_channels has {len(self.in_channels)}"
            )
        used = feats[self.used]
        laterals = [conv(feat) for conv, feat in zip(self.lateral_convs, used, strict=True)]
        for index in range(len(laterals) - 1, 0, -1):
            finer = laterals[index - 1]
            laterals[index - 1] = finer + F.interpolate(laterals[index], size=finer.shape[2:], mode="nearest")
        inner = [self.fpn_convs[index](lateral) for index, lateral in enumerate(laterals)]
        for index, conv in enumerate(self.downsample_convs):
            inner[index + 1] = inner[index + 1] + conv(inner[index])
        outs = inner[:1] + [conv(x) for conv, x in zip(self.pafpn_convs, inner[1:], strict=True)]
        return tuple(outs + self._extra_levels(used[-1], laterals[-1], outs[-1]))

    def _extra_levels(self, feat: Tensor, lateral: Tensor, out: Tensor) -> list[Tensor]:
        """Return the levels beyond the backbone's, each half the size of the one before."""
        x = {"on_input": feat, "on_lateral": lateral}.get(str(self.add_extra_convs), out)
        extra: list[Tensor] = []
        for index in range(len(self.lateral_convs), self.num_outs):
            if not self.add_extra_convs:
                x = F.max_pool2d(x, kernel_size=1, stride=2)
            else:
                x = F.relu(x) if self.relu_before_extra_convs and extra else x
                x = self.fpn_convs[index](x)
            extra.append(x)
        return extra
