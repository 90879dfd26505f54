"""Anchors: boxes of fixed sizes centred on the corners or in the middle of the feature-map cells.

The cell in row i and column j of a level has its anchors at ((j + o) * stride, (i + o) * stride). The offset
o is 0 for SCRFD and 0.5 for RetinaFace. Order everywhere: levels by stride, cells row by row, then the
anchors of a cell (ratios outer, scales inner; or as listed).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor

from mmdet.errors import ConfigError


@dataclass(frozen=True)
class Level:
    """One feature map.

    Attributes:
        stride: pixels per cell.
        height, width: cells.
        offset: index of the level's first anchor.
        anchor_whs: width and height of each anchor of a cell, pixels.
    """

    stride: int
    height: int
    width: int
    offset: int
    anchor_whs: tuple[tuple[float, float], ...]


class Anchors(NamedTuple):
    """Some anchors, whose boxes and points are coded; all lengths in one unit, usually pixels.

    Attributes:
        center: (..., 2) x, y.
        stride: (..., 1) or a number; None if strides are the unit.
        wh: (..., 2) width and height; may be None for a coder that reads the stride only.
    """

    center: Tensor
    stride: Tensor | float | None
    wh: Tensor | None

    def take(self, index: Tensor) -> "Anchors":
        """Return the anchors that index (n,) chooses from all (A, ...)."""
        return self._map(lambda values: values[index])

    def to(self, device: torch.device | str) -> "Anchors":
        """Return the anchors with all tensors on `device`."""
        return self._map(lambda values: values.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Anchors":
        values = self._asdict().items()
        return self._replace(**{name: change(v) for name, v in values if isinstance(v, Tensor)})


@dataclass(frozen=True, eq=False)
class AnchorGrid:
    """The A anchors of L levels for one input size, on one device. Shared through a cache: do not change.

    Attributes:
        bboxes: (A, 4) float32 xyxy.
        centers: (A, 2) float32 x, y.
        strides: (A,) float32.
        whs: (A, 2) float32 width and height.
        cells: (3, A) float32: x and y of the centre in strides, and strides per pixel.
        levels: what each level looks like, as plain numbers.
        level_strides: (L,) int64; level_hw: (L, 2) int64; level_offsets: (L,) int64. The same as tensors.
        level_half_whs: (L, n, 2) float32, half the width and height of the n anchors of a cell.
        center_offset: of an anchor's centre from the corner of its cell, in strides.
    """

    bboxes: Tensor
    centers: Tensor
    strides: Tensor
    whs: Tensor
    cells: Tensor
    levels: tuple[Level, ...]
    level_strides: Tensor
    level_hw: Tensor
    level_offsets: Tensor
    level_half_whs: Tensor
    center_offset: float = 0.0

    @property
    def anchors(self) -> Anchors:
        """Return all anchors in pixels, as coders take them."""
        return Anchors(self.centers, self.strides[:, None], self.whs)

    @property
    def num_anchors(self) -> int:
        """Return A."""
        return self.bboxes.shape[0]

    @property
    def num_anchors_per_cell(self) -> int:
        """Return how many anchors share a centre."""
        return len(self.levels[0].anchor_whs)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Return the number of anchors of each level; sums to A."""
        return tuple(v.height * v.width * len(v.anchor_whs) for v in self.levels)


class AnchorGenerator:
    """Makes the anchors for feature maps of any size.

    Args:
        strides: pixels per cell, one per level.
        ratios: height / width.
        scales: multiples of the base size.
        base_sizes: one per level; default the strides.
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        ratios: Sequence[float],
        scales: Sequence[float],
        base_sizes: Sequence[float] | None = None,
    ):
        self.strides = tuple(strides)
        self.ratios = tuple(ratios)
        self.scales = tuple(scales)
        self.base_sizes = tuple(base_sizes if base_sizes is not None else strides)
        if len(self.base_sizes) != len(self.strides):
            raise ConfigError(
                f"anchor_generator.base_sizes={self.base_sizes} must have one entry for each of "
                f"strides={self.strides}."
            )
        if not self.strides or not self.ratios or not self.scales:
            raise ConfigError("anchor_generator needs at least one stride, one ratio and one scale.")
        self._level_whs = tuple(self._anchor_whs(base_size) for base_size in self.base_sizes)

    @property
    def num_anchors_per_cell(self) -> int:
        """Return how many anchors share a centre."""
        return len(self.ratios) * len(self.scales)

    def grid(self, level_sizes_hw: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> AnchorGrid:
        """Return the anchors for feature maps of these (height, width), one per stride."""
        return make_grid(self.strides, level_sizes_hw, self._level_whs, device)

    def _anchor_whs(self, base_size: float) -> tuple[tuple[float, float], ...]:
        """Return width and height of each anchor of a cell, computed in fp32 as the reference does."""
        root = torch.tensor(self.ratios, dtype=torch.float32).sqrt()
        scales = torch.tensor(self.scales, dtype=torch.float32)
        widths = (base_size * (1 / root)[:, None] * scales).flatten().tolist()
        heights = (base_size * root[:, None] * scales).flatten().tolist()
        return tuple(zip(widths, heights, strict=True))


def make_grid(
    strides: tuple[int, ...],
    level_sizes_hw: Sequence[Sequence[int]],
    level_whs: tuple[tuple[tuple[float, float], ...], ...],
    device: torch.device | str,
    center_offset: float = 0.0,
) -> AnchorGrid:
    """Return the anchors, made once for each input size and device.

    Args:
        strides: one per level.
        level_sizes_hw: height and width of each feature map.
        level_whs: width and height of the anchors of a cell, per level.
        device: of the tensors.
        center_offset: see `AnchorGrid`.
    """
    if len(level_sizes_hw) != len(strides):
        raise ValueError(f"{len(level_sizes_hw)} feature maps for strides {strides}")
    sizes = tuple((int(h), int(w)) for h, w in level_sizes_hw)
    return _make_grid(strides, sizes, level_whs, str(device), center_offset)


_LIVE: WeakSet[AnchorGrid] = WeakSet()


def live_grids() -> tuple[AnchorGrid, ...]:
    """Return all grids in use; a recorded step reads the memory of some and has to keep them (graphs.py)."""
    return tuple(_LIVE)


@lru_cache(maxsize=32)
def _make_grid(strides, level_sizes_hw, level_whs, device: str, center_offset: float) -> AnchorGrid:  # noqa: ANN001
    # A grid first made while evaluating may serve training next, so it must not be an inference tensor.
    with torch.inference_mode(False):
        levels, centers, bboxes, anchor_whs, anchor_strides, offset = [], [], [], [], [], 0
        for stride, (height, width), whs in zip(strides, level_sizes_hw, level_whs, strict=True):
            levels.append(Level(stride, height, width, offset, whs))
            offset += height * width * len(whs)
            anchor_strides.append(torch.full((height * width * len(whs),), float(stride)))
            rows, columns = ((torch.arange(side) + center_offset) * stride for side in (height, width))
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            center = torch.stack((x, y), dim=-1).reshape(-1, 1, 2).float()  # (cells, 1, 2)
            half = torch.tensor(whs) * 0.5
            bboxes.append((center.repeat(1, 1, 2) + torch.cat((-half, half), dim=-1)).reshape(-1, 4))
            anchor_whs.append(torch.tensor(whs).repeat(height * width, 1))
            centers.append(center.expand(-1, len(whs), -1).reshape(-1, 2))
        center, anchor_stride = torch.cat(centers), torch.cat(anchor_strides)
        cells = torch.cat((center.t() / anchor_stride, 1 / anchor_stride[None]))
        grid = AnchorGrid(
            bboxes=torch.cat(bboxes).to(device),
            centers=center.to(device),
            strides=anchor_stride.to(device),
            whs=torch.cat(anchor_whs).to(device),
            cells=cells.to(device),
            levels=tuple(levels),
            level_strides=torch.tensor(strides).to(device),
            level_hw=torch.tensor(level_sizes_hw).to(device),
            level_offsets=torch.tensor([level.offset for level in levels]).to(device),
            level_half_whs=(torch.tensor(level_whs) * 0.5).to(device),
            center_offset=center_offset,
        )
    _LIVE.add(grid)
    return grid


class PriorGenerator:
    """Makes RetinaFace's anchors: squares of given sizes in the middle of each cell.

    Args:
        strides: pixels per cell, one per level.
        min_sizes: sides of the anchors of a cell in pixels, one list per level, all of the same length.
    """

    CENTER_OFFSET = 0.5

    def __init__(self, *, strides: Sequence[int], min_sizes: Sequence[Sequence[float]]):
        self.strides = tuple(strides)
        self._level_whs = tuple(tuple((float(side), float(side)) for side in sizes) for sizes in min_sizes)
        if not self.strides or len(self._level_whs) != len(self.strides):
            raise ConfigError(f"min_sizes={min_sizes} must have one list for each of strides={strides}.")
        if len({len(sizes) for sizes in self._level_whs}) > 1 or not self._level_whs[0]:
            raise ConfigError(f"min_sizes={min_sizes} must have the same number of sizes for every stride.")

    @property
    def num_anchors_per_cell(self) -> int:
        """Return how many anchors share a centre."""
        return len(self._level_whs[0])

    def grid(self, level_sizes_hw: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> AnchorGrid:
        """Return the anchors for feature maps of these (height, width), one per stride."""
        return make_grid(self.strides, level_sizes_hw, self._level_whs, device, self.CENTER_OFFSET)


ANCHOR_GENERATORS: dict[str, Any] = {"AnchorGenerator": AnchorGenerator, "PriorGenerator": PriorGenerator}
