"""SCRFDHead: towers and predictors for classes, box distances and keypoints (layers only)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.core.anchors import AnchorGenerator
from mmdet.errors import ConfigError
from mmdet.models.init import PRIOR_BIAS, init_normal
from mmdet.models.layers import ConvModule, DepthwiseSeparableConv, Integral, Scale, check_supported

SHARED_KEY = "0"  # name of the only tower where all strides share one; else "(8, 8)", "(16, 16)", ...


class SCRFDHead(nn.Module):
    """Predict, at every cell of every level, for each of its n anchors.

    Args:
        num_classes, in_channels: C, and the neck's out_channels.
        anchor_generator: gives n and the strides; it is not kept.
        feat_channels, feat_mults: width of a tower; feat_mults (one per stride) multiplies it.
        stacked_convs: layers of a tower, or one number per stride.
        norm_cfg: after each tower layer; default GN with 32 groups.
        dw_conv: depthwise-separable tower layers.
        cls_reg_share: one tower feeds all predictors; else boxes and keypoints have their own.
        strides_share: one set of layers for all levels; else one per stride.
        scale_mode: > 0 multiplies the boxes of each level by a learnable number; with 1 only where
            strides_share.
        use_kps, num_kps: predict K = num_kps keypoints; the default is eyes, nose and mouth corners.
        use_dfl, reg_max: each side of a box is a distribution over 0..reg_max.

    Attributes:
        joins_predictors: predictors run as one convolution in eval mode, too. Padded to 16s by oneDNN and by
            onnxruntime, 2, 8 and 20 channels cost 16, 16 and 32 apart, and 32 as one.

    Raises:
        ConfigError: a list of another length than the strides, or a value that is not supported.
    """

    joins_predictors = False

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        anchor_generator: AnchorGenerator,
        feat_channels: int = 256,
        feat_mults: Sequence[float] | None = None,
        stacked_convs: int | Sequence[int] = 4,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        dw_conv: bool = False,
        cls_reg_share: bool = False,
        strides_share: bool = True,
        scale_mode: int = 1,
        use_kps: bool = False,
        num_kps: int = 5,
        use_dfl: bool = False,
        reg_max: int = 8,
    ):
        super().__init__()
        check_supported("conv_cfg", conv_cfg, None, {"type": "Conv2d"}, {"type": "Conv"})
        check_supported("scale_mode", scale_mode, 0, 1, 2)
        if use_kps and num_kps < 1:
            raise ConfigError(f"num_kps = {num_kps} with use_kps; give at least 1, or use_kps=False")
        self.num_classes, self.num_kps = num_classes, num_kps if use_kps else 0
        self.use_dfl, self.reg_max = use_dfl, reg_max
        self.strides = tuple(anchor_generator.strides)
        self.keys = [SHARED_KEY] if strides_share else [f"({s}, {s})" for s in self.strides]

        depths = _per_stride("stacked_convs", stacked_convs, len(self.strides))
        mults = _per_stride("feat_mults", feat_mults or 1, len(self.strides))
        widths = [int(feat_channels * mult) for mult in mults]
        norm_cfg = dict(type="GN", num_groups=32) if norm_cfg is None else norm_cfg

        # With strides_share there is one key, and the first stride's width and depth count.
        towers = list(zip(self.keys, widths, depths, strict=False))

        def make_towers(has_layers: bool) -> nn.ModuleDict:
            made = nn.ModuleDict()
            for key, width, depth in towers:
                made[key] = _make_tower(in_channels, width, depth if has_layers else 0, norm_cfg, dw_conv)
            return made

        def make_predictors(channels: int) -> nn.ModuleDict:
            made = nn.ModuleDict()
            for key, width, depth in towers:
                made[key] = nn.Conv2d(width if depth else in_channels, channels, 3, padding=1)
            return made

        num_anchors = anchor_generator.num_anchors_per_cell
        self.cls_stride_convs = make_towers(True)
        self.reg_stride_convs = make_towers(not cls_reg_share)
        self.stride_cls = make_predictors(num_anchors * num_classes)
        self.stride_reg = make_predictors(num_anchors * 4 * (reg_max + 1 if self.use_dfl else 1))
        self.stride_kps = make_predictors(num_anchors * 2 * num_kps) if use_kps else None
        self.cls_reg_share = cls_reg_share
        has_scales = scale_mode == 2 or (scale_mode == 1 and strides_share)
        self.scales = nn.ModuleList(Scale() for _ in self.strides) if has_scales else None
        self.integral = Integral(reg_max)

    def init_weights(self) -> None:
        """Draw the weights; class biases start so that few anchors look like a face."""
        init_normal(self)
        init_normal(self.stride_cls, bias=PRIOR_BIAS)

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """Map the neck's outputs to raw maps, one per level in stride order.

        Args:
            feats: (B, in_channels, H, W) per level.

        Returns:
            cls (B, n * C, H, W) logits; bbox (B, n * 4, H, W) distances in strides, or logits
            (B, n * 4 * (reg_max + 1), H, W) with DFL; kps (B, n * 2K, H, W) offsets in strides, or None.
            Anchors are the outer index of the channels.
        """
        if len(feats) != len(self.strides):
            raise ConfigError(
                f"the neck gives {len(feats)} maps (model.neck.num_outs) for the "
                f"{len(self.strides)} strides of model.bbox_head.anchor_generator"
            )
        levels = [self._forward_level(index, feat) for index, feat in enumerate(feats)]
        cls, bbox, kps = (list(maps) for maps in zip(*levels, strict=True))
        return cls, bbox, kps

    def _forward_level(self, index: int, feat: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        key = self.keys[index % len(self.keys)]
        cls_feat = self.cls_stride_convs[key](feat)
        reg_feat = cls_feat if self.cls_reg_share else self.reg_stride_convs[key](feat)
        of_reg = [self.stride_reg[key], *([] if self.stride_kps is None else [self.stride_kps[key]])]
        if self.cls_reg_share:
            cls, bbox, *kps = self._predict(reg_feat, [self.stride_cls[key], *of_reg])
        else:
            cls, (bbox, *kps) = self.stride_cls[key](cls_feat), self._predict(reg_feat, of_reg)
        return cls, bbox if self.scales is None else self.scales[index](bbox), kps[0] if kps else None

    def _predict(self, feat: Tensor, convs: list[Any]) -> Sequence[Tensor]:
        """Return the maps of nn.Conv2d layers, where joined by one: oneDNN pads each to 16 channels."""
        is_quicker = self.training and feat.is_contiguous(memory_format=torch.channels_last)
        if len(convs) == 1 or not (is_quicker or self.joins_predictors):
            return [conv(feat) for conv in convs]
        weight = torch.cat([conv.weight for conv in convs])
        bias = torch.cat([conv.bias for conv in convs])
        return F.conv2d(feat, weight, bias, padding=1).split([conv.out_channels for conv in convs], dim=1)


def _make_tower(in_channels: int, width: int, depth: int, norm_cfg: dict, dw_conv: bool) -> nn.Sequential:
    def make_layer(channels: int) -> nn.Module:
        if dw_conv:
            return DepthwiseSeparableConv(channels, width, norm_cfg)
        return ConvModule(channels, width, 3, norm_cfg=norm_cfg)

    return nn.Sequential(*(make_layer(in_channels if index == 0 else width) for index in range(depth)))


def _per_stride(name: str, value: float | Sequence[float], num_strides: int) -> list:
    """Return one value per stride from a number or a list."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * num_strides
    if len(values) != num_strides:
        raise ConfigError(f"{name} = {value!r} must have one entry for each of the {num_strides} strides")
    return values
