"""Search spaces of the DamoFD evolution: what one super block of a structure may become (DDSAR).

A mutation of a block keeps its input channels and stride and draws type, width, bottleneck and depth. The
reference lists all candidates and picks one; its lists are cumulative, so that of T types the first two
appear T times, the next T-1 times, down to twice. The same distribution is drawn here factor by factor.
"""

import random
from functools import lru_cache
from typing import NamedTuple

from mmdet.models.plainnet.structure import KINDS, Block, Structure, chain, round8, split

WIDEN = (2.5, 2, 1.5, 1.25, 1)
BOTTLENECK = (2.5, 2, 1.5, 1.25, 1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 2.5)
RESIZE = (2, *BOTTLENECK[2:], 1.75)
DEPTH = (-2, -1, 0, 1, 2)
NO_LIMIT = 1 << 30


class Space(NamedTuple):
    """What mutations may draw.

    Attributes:
        groups: types that are listed cumulatively together.
        out_ratios, out_limit: width of a block, relative to what it was, at most out_limit.
        bottleneck_limit: the bottleneck's upper limit.
        keeps_1x1: SuperConvK1BNRELU, a classifier's last layer, keeps its width.
    """

    groups: tuple[tuple[str, ...], ...]
    out_ratios: tuple[float, ...]
    out_limit: int
    bottleneck_limit: int
    keeps_1x1: bool = True


def _names(family: str) -> tuple[str, ...]:
    return tuple(name for name, kind in KINDS.items() if kind.family == family)


IDW_FIXFC = Space((_names("idw"),), WIDEN, out_limit=128, bottleneck_limit=NO_LIMIT)
SPACES: dict[str, Space] = {
    "IDW_fixfc": IDW_FIXFC,
    "IDW": IDW_FIXFC._replace(keeps_1x1=False),
    "XXBL": Space((_names("k1kxk1"), _names("kxkx")), RESIZE, out_limit=1024, bottleneck_limit=256),
}


class Choices(NamedTuple):
    """Candidates of a block: their full product, each name as often as the reference lists it."""

    names: tuple[str, ...]
    outs: tuple[int, ...]
    bottlenecks: tuple[int, ...]
    sub_layers: tuple[int, ...]


@lru_cache(maxsize=50_000)
def choices(block: Block, space: Space) -> Choices:
    """Return what a block may become, values ascending."""
    ratios = space.out_ratios
    if block.kind.family == "conv":
        ratios = (1,) if block.kind.kernel == 1 and space.keeps_1x1 else ratios
        return Choices((block.name,), _scaled(block.out_channels, ratios, space.out_limit), (0,), (1,))
    names = [name for group in space.groups for name in _repeat_cumulatively(group)]
    return Choices(
        tuple(names),
        _scaled(block.out_channels, ratios, space.out_limit),
        _scaled(block.bottleneck, BOTTLENECK, space.bottleneck_limit),
        tuple(block.sub_layers + step for step in DEPTH if block.sub_layers + step > 0),
    )


def draw(block: Block, space: Space, rng: random.Random) -> Block:
    """Return a random candidate for a block."""
    names, outs, bottlenecks, sub_layers = choices(block, space)
    return Block(
        _pick(names, rng),
        block.in_channels,
        _pick(outs, rng),
        block.stride,
        _pick(bottlenecks, rng),
        _pick(sub_layers, rng),
    )


def mutate(parent: Structure, space: Space, num_draws: int, rng: random.Random) -> Structure:
    """Return a child of `parent`: num_draws blocks drawn, never the first; one drawn twice counts once."""
    changed: dict[int, Block] = {}
    for _ in range(num_draws):
        index = 1 + int(rng.random() * (len(parent) - 1))
        if index not in changed:
            changed[index] = draw(parent[index], space, rng)
    return replace(parent, changed)


def replace(parent: Structure, changed: dict[int, Block]) -> Structure:
    """Return `parent` with some blocks replaced, channels chained, deep blocks split (twice, as is done)."""
    blocks = list(parent)
    for index, block in changed.items():
        blocks[index] = block
    return split(split(chain(blocks)))


def _pick(values: tuple, rng: random.Random):  # noqa: ANN202
    return values[int(rng.random() * len(values))]


def _scaled(value: int, ratios: tuple[float, ...], limit: int) -> tuple[int, ...]:
    return tuple(sorted({round8(min(value * ratio, limit)) for ratio in ratios}))


def _repeat_cumulatively(names: tuple[str, ...]) -> list[str]:
    return [name for index, name in enumerate(names) for _ in range(len(names) - max(index - 1, 0))]
