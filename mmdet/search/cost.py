"""Exact FLOPs of detectors by integer formulas, for one config or for whole arrays of candidates.

The rules are those of models/flops.py (mmcv's counter), which has to build a network: per output element a
convolution costs its multiply-adds, plus one for a bias; a norm 2, a ReLU module 1; pooling 1 per input
element; additions and resizing nothing. Numbers may be ints or numpy int64 arrays of any common shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mmdet.datasets.labels.base import DEFAULT_NUM_KPS
from mmdet.errors import ConfigError
from mmdet.models.plainnet.structure import parse, stage_outputs, units

Number = Any  # int, or a numpy int64 array
Array = Any  # numpy
SIZE_HW = (480, 640)  # of the published figures
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


def conv(in_channels: Number, out_channels: Number, kernel: int, pixels: int, bias: bool = False) -> Number:
    """Return the cost of a dense convolution whose output has so many pixels."""
    return (in_channels * kernel**2 + bias) * out_channels * pixels


def conv_norm_relu(in_channels: Number, out_channels: Number, kernel: int, pixels: int) -> Number:
    """Return the cost of convolution, norm and ReLU."""
    return conv(in_channels, out_channels, kernel, pixels) + 3 * out_channels * pixels


def depthwise_unit(in_channels: Number, out_channels: Number, pixels: int) -> Number:
    """Return the cost of a 3x3 convolution per channel and a 1x1 one, each with norm and ReLU."""
    return (9 + 3) * in_channels * pixels + conv_norm_relu(in_channels, out_channels, 1, pixels)


def halve(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size after a padded layer of stride 2: rounded up."""
    return -(-size_hw[0] // 2), -(-size_hw[1] // 2)


def _pixels(size_hw: tuple[int, int]) -> int:
    return size_hw[0] * size_hw[1]


def resnet_parts(
    is_bottleneck: Any, base: Number, blocks: Sequence, planes: Sequence, size_hw: tuple[int, int]
) -> tuple[list[Number], Number]:
    """Return the cost of ResNetV1e's stem and stages, and of the max-pool, which belongs to no part.

    Args:
        is_bottleneck: bool or array of bools.
        base: channels of the stem.
        blocks: per stage; fewer than one is built as one.
        planes: per stage, before a bottleneck's last convolution.
        size_hw: of the input image.
    """
    size = halve(size_hw)
    area, half = _pixels(size), base // 2
    pool = base * area
    parts = [sum(conv_norm_relu(i, o, 3, area) for i, o in ((3, half), (half, half), (half, base)))]
    size = (size[0] // 2, size[1] // 2)
    channels = base
    for index, (num_blocks, width) in enumerate(zip(blocks, planes, strict=True)):
        before, size = size, size if index == 0 else halve(size)
        area, area_in, out = _pixels(size), _pixels(before), width * np.where(is_bottleneck, 4, 1)
        shortcut = channels * area_in + conv(channels, out, 1, area) + 2 * out * area
        if index == 0:
            shortcut = shortcut * (channels != out)
        middle = conv_norm_relu(width, width, 3, area)
        tail = middle + conv_norm_relu(width, out, 1, area)
        wide = [
            conv_norm_relu(channels, width, 1, area_in) + tail,
            conv_norm_relu(out, width, 1, area) + tail,
        ]
        basic = [conv_norm_relu(channels, width, 3, area) + middle, 2 * middle]
        first, rest = (np.where(is_bottleneck, one, other) for one, other in zip(wide, basic, strict=True))
        parts.append(shortcut + first + (np.maximum(num_blocks, 1) - 1) * rest)
        channels = out
    return parts, pool


def mobilenet_parts(blocks: Sequence, planes: Sequence, size_hw: tuple[int, int]) -> list[Number]:
    """Return the cost of MobileNetV1's stem (planes[0] and [1]) and its stages (planes[2:])."""
    size = halve(size_hw)
    area = _pixels(size)
    parts = [conv_norm_relu(3, planes[0], 3, area) + depthwise_unit(planes[0], planes[1], area)]
    for before, width, num_blocks in zip(planes[1:], planes[2:], blocks, strict=False):
        size = halve(size)
        area = _pixels(size)
        first = depthwise_unit(before, width, area)
        parts.append(first + (np.maximum(num_blocks, 1) - 1) * depthwise_unit(width, width, area))
    return parts


def masternet_flops(structure: str, size_hw: tuple[int, int]) -> int:
    """Return the cost of a MasterNet; its ReLUs are functions and not counted."""
    total, size = 0, size_hw
    for unit in (unit for block in parse(structure) for unit in units(block)):
        for layer in unit.convs:
            size = halve(size) if layer.stride == 2 else size
            out = layer.out_channels * _pixels(size)
            total += out * (layer.in_channels // layer.groups * layer.kernel**2 + 2)
        if unit.has_projection:
            total += conv(unit.in_channels, unit.out_channels, 1, _pixels(size), bias=True)
            total += 2 * unit.out_channels * _pixels(size)
    return total


def level_pixels(size_hw: tuple[int, int], num_levels: int, has_pool: bool) -> list[int]:
    """Return the pixels of the levels of strides 8, 16, ...; ResNetV1e's max-pool rounds down."""
    size, areas = halve(size_hw), []
    size = (size[0] // 2, size[1] // 2) if has_pool else halve(size)
    for _ in range(num_levels):
        size = halve(size)
        areas.append(_pixels(size))
    return areas


def pafpn_flops(in_channels: Sequence[Number], out_channels: Number, areas: Sequence[int]) -> Number:
    """Return the cost of a PAFPN without norms; levels beyond its maps come of extra convolutions."""
    used = len(in_channels)
    lateral = sum(conv(c, out_channels, 1, area, True) for c, area in zip(in_channels, areas, strict=False))
    # per level one 3x3; from the second on also downsample and pafpn convolutions; extra levels have one
    times = [1, *[3] * (used - 1), *[1] * (len(areas) - used)]
    area = sum(t * a for t, a in zip(times, areas, strict=True))
    return lateral + conv(out_channels, out_channels, 3, area, True)


def head_flops(
    in_channels: Number, feat_channels: Number, depth: Number, outputs: int, area: int, dw_conv: bool = False
) -> Number:
    """Return the cost of an SCRFDHead: a tower of `depth` layers, predictors of `outputs` channels."""
    if dw_conv:
        first, rest = (depthwise_unit(c, feat_channels, area) for c in (in_channels, feat_channels))
    else:
        first, rest = (conv_norm_relu(c, feat_channels, 3, area) for c in (in_channels, feat_channels))
    return first + (depth - 1) * rest + conv(feat_channels, outputs, 3, area, bias=True)


class Sampled(NamedTuple):
    """What a search draws, arrays of n candidates: (n,), blocks and planes (n, stages)."""

    is_bottleneck: Array
    base: Array
    blocks: Array
    planes: Array
    neck: Array
    head: Array
    depth: Array

    def take(self, index: Any) -> "Sampled":
        """Return the candidates of an index array or mask."""
        return Sampled(*(values[index] for values in self))


@dataclass(frozen=True)
class Template:
    """What the formulas read from a detector's config.

    Attributes:
        family: type of the backbone.
        is_bottleneck, base, blocks, planes: of the backbone; MobileNetV1 has two planes before its stages',
            a MasterNet has planes only, those of its outputs.
        neck, head, depth: out_channels, feat_channels, stacked_convs.
        outputs: channels of all predictors.
        dw_conv, num_levels: of the head.
        has_groups: the head's norm is GN.
    """

    family: str
    is_bottleneck: bool
    base: int
    blocks: tuple[int, ...]
    planes: tuple[int, ...]
    neck: int
    head: int
    depth: int
    outputs: int
    dw_conv: bool
    num_levels: int
    has_groups: bool

    @property
    def own(self) -> Sampled:
        """Return its numbers as the only candidate of arrays."""
        return Sampled(*(np.array([getattr(self, name)]) for name in Sampled._fields))


def read_template(model: Mapping) -> Template:
    """Return the template of a config's `model`.

    Raises:
        ConfigError: its parts are not those the formulas know.
    """
    backbone, neck, head = model["backbone"], model["neck"], model["bbox_head"]
    family, is_bottleneck, base = backbone["type"], False, 0
    parts = (neck["type"], neck.get("start_level"), head["type"], head.get("cls_reg_share"))
    if parts != ("PAFPN", 1, "SCRFDHead", True):
        raise ConfigError(
            "the FLOPs formulas know PAFPN from level 1 on and SCRFDHead with cls_reg_share; use get_flops.py"
        )
    if family == "ResNetV1e":
        is_bottleneck, blocks, planes = resnet_stages(backbone)
        base = backbone.get("stem_channels") or backbone["base_channels"]
    elif family == "MobileNetV1":
        blocks, planes = backbone["block_cfg"]["stage_blocks"], backbone["block_cfg"]["stage_planes"]
        base = planes[0]
    elif family == "MasterNet":
        structure = parse(backbone["plainnet_struct"])
        blocks, planes = (), [structure[index].out_channels for index in stage_outputs(structure).values()]
    else:
        raise ConfigError(f"the FLOPs formulas do not know {family}; use tools/get_flops.py")
    return Template(
        family=family,
        is_bottleneck=is_bottleneck,
        base=base,
        blocks=tuple(blocks),
        planes=tuple(planes),
        neck=neck["out_channels"],
        head=head["feat_channels"],
        depth=head["stacked_convs"],
        outputs=predictor_channels(head),
        dw_conv=bool(head.get("dw_conv")),
        num_levels=len(head["anchor_generator"]["strides"]),
        has_groups=head["norm_cfg"]["type"] == "GN",
    )


def predictor_channels(head: Mapping) -> int:
    """Return the output channels of all predictors of an SCRFDHead's config."""
    anchors = head["anchor_generator"]
    num_anchors = len(anchors["scales"]) * len(anchors["ratios"])
    kps = 2 * head.get("num_kps", DEFAULT_NUM_KPS) if head.get("use_kps") else 0
    return num_anchors * (head["num_classes"] + 4 + kps)


def resnet_stages(backbone: Mapping) -> tuple[bool, Sequence[int], Sequence[int]]:
    """Return is_bottleneck, blocks and planes of a ResNetV1e's config."""
    cfg = backbone.get("block_cfg")
    if not cfg:
        from mmdet.models.backbones.resnet import BASIC_DEPTHS, BOTTLENECK_DEPTHS  # loads torch

        depth = backbone["depth"]
        cfg = dict(block="BasicBlock" if depth in BASIC_DEPTHS else "Bottleneck")
        cfg["stage_blocks"] = {**BASIC_DEPTHS, **BOTTLENECK_DEPTHS}[depth]
    planes = cfg.get("stage_planes") or [backbone["base_channels"] * 2**index for index in range(4)]
    return cfg["block"] == "Bottleneck", cfg["stage_blocks"], planes


def _costs(
    template: Template, some: Sampled, size_hw: tuple[int, int]
) -> tuple[list, Number, Number, Number]:
    """Return the cost of the stem and stages, of the rest of the backbone, of neck and head."""
    blocks, planes, is_resnet = list(some.blocks.T), list(some.planes.T), template.family == "ResNetV1e"
    parts: list[Number] = []
    pool: Number = 0
    if is_resnet:
        parts, pool = resnet_parts(some.is_bottleneck, some.base, blocks, planes, size_hw)
    elif template.family == "MobileNetV1":
        parts = mobilenet_parts(blocks, planes, size_hw)
    areas = level_pixels(size_hw, template.num_levels, is_resnet)
    wide = np.where(some.is_bottleneck, 4, 1)
    neck = pafpn_flops([channels * wide for channels in planes[-3:]], some.neck, areas)
    outputs, dw_conv = template.outputs, template.dw_conv
    return parts, pool, neck, head_flops(some.neck, some.head, some.depth, outputs, sum(areas), dw_conv)


def measure(template: Template, some: Sampled, size_hw: tuple[int, int]) -> tuple[Array, Array]:
    """Return FLOPs of the stem and stages (n, 5), and of the whole detector (n,)."""
    parts, *others = _costs(template, some, size_hw)
    return np.stack(parts, axis=1), sum(parts) + sum(others)


def model_flops(model: Mapping, size_hw: tuple[int, int] = SIZE_HW) -> dict[str, int]:
    """Return the cost of each part of a config's `model`, equal to tools/get_flops.py's.

    Returns:
        Keys "stem", "layer1" .. "layer4" (ResNetV1e, MobileNetV1), "backbone", "neck", "bbox_head".

    Raises:
        ConfigError: a backbone, neck or head the formulas do not know.
    """
    template = read_template(model)
    parts, extra, neck, head = _costs(template, template.own.take(0), size_hw)
    if template.family == "MasterNet":
        extra = masternet_flops(model["backbone"]["plainnet_struct"], size_hw)
    found = {name: int(part) for name, part in zip(STAGES, parts, strict=False)}
    backbone = sum(found.values()) + int(extra)
    return {**found, "backbone": backbone, "neck": int(neck), "bbox_head": int(head)}


def total_flops(model: Mapping, size_hw: tuple[int, int] = SIZE_HW) -> int:
    """Return the cost of a config's `model`, see `model_flops`."""
    return total(model_flops(model, size_hw))


def total(parts: Mapping[str, int]) -> int:
    """Return the sum of what `model_flops` returns."""
    return sum(parts[name] for name in ("backbone", "neck", "bbox_head"))
