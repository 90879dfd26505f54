"""MultiBoxAssigner: every anchor that overlaps a face enough learns it (SSD, RetinaFace).

The rule compares all anchors with all faces. Here a face looks only at the anchors around its centre that
can reach the threshold at all, a set that depends on the anchors alone: 719 of 16,800 at 640 pixels.
Everything about candidates has the shape (M, B, G); the overlap of a row and of a column is computed once for
all candidates in it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.assigners.atss import find_ignored
from mmdet.core.structures import Assignment
from mmdet.errors import ConfigError

_FORCED_IOU = 2.0  # of a face's best anchor: above every other


class MultiBoxAssigner:
    """Choose positive anchors by their IoU with the faces (arXiv:1512.02325, section 2.2).

    1. An anchor belongs to the face it overlaps most; ties: the lower slot. It is positive from
       `pos_iou_thr` on.
    2. A face whose best anchor reaches `min_pos_iou` makes it positive, whatever its IoU.
    3. Every face, whatever its best IoU, claims its best anchor (ties: the lowest index); of several faces
       the one in the highest slot has it. The anchor does not become positive by this.
    4. An image in which no face reaches `min_pos_iou` has no positives.

    Args:
        pos_iou_thr, min_pos_iou: see above; RetinaFace's defaults.
        ignore_iof_thr: anchors with more than this part of their area inside an ignore box take no part in
            the loss. -1: ignore boxes have no effect.

    Differs from the reference: batched. A face without area, or outside all anchors, claims nothing (there it
    claims anchor 0, and its box loss is inf if that is positive). Rule 3 looks at the anchors around the
    centre of the face; it matters where a face is twice as wide as its best anchor.
    """

    needs_predictions = False

    def __init__(self, *, pos_iou_thr: float = 0.35, min_pos_iou: float = 0.2, ignore_iof_thr: float = -1):
        if not 0 < pos_iou_thr < 1:
            raise ConfigError(f"train_cfg.assigner.pos_iou_thr={pos_iou_thr} must be between 0 and 1.")
        self.pos_iou_thr, self.min_pos_iou = pos_iou_thr, min_pos_iou
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def __call__(
        self, grid: AnchorGrid, gt_bboxes: Tensor, gt_valid: Tensor, gt_ignore: Tensor, valid_hw: Tensor
    ) -> Assignment:
        """Assign the anchors of a batch; see `Assigner` for the arguments."""
        is_ignored = find_ignored(grid, gt_bboxes, gt_ignore, valid_hw, self.ignore_iof_thr)
        left, top, right, bottom = torch.where(gt_valid[..., None], gt_bboxes.float(), 0).unbind(-1)
        is_face = gt_valid & (right > left) & (bottom > top)
        found = _overlaps(grid, (left, top, right, bottom), valid_hw, self.pos_iou_thr)

        best_iou = found.iou.amax(dim=0)  # (B, G)
        best_anchor = torch.where(found.iou == best_iou, found.anchor, grid.num_anchors).amin(dim=0)
        claims = is_face & (best_iou > 0)
        is_matched = claims & (best_iou >= self.min_pos_iou)
        iou = torch.cat((found.iou, _FORCED_IOU * is_matched[None]))
        wants = (iou >= self.pos_iou_thr) & is_face
        anchor = torch.where(wants, torch.cat((found.anchor, best_anchor[None])), grid.num_anchors)

        bids = _Bids(is_ignored)
        by_face = (values.permute(2, 1, 0).contiguous() for values in (anchor, iou))  # (G, B, M) each
        for slot, bid in enumerate(zip(*by_face, strict=True)):
            bids.add(slot, *bid)
        return Assignment(
            gt_index=bids.owners(torch.where(claims, best_anchor, grid.num_anchors)),
            is_positive=bids.is_wanted & ~is_ignored & is_matched.any(dim=1, keepdim=True),
            is_ignored=is_ignored,
            max_positives=_most_positives(grid, claims.shape[1], self.pos_iou_thr),
        )


class _Bids:
    """Which face has each anchor, as the faces come one after the other.

    Written with plain scatters of fp32, a place past the end for what is not meant: the one operator that
    would do, a scatter that keeps the maximum, runs on the host of an Ascend machine.
    """

    def __init__(self, like: Tensor):
        self._best = torch.zeros(like.shape[0], like.shape[1] + 1, device=like.device)  # (B, A + 1) IoU
        self._slot = torch.zeros_like(self._best)

    def add(self, slot: int, anchor: Tensor, iou: Tensor) -> None:
        """Let the face in a slot have the anchors (B, M), each at most once, where its IoU is the highest."""
        is_best = iou > self._best.gather(1, anchor)
        anchor = torch.where(is_best, anchor, self._best.shape[1] - 1)
        self._best.scatter_(1, anchor, iou)
        self._slot.scatter_(1, anchor, float(slot))

    @property
    def is_wanted(self) -> Tensor:
        """(B, A) bool: some face has the anchor."""
        return self._best[:, :-1] > 0

    def owners(self, claimed: Tensor) -> Tensor:
        """Return (B, A) int64 slots, after the faces have claimed the anchors (B, G); the last one has it."""
        slot = torch.arange(claimed.shape[1], device=claimed.device)
        is_repeated = (claimed[:, :, None] == claimed[:, None]) & (slot[:, None] < slot)  # (B, G, G)
        claimed = torch.where(is_repeated.any(dim=2), self._best.shape[1] - 1, claimed)
        self._slot.scatter_(1, claimed, slot.float().expand_as(claimed))
        return self._slot[:, :-1].long()


class _Overlaps(NamedTuple):
    """IoU of M candidate anchors with B x G faces, 0 where there is no such anchor; their indices."""

    iou: Tensor
    anchor: Tensor


def _overlaps(grid: AnchorGrid, faces: Sequence[Tensor], valid_hw: Tensor, iou_thr: float) -> _Overlaps:
    """Return the candidates of all faces, 4 of (B, G): left, top, right, bottom."""
    left, top, right, bottom = faces
    area = (right - left) * (bottom - top)
    iou, anchor = [], []
    for level in grid.levels:
        for number, (width, height) in enumerate(level.anchor_whs):
            window = _window(width / level.stride, height / level.stride, iou_thr, str(left.device))
            lines = _Lines(level.stride, grid.center_offset)
            column, overlap_x = lines.overlap(
                window.num_columns, level.width, valid_hw[:, 1:], width, left, right
            )
            row, overlap_y = lines.overlap(
                window.num_rows, level.height, valid_hw[:, :1], height, top, bottom
            )
            inter = overlap_x.index_select(0, window.column) * overlap_y.index_select(0, window.row)
            iou.append(inter / (width * height + area - inter))
            cell = row.index_select(0, window.row) * level.width + column.index_select(0, window.column)
            anchor.append(cell * len(level.anchor_whs) + (level.offset + number))
    return _Overlaps(torch.cat(iou), torch.cat(anchor))


class _Lines(NamedTuple):
    """The rows or the columns of a level: line i is centred at (i + offset) * stride."""

    stride: int
    offset: float

    def overlap(
        self, num_lines: int, num_existing: int, valid_side: Tensor, size: float, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the lines around the centre of each face and how much of them the face covers.

        Args:
            num_lines: K, lines of the window.
            num_existing: lines of the level.
            valid_side: (B, 1) pixels of the sample; lines centred beyond it do not exist either.
            size: of an anchor along this axis.
            low: (B, G) left or top of the faces.
            high: right or bottom.

        Returns:
            (K, B, G) int64 line, always one of the level's; (K, B, G) pixels, 0 where it does not exist.
        """
        existing = (valid_side / self.stride - self.offset).ceil().clamp(max=num_existing)
        position = (low + high) / 2 / self.stride - self.offset
        position = torch.minimum(position.clamp(min=0), existing - 1)
        # The middle line of the window is the nearest one.
        line = (position - num_lines / 2).ceil() + torch.arange(num_lines, device=low.device)[:, None, None]
        center = (line + self.offset) * self.stride
        covered = torch.minimum(center + size / 2, high) - torch.maximum(center - size / 2, low)
        covered = covered.clamp(min=0) * ((line >= 0) & (line < existing))
        return line.clamp(0, num_existing - 1).long(), covered


class _Window(NamedTuple):
    """The cells around the centre of a face whose anchors can reach the threshold: (M,) column and row."""

    num_columns: int
    num_rows: int
    column: Tensor
    row: Tensor


@lru_cache(maxsize=64)
def _window(width: float, height: float, iou_thr: float, device: str) -> _Window:
    """Return the window of an anchor of `width` x `height` strides."""
    num_columns, num_rows = (2 * int(side * (1 / iou_thr - 1) / 2 + 0.5) + 1 for side in (width, height))
    cells = [
        (column, row)
        for row in range(num_rows)
        for column in range(num_columns)
        if _highest_iou(_nearest(column, num_columns) / width, _nearest(row, num_rows) / height) >= iou_thr
    ]
    with torch.inference_mode(False):
        column, row = torch.tensor(cells, device=device).unbind(-1)
    return _Window(num_columns, num_rows, column.contiguous(), row.contiguous())


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


def _most_positives(grid: AnchorGrid, num_faces: int, iou_thr: float) -> int:
    """Return how many positives an image with so many faces can have."""
    total = num_faces  # each may force one
    for level in grid.levels:
        for width, height in level.anchor_whs:
            per_face = _most_positives_of_kind(width / level.stride, height / level.stride, iou_thr)
            total += min(num_faces * per_face, level.height * level.width)
    return total


@lru_cache(maxsize=64)
def _most_positives_of_kind(width: float, height: float, iou_thr: float) -> int:
    """Return how many anchors of width x height strides one face can reach the threshold with.

    It is the most of many faces tried, and a tenth more.
    """
    with torch.inference_mode(False):
        window = _window(width, height, iou_thr, "cpu")
        scales = torch.linspace(0.5, 2.0, 61)[:, None] / torch.tensor((0.7, 0.8, 0.9, 1.0))
        sides = torch.stack((scales * width, scales.flip(1) * height)).view(2, -1, 1, 1)
        shift = torch.tensor((-0.5, -0.25, 0.0, 0.25))[:, None]  # of the window against the face
        covered_x = _covered(sides[0], width, window.column - window.num_columns // 2 + shift)
        covered_y = _covered(sides[1], height, window.row - window.num_rows // 2 + shift)
        inter = covered_x[:, :, None] * covered_y[:, None]  # (faces, 4, 4, M)
        union = (sides[0] * sides[1])[..., None] + width * height - inter
        return math.ceil(1.1 * int((inter / union >= iou_thr).sum(dim=-1).max()))


def _covered(face: Tensor, anchor: float, distance: Tensor) -> Tensor:
    """Return the common length of two intervals of given lengths whose middles are `distance` apart."""
    overlap = (face + anchor) / 2 - distance.abs()
    return torch.minimum(overlap, face.clamp(max=anchor)).clamp(min=0)
