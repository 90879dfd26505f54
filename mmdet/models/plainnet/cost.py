"""What a structure costs, by the formulas of the DamoFD search (not by mmcv's counter, see models/flops.py).

They are the ones that published budgets were set with, so their simplifications stay: a BatchNorm counts C
parameters, the classifier's bias 1 in all, and the projection of a strided shortcut is counted on a side
divided by the stride twice.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from mmdet.models.plainnet.structure import Block, Conv, Unit, units

NUM_CLASSES = 1000  # of the search's classifier


class Variant(NamedTuple):
    """Which parts besides convolutions the units have; the published networks have no squeeze-excitation."""

    shortcut: bool = True
    norm: bool = True
    squeeze: bool = False


PLAIN = Variant()


def count_flops(blocks: Iterable[Block], side: int, variant: Variant = PLAIN) -> float:
    """Return the multiply-adds of a square input image; the classifier is not counted.

    Args:
        blocks: a structure.
        side: of the input, pixels.
        variant: parts of the units.

    Returns:
        A whole number, unless odd channels meet the projection's division.
    """
    total: float = 0
    for block in blocks:
        flops, side = block_flops(block, side, variant)
        total += flops
    return total


def count_size(blocks: Iterable[Block], variant: Variant = PLAIN, num_classes: int = NUM_CLASSES) -> int:
    """Return the search's number of parameters, the classifier included."""
    total, block = 0, None
    for block in blocks:
        total += block_size(block, variant)
    return total + (block.out_channels * num_classes + 1 if block else 0)


@lru_cache(maxsize=200_000)
def block_flops(block: Block, side: int, variant: Variant = PLAIN) -> tuple[float, int]:
    """Return the multiply-adds of one block whose input has `side` pixels, and the side of its output."""
    total: float = 0
    for unit in units(block):
        for conv in unit.convs:
            macs = conv.in_channels * conv.out_channels * conv.kernel**2 * side**2
            total += macs // conv.stride**2 // conv.groups
            side //= conv.stride
            total += conv.out_channels * side**2 if variant.norm else 0
            if conv is squeezed(unit, variant):
                hidden = squeeze_channels(conv.out_channels)
                total += conv.out_channels * (2 * hidden + 1 + side**2)
        if unit.has_projection and variant.shortcut:
            total += (unit.in_channels + 1) * unit.out_channels * side**2 / unit.stride**2
    return total, side


@lru_cache(maxsize=200_000)
def block_size(block: Block, variant: Variant = PLAIN) -> int:
    """Return the search's number of parameters of one block."""
    total = 0
    for unit in units(block):
        for conv in unit.convs:
            total += conv.in_channels * conv.out_channels * conv.kernel**2 // conv.groups
            total += conv.out_channels if variant.norm else 0
            if conv is squeezed(unit, variant):
                hidden = squeeze_channels(conv.out_channels)
                total += 2 * conv.out_channels * (hidden + 1) + 2 * hidden
        if unit.has_projection and variant.shortcut:
            total += (unit.in_channels + 1) * unit.out_channels
    return total


def squeezed(unit: Unit, variant: Variant) -> Conv | None:
    """Return the convolution whose output squeeze-excitation scales: the one before the unit's last."""
    return unit.convs[-2] if variant.squeeze and len(unit.convs) > 1 else None


def squeeze_channels(channels: int) -> int:
    """Return the hidden channels of a squeeze-excitation."""
    return max(1, round(channels / 4))


def receptive_field(blocks: Iterable[Block]) -> int:
    """Return the side, in input pixels, that one cell of the last block's output depends on."""
    field = jump = 1
    for block in blocks:
        for conv in (conv for unit in units(block) for conv in unit.convs):
            field += (conv.kernel - 1) * jump
            jump *= conv.stride
    return field
