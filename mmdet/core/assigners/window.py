"""The anchors around the centre of a face that can reach an IoU at all, whatever the face.

Letters: n faces, M anchors of the window, K lines (rows or columns) they lie on.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet.core.anchors import Level


class Lines(NamedTuple):
    """The columns, or the rows, around the centre of a face, (K, 1) float32 each.

    The K lines are those of one kind of anchor after the other. Line i of a level is centred at
    (i + offset) * stride.

    Attributes:
        offset: see above.
        stride: pixels between the lines of its level.
        num_existing: lines of its level.
        size: of the anchors along this axis.
        number: from the first line of its kind.
        num_lines: of its kind.
    """

    offset: float
    stride: Tensor
    num_existing: Tensor
    size: Tensor
    number: Tensor
    num_lines: Tensor

    def overlap(self, valid_side: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lines around the centre of each face and how much of their anchors the face covers.

        Args:
            valid_side: (n,) pixels of the sample; lines centred beyond it do not exist either.
            low: (n,) left or top of the faces.
            high: right or bottom.

        Returns:
            (K, n) int64 line, where it exists; (K, n) pixels, 0 where it does not.
        """
        existing = torch.minimum((valid_side / self.stride - self.offset).ceil(), self.num_existing)
        position = (low + high) / 2 / self.stride - self.offset
        position = torch.minimum(position.clamp(min=0), existing - 1)
        # The middle line of the window is the nearest one.
        line = (position - self.num_lines / 2).ceil() + self.number
        center = (line + self.offset) * self.stride
        covered = torch.minimum(center + self.size / 2, high) - torch.maximum(center - self.size / 2, low)
        return line.long(), covered.clamp(min=0) * ((line >= 0) & (line < existing))


class Window(NamedTuple):
    """The M anchors around the centre of a face that can reach the threshold.

    Attributes:
        columns, rows: the lines they lie on.
        column, row: (M,) int64, which of these lines.
        area: (M, 1) pixels.
        level_width: (M,) int64, cells in a row of the level.
        first_anchor: (M,) int64, index of the anchor of this kind in cell 0 of the level.
    """

    columns: Lines
    rows: Lines
    column: Tensor
    row: Tensor
    area: Tensor
    level_width: Tensor
    first_anchor: Tensor


@lru_cache(maxsize=64)
def window(levels: tuple[Level, ...], offset: float, iou_thr: float, device: str) -> Window:
    """Return the window of a grid of anchors; it depends on the anchors and the threshold alone."""
    columns: list[tuple[float, ...]] = []
    rows: list[tuple[float, ...]] = []
    anchors: list[tuple[float, ...]] = []
    for level in levels:
        for number, (width, height) in enumerate(level.anchor_whs):
            cells = _cells(width / level.stride, height / level.stride, iou_thr)
            facts = (width * height, level.width, level.offset + number)
            anchors += [(len(columns) + column, len(rows) + row, *facts) for column, row in cells]
            for lines, num, size in ((columns, level.width, width), (rows, level.height, height)):
                num_lines = _num_lines(size / level.stride, iou_thr)
                lines += [(level.stride, num, size, line, num_lines) for line in range(num_lines)]
    with torch.inference_mode(False):
        x, y = (
            Lines(offset, *torch.tensor(lines, device=device).float().t()[..., None])
            for lines in (columns, rows)
        )
        column, row, area, level_width, first = torch.tensor(anchors, device=device).float().t()
        column, row, level_width, first = (v.long() for v in (column, row, level_width, first))
        return Window(x, y, column, row, area[:, None], level_width, first)


def _num_lines(side: float, iou_thr: float) -> int:
    """Return how many lines an anchor of so many strides can lie on and reach the threshold, at most."""
    return 2 * int(side * (1 / iou_thr - 1) / 2 + 0.5) + 1


def _cells(width: float, height: float, iou_thr: float) -> list[tuple[int, int]]:
    """Return column and row of the anchors of `width` x `height` strides that can reach the threshold."""
    num_columns, num_rows = _num_lines(width, iou_thr), _num_lines(height, iou_thr)
    return [
        (column, row)
        for row in range(num_rows)
        for column in range(num_columns)
        if _highest_iou(_nearest(column, num_columns) / width, _nearest(row, num_rows) / height) >= iou_thr
    ]


def _nearest(line: int, num_lines: int) -> float:
    """Return how near, in strides, a line of the window can lie to the centre of the face."""
    return max(0.0, abs(line - (num_lines - 1) / 2) - 0.5)


def _highest_iou(dx: float, dy: float) -> float:
    """Return the highest IoU of an anchor with any face whose centre is (dx, dy) anchor sizes away.

    Along an axis, a face is best if it just contains the anchor or, where it can, just lies inside.
    """
    outer_x, outer_y, inner_x, inner_y = 1 + 2 * dx, 1 + 2 * dy, max(0.0, 1 - 2 * dx), max(0.0, 1 - 2 * dy)
    one_side = inner_y / (1 + (outer_x - 1) * inner_y), inner_x / (1 + (outer_y - 1) * inner_x)
    return max(1 / (outer_x * outer_y), inner_x * inner_y, *one_side)
