"""Exact FLOPs of detectors by integer formulas, for one config or for whole arrays of candidates.

The rules are those of models/flops.py (mmcv's counter), which has to build a network: per output element a
convolution costs its multiply-adds, plus one for a bias; a norm 2, a ReLU module 1; pooling 1 per input
element; additions and resizing nothing. Numbers may be ints or numpy int64 arrays of any common shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmdet.datasets.labels.base import DEFAULT_NUM_KPS
from mmdet.errors import ConfigError
from mmdet.models.plainnet.structure import parse, stage_outputs, units

Number = Any  # int, or a numpy int64 array
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
    is_bottleneck: Any,
    base: Number,
    blocks: Sequence[Number],
    planes: Sequence[Number],
    size_hw: tuple[int, int],
) -> list[Number]:
    """Return the cost of ResNetV1e's stem and its stages; the max-pool between belongs to no part.

    Args:
        is_bottleneck: bool or array of bools.
        base: channels of the stem.
        blocks: per stage; fewer than one is built as one.
        planes: per stage, before a bottleneck's last convolution.
        size_hw: of the input image.
    """
    size = halve(size_hw)
    area, half = _pixels(size), base // 2
    parts = [sum(conv_norm_relu(i, o, 3, area) for i, o in ((3, half), (half, half), (half, base)))]
    size = (size[0] // 2, size[1] // 2)
    wide_factor = np.where(is_bottleneck, 4, 1)
    channels = base
    for index, (num_blocks, width) in enumerate(zip(blocks, planes, strict=True)):
        before, size = size, size if index == 0 else halve(size)
        area, area_in, out = _pixels(size), _pixels(before), width * wide_factor
        shortcut = channels * area_in + conv(channels, out, 1, area) + 2 * out * area
        if index == 0:
            shortcut = shortcut * (channels != out)
        basic = conv_norm_relu(channels, width, 3, area) + conv_norm_relu(width, width, 3, area)
        basic_rest = 2 * conv_norm_relu(width, width, 3, area)
        tail = conv_norm_relu(width, width, 3, area) + conv_norm_relu(width, out, 1, area)
        first = np.where(is_bottleneck, conv_norm_relu(channels, width, 1, area_in) + tail, basic)
        rest = np.where(is_bottleneck, conv_norm_relu(out, width, 1, area) + tail, basic_rest)
        parts.append(shortcut + first + (np.maximum(num_blocks, 1) - 1) * rest)
        channels = out
    return parts


def resnet_pool(base: Number, size_hw: tuple[int, int]) -> Number:
    """Return the cost of ResNetV1e's max-pool."""
    return base * _pixels(halve(size_hw))


def mobilenet_parts(
    blocks: Sequence[Number], planes: Sequence[Number], size_hw: tuple[int, int]
) -> list[Number]:
    """Return the cost of MobileNetV1's stem (planes[0] and [1]) and its stages (planes[2:])."""
    size = halve(size_hw)
    area = _pixels(size)
    parts = [conv_norm_relu(3, planes[0], 3, area) + depthwise_unit(planes[0], planes[1], area)]
    for index, num_blocks in enumerate(blocks):
        size = halve(size)
        area, before, width = _pixels(size), planes[index + 1], planes[index + 2]
        first = (9 + 3) * before * area + conv_norm_relu(before, width, 1, area)
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
    """Return the cost of a PAFPN without norms.

    Args:
        in_channels: of the maps in use.
        out_channels: of all outputs.
        areas: pixels per output level; more than maps means extra convolutions on the output.
    """
    used = len(in_channels)
    lateral = sum(conv(c, out_channels, 1, area, True) for c, area in zip(in_channels, areas, strict=False))
    # per level one 3x3; from the second on also downsample and pafpn convolutions; extra levels have one
    times = [1, *[3] * (used - 1), *[1] * (len(areas) - used)]
    return lateral + conv(
        out_channels, out_channels, 3, sum(t * a for t, a in zip(times, areas, strict=True)), True
    )


def head_flops(
    in_channels: Number,
    feat_channels: Number,
    depth: Number,
    outputs: int,
    areas: Sequence[int],
    dw_conv: bool = False,
) -> Number:
    """Return the cost of an SCRFDHead with one tower for all predictors.

    Args:
        in_channels: of the levels.
        feat_channels: of the tower.
        depth: its layers, at least 1.
        outputs: channels of all predictors together.
        areas: pixels per level.
        dw_conv: depthwise-separable tower.
    """
    area = sum(areas)
    if dw_conv:
        first, rest = (depthwise_unit(c, feat_channels, area) for c in (in_channels, feat_channels))
    else:
        first, rest = (conv_norm_relu(c, feat_channels, 3, area) for c in (in_channels, feat_channels))
    return first + (depth - 1) * rest + conv(feat_channels, outputs, 3, area, bias=True)


def model_flops(model: Mapping, size_hw: tuple[int, int] = SIZE_HW) -> dict[str, int]:
    """Return the cost of each part of a config's `model`, equal to tools/get_flops.py's.

    Args:
        model: of a loaded config.
        size_hw: height and width of the input.

    Returns:
        Keys "stem", "layer1" .. "layer4" (ResNetV1e, MobileNetV1), "backbone", "neck", "bbox_head".

    Raises:
        ConfigError: a backbone, neck or head the formulas do not know.
    """
    backbone, neck, head = model["backbone"], model["neck"], model["bbox_head"]
    kind = backbone["type"]
    if (neck["type"], head["type"], head.get("cls_reg_share")) != ("PAFPN", "SCRFDHead", True):
        raise ConfigError(
            "the FLOPs formulas know PAFPN and SCRFDHead with cls_reg_share only; use get_flops.py"
        )
    parts: list[Number] = []
    extra = 0
    if kind == "ResNetV1e":
        is_bottleneck, blocks, planes = resnet_stages(backbone)
        base = backbone.get("stem_channels") or backbone["base_channels"]
        parts = resnet_parts(is_bottleneck, base, blocks, planes, size_hw)
        extra = resnet_pool(base, size_hw)
    elif kind == "MobileNetV1":
        cfg = backbone["block_cfg"]
        parts = mobilenet_parts(cfg["stage_blocks"], cfg["stage_planes"], size_hw)
    elif kind == "MasterNet":
        extra = masternet_flops(backbone["plainnet_struct"], size_hw)
    else:
        raise ConfigError(f"the FLOPs formulas do not know {kind}; use tools/get_flops.py")
    found = {name: int(part) for name, part in zip(STAGES, parts, strict=False)}
    areas = level_pixels(size_hw, len(head["anchor_generator"]["strides"]), kind == "ResNetV1e")
    inputs = stage_channels(backbone)[neck.get("start_level", 0) :]
    return {
        **found,
        "backbone": sum(found.values()) + extra,
        "neck": pafpn_flops(inputs, neck["out_channels"], areas),
        "bbox_head": head_flops(
            head["in_channels"],
            head["feat_channels"],
            head["stacked_convs"],
            predictor_channels(head),
            areas,
            bool(head.get("dw_conv")),
        ),
    }


def predictor_channels(head: Mapping) -> int:
    """Return the output channels of all predictors of an SCRFDHead's config."""
    anchors = head["anchor_generator"]
    num_anchors = len(anchors["scales"]) * len(anchors["ratios"])
    kps = 2 * head.get("num_kps", DEFAULT_NUM_KPS) if head.get("use_kps") else 0
    return num_anchors * (head["num_classes"] + 4 + kps)


def total_flops(model: Mapping, size_hw: tuple[int, int] = SIZE_HW) -> int:
    """Return the cost of a config's `model`, see `model_flops`."""
    parts = model_flops(model, size_hw)
    return sum(parts[name] for name in ("backbone", "neck", "bbox_head"))


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


def stage_channels(backbone: Mapping) -> list[int]:
    """Return the channels of a backbone's four outputs."""
    if backbone["type"] == "MasterNet":
        blocks = parse(backbone["plainnet_struct"])
        return [blocks[index].out_channels for index in stage_outputs(blocks).values()]
    if backbone["type"] == "MobileNetV1":
        return list(backbone["block_cfg"]["stage_planes"][2:])
    is_bottleneck, _, planes = resnet_stages(backbone)
    return [width * (4 if is_bottleneck else 1) for width in planes]
