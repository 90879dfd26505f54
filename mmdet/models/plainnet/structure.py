"""Structure strings: `SuperConvK3BNRELU(3,32,2,1)SuperResIDWE1K3(32,32,2,8,1)...`, one entry per super block.

SuperConv takes (in, out, stride, sub_layers), the residual kinds (in, out, stride, bottleneck, sub_layers).
A text before "|" inside the parentheses is a label and ignored. No torch here: a search reads and compares
millions of structures.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from mmdet.errors import ConfigError, unknown_name

MAX_SUB_LAYERS = 5  # a residual block with more is split in two
STRIDES = (4, 8, 16, 32)  # of the maps a detector takes
NAME = re.compile(r"[A-Za-z0-9_]+")
NUMBER = re.compile(r"\s*\d+\s*")


class Kind(NamedTuple):
    """What a super block's name says: "conv", "kxkx", "k1kxk1" or "idw", kernel size and expansion."""

    family: str
    kernel: int
    expansion: int = 1


KINDS: dict[str, Kind] = {
    **{f"SuperConvK{k}BNRELU": Kind("conv", k) for k in (1, 3, 5, 7)},
    **{f"SuperResK{k}K{k}": Kind("kxkx", k) for k in (3, 5, 7)},
    **{f"SuperResK1K{k}K1": Kind("k1kxk1", k) for k in (3, 5, 7)},
    **{f"SuperResIDWE{e}K{k}": Kind("idw", k, e) for k in (3, 5, 7) for e in (1, 2, 4, 6)},
}


class Block(NamedTuple):
    """One super block; bottleneck is 0 for SuperConv, which has none."""

    name: str
    in_channels: int
    out_channels: int
    stride: int
    bottleneck: int
    sub_layers: int

    @property
    def kind(self) -> Kind:
        """Return what the name says."""
        return KINDS[self.name]

    def __str__(self) -> str:
        numbers = [
            n for field, n in zip(self._fields[1:], self[1:], strict=True) if field != "bottleneck" or n
        ]
        return f"{self.name}({','.join(map(str, numbers))})"


Structure = tuple[Block, ...]


class Conv(NamedTuple):
    """A convolution without bias, padded so that stride 1 keeps the size; a BatchNorm follows."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1


class Unit(NamedTuple):
    """Convolutions with ReLU between them and after the sum with the shortcut.

    Attributes:
        convs: in order; only one of them has a stride.
        is_residual: a shortcut is added.
        has_projection: the shortcut is a 1x1 convolution with the unit's stride, bias and BatchNorm.
    """

    convs: tuple[Conv, ...]
    is_residual: bool
    has_projection: bool

    @property
    def in_channels(self) -> int:
        """Return the channels of the input."""
        return self.convs[0].in_channels

    @property
    def out_channels(self) -> int:
        """Return the channels of the output."""
        return self.convs[-1].out_channels

    @property
    def stride(self) -> int:
        """Return the product of the strides."""
        return max(conv.stride for conv in self.convs)


def parse(text: str, must_chain: bool = True) -> Structure:
    """Read a structure string.

    Args:
        text: for example "SuperConvK3BNRELU(3,32,2,1)SuperResK3K3(32,48,2,16,2)".
        must_chain: demand that each block's in_channels are the out_channels before it. The published start
            structures of the search do not; the search repairs them (`chain`).

    Raises:
        ConfigError: with the position in `text`, what was expected there, and what stands there.
    """
    blocks: list[Block] = []
    position = 0
    while position < len(text) or not blocks:
        block, end = _parse_block(text, position)
        if must_chain and blocks and blocks[-1].out_channels != block.in_channels:
            expected = f"in_channels {blocks[-1].out_channels}, the out_channels of {blocks[-1]}"
            raise _error(text, position, f"{expected}, not {block.in_channels}")
        blocks.append(block)
        position = end
    return tuple(blocks)


def to_string(blocks: Iterable[Block]) -> str:
    """Return the structure string; `parse` reads it back."""
    return "".join(map(str, blocks))


def chain(blocks: Sequence[Block]) -> Structure:
    """Return the blocks with each one's in_channels set to the out_channels before it."""
    chained = [blocks[0]]
    for block in blocks[1:]:
        before = chained[-1].out_channels
        chained.append(block if block.in_channels == before else block._replace(in_channels=before))
    return tuple(chained)


def split(blocks: Iterable[Block]) -> Structure:
    """Return the blocks with each residual one of 6 sub-layers or more as two: 3 of them, then the rest."""
    result: list[Block] = []
    for block in blocks:
        if block.sub_layers <= MAX_SUB_LAYERS or block.kind.family == "conv":
            result.append(block)
            continue
        out = block.out_channels
        rest = block._replace(in_channels=out, stride=1, sub_layers=block.sub_layers - 3)
        result += [block._replace(sub_layers=3), rest]
    return tuple(result)


def count_layers(blocks: Iterable[Block]) -> int:
    """Return the sum of sub_layers, the depth that a search limits."""
    return sum(block.sub_layers for block in blocks)


def stage_outputs(blocks: Iterable[Block]) -> dict[int, int]:
    """Return for each stride of 4, 8, 16, 32 the index of the first block that reaches it.

    Raises:
        ConfigError: a stride is never reached.
    """
    first: dict[int, int] = {}
    stride = 1
    for index, block in enumerate(blocks):
        stride *= block.stride
        first.setdefault(stride, index)
    missing = [stride for stride in STRIDES if stride not in first]
    if missing:
        raise ConfigError(f"the structure has no block of stride {missing[0]}, only of {sorted(first)}")
    return {stride: first[stride] for stride in STRIDES}


def round8(value: float) -> int:
    """Return the multiple of 8 nearest to value (halves to even multiples), at least 8."""
    return max(8, 8 * round(value / 8))


@lru_cache(maxsize=100_000)
def units(block: Block) -> tuple[Unit, ...]:
    """Return the units of a super block in order; only the first one of all has its stride."""
    result: list[Unit] = []
    in_channels = block.in_channels
    for index in range(block.sub_layers):
        stride = block.stride if index == 0 else 1
        for convs in _sub_layer(block, in_channels, stride):
            is_residual = block.kind.family != "conv"
            changes = convs[0].in_channels != convs[-1].out_channels
            result.append(Unit(convs, is_residual, is_residual and (not result or changes)))
        in_channels = block.out_channels
    return tuple(result)


def _sub_layer(block: Block, in_channels: int, stride: int) -> list[tuple[Conv, ...]]:
    """Return the convolutions of the one or two units of a sub-layer."""
    family, k, expansion = block.kind
    out, middle = block.out_channels, block.bottleneck
    if family == "conv":
        return [(Conv(in_channels, out, k, stride),)]
    if family == "kxkx":
        return [(Conv(in_channels, middle, k, stride), Conv(middle, out, k))]
    if family == "k1kxk1":
        return [
            (Conv(first, middle, 1), Conv(middle, middle, k, s), Conv(middle, out, 1))
            for first, s in ((in_channels, stride), (out, 1))
        ]
    wide, wider = round8(middle * expansion), round8(out * expansion)
    return [
        (Conv(in_channels, wide, 1), Conv(wide, wide, k, stride, wide), Conv(wide, middle, 1)),
        (Conv(middle, wider, 1), Conv(wider, wider, k, 1, wider), Conv(wider, out, 1)),
    ]


def _parse_block(text: str, position: int) -> tuple[Block, int]:
    """Return the block that starts at position, and where it ends."""
    name = NAME.match(text, position)
    if not name:
        raise _error(text, position, "the name of a super block, for example SuperResK3K3")
    if name[0] not in KINDS:
        raise _error(text, position, "a super block", unknown_name("block", name[0], KINDS))
    position = name.end()
    if text[position : position + 1] != "(":
        raise _error(text, position, "'('")
    close = text.find(")", position)
    bar = text.find("|", position, close if close >= 0 else len(text))
    position = max(position, bar) + 1
    is_conv = KINDS[name[0]].family == "conv"
    fields = (
        ("in", "out", "stride", "sub_layers")
        if is_conv
        else ("in", "out", "stride", "bottleneck", "sub_layers")
    )
    values = []
    for field in fields:
        number = NUMBER.match(text, position)
        if not number or int(number[0]) < 1:
            raise _error(text, position, f"{field} of {name[0]}({', '.join(fields)}), a number of at least 1")
        values.append(int(number[0]))
        position, wanted = number.end(), ")" if field == "sub_layers" else ","
        if text[position : position + 1] != wanted:
            raise _error(text, position, f"{wanted!r} after {field} of {name[0]}({', '.join(fields)})")
        position += 1
    if is_conv:
        values.insert(3, 0)
    return Block(name[0], *values), position


def _error(text: str, position: int, expected: str, detail: str = "") -> ConfigError:
    around = (
        f"{text[max(0, position - 20) : position]}>>>{text[position : position + 20]}" if text else "nothing"
    )
    detail = f"; {detail}" if detail else ""
    return ConfigError(f"structure string, position {position} ({around}): expected {expected}{detail}")
