"""The DDSAR score: the capacity of five stages, from the structure string alone (DamoFD, ICLR 2023).

Stage t with input side h: s_t = ln(ln(3 h^2) + sum 3 h^2 ln(c / 3)) + alpha * (sum of kernel sizes); the
score is a weighted sum of the stages. Equal to the published code to the last bit.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from mmdet.models.plainnet.structure import Block, Structure

NUM_STAGES = 5
STAGE_WEIGHTS = (0.20, 0.27, 0.25, 0.18, 0.10)
ALPHA = 0.005  # of the published code; its README says 0.25 for 500M


class Stage(NamedTuple):
    """What a block contributes: information (A + B), kernel sum (D), and the side after it."""

    information: float
    kernels: int
    side: float


def ddsar(structure: Structure, side: int = 224, alpha: float = ALPHA) -> float:
    """Return the score of a structure's first five blocks; higher is better.

    Raises:
        ValueError: the structure has fewer.
    """
    if len(structure) < NUM_STAGES:
        raise ValueError(f"DDSAR scores {NUM_STAGES} blocks, not {len(structure)}")
    total, h = 0.0, float(side)
    for weight, block in zip(STAGE_WEIGHTS, structure, strict=False):
        information, kernels, h = stage(block, h)
        total += weight * (math.log(information) + alpha * kernels)
    return total


@lru_cache(maxsize=200_000)
def stage(block: Block, side: float) -> Stage:
    """Return a block's contribution at an input of `side` pixels (it need not be whole)."""
    family, kernel, expansion = block.kind
    halves = block.stride == 2
    a, b, kernels = math.log(3 * side**2), 0.0, 0
    in_channels, middle, h = block.in_channels, block.bottleneck, side
    for _ in range(block.sub_layers):
        before, after, size = _terms(
            family, in_channels, block.out_channels, middle, middle * expansion, kernel
        )
        b += sum(count * _information(c, h) for c, count in before)
        if halves:
            h, halves = h / 2, False
        b += sum(count * _information(c, h) for c, count in after)
        kernels += size
        in_channels = block.out_channels
    return Stage(a + b, kernels, h)


Terms = tuple[tuple[int, int], ...]  # channels, how often


def _terms(
    family: str, first: int, out: int, middle: int, wide: int, kernel: int
) -> tuple[Terms, Terms, int]:
    """Return a sub-layer's terms before and after its stride, and its kernel sum."""
    if family == "conv":
        return ((first, 1),), (), kernel
    if family == "kxkx":
        return ((first, 1),), ((middle, 1),), 2 * kernel
    if family == "k1kxk1":
        return ((first, 1), (middle, 1)), ((middle, 3), (out, 1)), 2 * kernel + 4
    return ((first, 1), (wide, 1)), ((wide, 3), (middle, 1)), 2 * kernel + 4


def _information(channels: int, side: float) -> float:
    return 3 * side**2 * math.log(channels / 3)
