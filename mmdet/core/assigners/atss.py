"""ATSS for a whole batch, with fixed shapes and without the anchors x faces matrix.

Letters: B images, G face slots, L levels, A anchors of all levels, M candidates per face (L * topk, until
those that cannot win are left out). Everything about candidates has the shape (M, B, G): faces lie next to
each other in memory, so operators run over long rows even where an operand differs by face only.
"""

from collections.abc import Callable
from functools import cache, cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.assigners.ignored import FACE_CHUNK, find_ignored
from mmdet.core.assigners.unassigned import anchors_to_spare, claim_nearest
from mmdet.core.bbox import overlaps_of_sides
from mmdet.core.structures import Assignment
from mmdet.errors import ConfigError

_LOW_32_BITS = (1 << 32) - 1
_NO_ANCHOR = 0x7F800000 << 32  # the key of anchor 0 at an infinite distance


class ATSSAssignment(Assignment):
    """Also holds a list of candidates of fixed size: reading it costs G x M instead of A.

    The fields by anchor are computed when first asked for; the loss of SCRFD does not ask.

    Attributes:
        candidate_anchor: (M, B, G) int64, up to M anchors that each face may win.
        candidate_wins: (M, B, G) bool; true for exactly one (face, candidate) per positive anchor.
        candidate_row: (M, B, G) int64, the row of candidate_anchor in (B * A, ...).
        num_samples: scalar fp32, sum over the images of max(positives, 1).
    """

    def __init__(
        self,
        is_ignored: Tensor,
        candidate_anchor: Tensor,
        candidate_wins: Tensor,
        candidate_row: Tensor | None = None,
        num_samples: Tensor | None = None,
    ):
        self.is_ignored = is_ignored
        self.candidate_anchor = candidate_anchor
        self.candidate_wins = candidate_wins
        if candidate_row is None:
            first = torch.arange(len(is_ignored), device=is_ignored.device)[:, None] * is_ignored.shape[1]
            candidate_row = candidate_anchor + first
        if num_samples is None:  # whole numbers, exact in fp32
            num_samples = candidate_wins.float().sum(dim=(0, 2)).clamp(min=1).sum()
        self.candidate_row, self.num_samples = candidate_row, num_samples

    def map(self, change: Callable[[Tensor], Tensor]) -> "ATSSAssignment":
        """Return the assignment with every tensor replaced."""
        lists = (self.candidate_anchor, self.candidate_wins, self.candidate_row)
        return ATSSAssignment(*map(change, (self.is_ignored, *lists, self.num_samples)))

    def with_slots(self, num_slots: int) -> "ATSSAssignment":
        """Return the assignment with G = num_slots, the further ones without a face."""
        missing = num_slots - self.candidate_wins.shape[-1]
        anchor, wins = (F.pad(v, (0, missing)) for v in (self.candidate_anchor, self.candidate_wins))
        return ATSSAssignment(self.is_ignored, anchor, wins, num_samples=self.num_samples)

    @cached_property
    def gt_index(self) -> Tensor:  # type: ignore[override]
        """(B, A) int64 in [0, G), meaningful where is_positive."""
        slot = torch.arange(self.candidate_wins.shape[-1], device=self.candidate_wins.device)
        return self.by_anchor(slot * self.candidate_wins)

    @cached_property
    def is_positive(self) -> Tensor:  # type: ignore[override]
        """(B, A) bool."""
        return self.by_anchor(self.candidate_wins.long()) > 0

    def by_anchor(self, values: Tensor) -> Tensor:
        """Return (B, A) sums of (M, B, G) values, one number each, at their anchors."""
        # Added, not written: losers share anchors with winners. Along rows: 910A and 310P add no other way.
        zeros = torch.zeros_like(self.is_ignored, dtype=values.dtype)
        anchor, values = (v.movedim(1, 0).flatten(1) for v in (self.candidate_anchor, values))
        return zeros.scatter_add_(1, anchor, values)


class ATSSAssigner:
    """Choose positive anchors by the statistics of the nearest ones (arXiv:1912.02424, algorithm 1).

    The candidates of a face are, on each level, its `topk` nearest anchors. A candidate is positive if
    its IoU reaches mean + standard deviation (unbiased) over the face's candidates and its centre lies
    inside the face, away from the border by more than 0.1 % of the face's size.

    Args:
        topk: candidates per level and face.
        mode: only 0, the rule above, which every published face config uses.
        ignore_iof_thr: anchors with more than this part of their area inside an ignore box take no part
            in the loss. -1: ignore boxes have no effect.
        min_face_px: a face of at least this size, sqrt(width * height), whose candidates all fail claims its
            nearest anchor of the finest level. None: it is trained as background.
        ignore_unassigned: the anchors of the nearest cell of a face that gets none are not trained as
            background, unless they are another face's.

    Ties, so that every device gives the same result: of equally near anchors the lowest index; a
    contested anchor goes to the face of highest IoU, then to the lowest slot.

    As in the reference, an ignored anchor cannot be a candidate: the next nearest takes its place, however
    far away. So with ignore_iof_thr > 0 all anchors are looked at, in chunks of faces; it costs more time.
    Differs from the reference: batched; ignore boxes also count in an image without faces.
    """

    needs_predictions = False  # called without the network's outputs
    fills_slots = True

    def __init__(
        self,
        *,
        topk: int = 9,
        mode: int = 0,
        ignore_iof_thr: float = -1,
        min_face_px: float | None = None,
        ignore_unassigned: bool = False,
    ):
        if mode != 0:
            raise ConfigError(f"train_cfg.assigner.mode={mode} is not implemented; use mode=0.")
        if topk < 1:
            raise ConfigError(f"train_cfg.assigner.topk={topk} must be at least 1.")
        if min_face_px is not None and min_face_px <= 0:
            raise ConfigError(f"train_cfg.assigner.min_face_px={min_face_px} must be above 0, or None.")
        self.topk = topk
        self.ignore_iof_thr = ignore_iof_thr
        self.min_face_px, self.ignore_unassigned = min_face_px, ignore_unassigned

    @torch.no_grad()
    def __call__(
        self, grid: AnchorGrid, gt_bboxes: Tensor, gt_valid: Tensor, gt_ignore: Tensor, valid_hw: Tensor
    ) -> ATSSAssignment:
        """Assign the anchors of a batch.

        Args:
            grid: the A anchors.
            gt_bboxes: (B, G, 4) xyxy. Slots neither valid nor ignored may hold anything.
            gt_valid: (B, G) bool, faces to learn.
            gt_ignore: (B, G) bool, ignore boxes.
            valid_hw: (B, 2) height and width of each padded sample; anchors whose centre lies beyond
                it are neither candidates nor trained.

        Returns:
            ATSSAssignment; it does not depend on G or on what padding slots hold.
        """
        check_centered(grid, "ATSSAssigner")
        # The where() keeps padding out of all arithmetic; no mask further down has to remember it.
        faces = torch.where(gt_valid[..., None], gt_bboxes.float(), 0)
        is_ignored = find_ignored(grid, gt_bboxes, gt_ignore, valid_hw, self.ignore_iof_thr)
        if self.ignore_iof_thr > 0:
            found = nearest_allowed_anchors(grid, faces, is_ignored, self.topk)
            num_kept = len(found.anchor)
        else:
            found = nearest_anchors(grid, faces, valid_hw, self.topk)
            num_kept = _most_positives(grid, self.topk)

        sides = faces.movedim(-1, 0).contiguous().unbind(0)  # 4 of (B, G)
        iou = overlaps_of_sides(found.sides, sides)  # (M, B, G)
        is_positive = (iou >= _mean_plus_std(iou, found.exists)) & is_well_inside(found.x, found.y, sides)
        exists = found.exists & gt_valid
        is_positive &= exists
        if self.min_face_px is not None:
            is_positive = claim_nearest(is_positive, exists, sides, self.min_face_px)
        kept, is_positive = _keep_true(is_positive, num_kept)
        candidate = found.anchor.gather(0, kept)
        wins = settle_contests(candidate, iou.gather(0, kept), is_positive, grid.num_anchors)
        if self.ignore_unassigned:
            cell = slice(0, min(grid.num_anchors_per_cell, self.topk))
            is_ignored |= anchors_to_spare(
                found.anchor[cell], exists[cell], wins, candidate, grid.num_anchors
            )
        return ATSSAssignment(is_ignored, candidate, wins)


def check_centered(grid: AnchorGrid, name: str) -> None:
    """Raise ConfigError unless the anchors are centred where `nearest_anchors` looks for them."""
    if grid.center_offset:
        raise ConfigError(f"{name} needs anchors centred on the corners of the cells (AnchorGenerator)")


class Candidates(NamedTuple):
    """M anchors for each of B x G faces; all tensors (M, B, G).

    Attributes:
        anchor: int64, index of the anchor.
        exists: False where a level has fewer than topk anchors; the rest there are repeats or strangers.
        x, y: centre of the anchor, pixels.
        sides: left, top, right and bottom of the anchor.
    """

    anchor: Tensor
    exists: Tensor
    x: Tensor
    y: Tensor
    sides: tuple[Tensor, ...]


def nearest_anchors(grid: AnchorGrid, faces: Tensor, valid_hw: Tensor, topk: int) -> Candidates:
    """Find the topk nearest anchors of each face on each level, nearest first, ties by lowest index.

    The n anchors of a cell share a centre, so the k = ceil(topk / n) nearest cells are enough. Rank the
    columns by (distance along x, index), the rows likewise. All cells (r', c') with r' <= r and c' <= c
    are at least as near as the cell of ranks (r, c), and of a lower index where equally near: at least
    (r + 1)(c + 1) - 1 cells come first. So only cells with (r + 1)(c + 1) <= k can be among the k
    nearest: 10 cells for k = 5, 23 for k = 9, all within the k nearest columns and rows. This holds for
    centres outside the image and for grids smaller than k. A smaller window would not do: far above the
    image the k nearest cells are k columns of the first row. (The argument is exact; in fp32 the distances
    of cells thousands of pixels away round to ties, which the dense search may break in another way.)

    Args:
        grid: the anchors.
        faces: (B, G, 4) xyxy, finite.
        valid_hw: (B, 2); rows and columns beyond ceil(valid_hw / stride) do not exist.
        topk: anchors per level.

    Returns:
        Candidates with M = L * topk, level by level.
    """
    per_cell = grid.num_anchors_per_cell
    num_cells = -(-topk // per_cell)
    strides, widths, offsets = (
        v[:, None, None, None] for v in (grid.level_strides, grid.level_hw[:, 1], grid.level_offsets)
    )
    valid_hw = valid_hw.t()[:, None, None, :, None]  # (2, 1, 1, B, 1)
    num_lines = torch.minimum((valid_hw + strides - 1) // strides, grid.level_hw.t()[..., None, None, None])
    center = ((faces[..., :2] + faces[..., 2:]) / 2).movedim(-1, 0).flip(0)[:, None, None]  # (2, 1, 1, B, G)
    line, distance = _nearest_lines(center, strides, num_lines, num_cells)
    (row, column), (dy, dx) = line, distance.square()  # (L, k, B, G)

    r, c = _ranks(num_cells, strides.device)
    distance = (dx.index_select(1, c) + dy.index_select(1, r)).sqrt()
    # Row and column share a number, which orders as the index of the cell does and takes no division to read.
    cell = (row.index_select(1, r) << 16) + column.index_select(1, c)
    distance, cell = _sort_by_distance(distance, cell)

    of_anchor = torch.arange(topk, device=cell.device)
    cell = cell.index_select(1, of_anchor // per_cell)  # (L, topk, B, G)
    exists = distance.isfinite().index_select(1, of_anchor // per_cell)
    row, column, of_anchor = cell >> 16, cell & 0xFFFF, of_anchor % per_cell
    anchor = (row * widths + column) * per_cell + (offsets + of_anchor[:, None, None])
    y, x = (row * strides).float(), (column * strides).float()
    half = grid.level_half_whs.index_select(1, of_anchor)[..., None, None]  # (L, topk, 2, 1, 1)
    half_w, half_h = half.unbind(2)
    sides = (x - half_w, y - half_h, x + half_w, y + half_h)
    return Candidates(
        anchor.flatten(0, 1),
        exists.flatten(0, 1),
        x.flatten(0, 1),
        y.flatten(0, 1),
        tuple(v.flatten(0, 1) for v in sides),
    )


def nearest_allowed_anchors(grid: AnchorGrid, faces: Tensor, is_ignored: Tensor, topk: int) -> Candidates:
    """Do what `nearest_anchors` does, leaving out any set of anchors, by looking at all of them.

    Args:
        grid: the anchors.
        faces: (B, G, 4) xyxy, finite.
        is_ignored: (B, A) bool, anchors to leave out.
        topk: anchors per level.
    """
    x, y = grid.centers.unbind(-1)
    index = torch.arange(grid.num_anchors, device=x.device)
    found = []
    for chunk in ((faces[..., :2] + faces[..., 2:]) / 2).split(FACE_CHUNK, dim=1):
        distance = ((x - chunk[..., :1]).square() + (y - chunk[..., 1:]).square()).sqrt()  # (B, 8, A)
        distance = torch.where(is_ignored[:, None], torch.inf, distance)
        keys = _make_key(distance, index).split(grid.level_sizes, dim=-1)
        keys = [key.topk(min(topk, key.shape[-1]), largest=False, sorted=True)[0] for key in keys]
        # A level with fewer than topk anchors is filled up with the infinitely far anchor 0.
        keys = [F.pad(key, (0, topk - key.shape[-1]), value=_NO_ANCHOR) for key in keys]
        found.append(torch.cat(keys, dim=-1))
    distance, anchor = _read_key(torch.cat(found, dim=1).movedim(-1, 0).contiguous())
    x, y = grid.centers.index_select(0, anchor.flatten()).view(*anchor.shape, 2).unbind(-1)
    sides = grid.bboxes.index_select(0, anchor.flatten()).view(*anchor.shape, 4).unbind(-1)
    return Candidates(anchor, distance.isfinite(), x, y, sides)


def _nearest_lines(coordinate: Tensor, strides: Tensor, num_lines: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k nearest grid lines along both axes, nearest first, ties by lowest index.

    Args:
        coordinate: (2, 1, 1, B, G) y and x, pixels.
        strides: (L, 1, 1, 1) pixels between lines.
        num_lines: (2, L, 1, B, 1) rows and columns that exist.
        k: lines wanted.

    Returns:
        (2, L, k, B, G) indices, always inside the grid, and distances in pixels, inf where no line is left.
    """
    # The k nearest of an endless grid are consecutive; at a border the window slides inwards.
    first = (coordinate / strides - k / 2).ceil().clamp(min=0)
    first = torch.minimum(first, (num_lines - k).clamp(min=0)).long()  # (2, L, 1, B, G)
    number = torch.arange(k, device=strides.device)[:, None, None]
    line = first + number
    distance = (line * strides - coordinate).abs()
    distance = torch.where(line < num_lines, distance, torch.inf)
    distance, number = _sort_by_distance(distance, number)
    return torch.minimum(first + number, num_lines - 1), distance


@cache  # made once: a copy from the host is no part of a step
def _ranks(k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the ranks (r, c) with (r + 1)(c + 1) <= k."""
    ranks = [(r, c) for r in range(k) for c in range(k // (r + 1))]
    return torch.tensor(ranks, device=device).unbind(1)  # type: ignore[return-value]


def _sort_by_distance(distance: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Sort along the last dimension but 2 by (distance, index); no ties, so no sort has to be stable."""
    return _read_key(_make_key(distance, index).sort(dim=-3)[0])


def _make_key(value: Tensor, index: Tensor) -> Tensor:
    """Return int64 that order as (value, index) do; value fp32 >= 0, whose bits order as it does."""
    return (value.view(torch.int32).long() << 32) | index


def _read_key(key: Tensor) -> tuple[Tensor, Tensor]:
    return (key >> 32).int().view(torch.float32), key & _LOW_32_BITS


def _mean_plus_std(iou: Tensor, exists: Tensor) -> Tensor:
    """Return (B, G), mean + unbiased standard deviation over the existing ones of M candidates."""
    count = exists.sum(dim=0)
    mean = (iou * exists).sum(dim=0) / count.clamp(min=1)
    squares = ((iou - mean) * exists).square().sum(dim=0)
    return mean + (squares / (count - 1).clamp(min=1)).sqrt()


def is_well_inside(x: Tensor, y: Tensor, sides: tuple[Tensor, ...]) -> Tensor:
    """Return whether a point is inside its face by more than 0.1 % of the face's size."""
    left, top, right, bottom = sides
    margin_x, margin_y = torch.minimum(x - left, right - x), torch.minimum(y - top, bottom - y)
    area = (right - left) * (bottom - top)
    return torch.minimum(margin_x, margin_y) / area.clamp(min=1e-4).sqrt() > 0.001


def _most_positives(grid: AnchorGrid, topk: int) -> int:
    """Return how many of a face's candidates can reach mean + standard deviation.

    If m of n values reach it, the best case being m equal values above n - m equal ones, then
    m <= n (n - 1) / (2 n - 1), less than half. Only values that are all equal all reach it. IoUs above 0 are
    all equal only if every anchor lies inside the face or around it, so not with three sizes of anchors. The
    first `topk` anchors of the nearest cell of each level are candidates of every face.
    """
    num_candidates = len(grid.levels) * topk
    areas = {width * height for level in grid.levels for width, height in level.anchor_whs[:topk]}
    return max(num_candidates // 2, 1) if len(areas) >= 3 else num_candidates


def _keep_true(mask: Tensor, num_kept: int) -> tuple[Tensor, Tensor]:
    """Return the indices (num_kept, ...) of a mask's (M, ...) true entries, in order, and which are true."""
    number = torch.arange(len(mask), device=mask.device).view(-1, *[1] * (mask.dim() - 1))
    # The false ones share one place past the end; so would true ones beyond num_kept.
    place = torch.where(mask, mask.int().cumsum(dim=0) - 1, num_kept).clamp(max=num_kept)
    kept = place.new_zeros(num_kept + 1, *mask.shape[1:]).scatter_(0, place, number.expand_as(place))
    return kept[:num_kept], number[:num_kept] < mask.sum(dim=0)


def settle_contests(candidate: Tensor, iou: Tensor, is_positive: Tensor, num_anchors: int) -> Tensor:
    """Give each claimed anchor to the face of highest IoU, ties to the lowest slot; return who wins.

    Args:
        candidate: (M, B, G) anchor indices.
        iou: (M, B, G) with the face.
        is_positive: (M, B, G), the face claims the anchor.
        num_anchors: A.
    """
    _, batch_size, num_slots = candidate.shape
    # The complement of the slot, so that the lowest one wins a tie.
    rank = _LOW_32_BITS - torch.arange(num_slots, device=candidate.device)
    bid = torch.where(is_positive, _make_key(iou, rank), -1)
    first = torch.arange(batch_size, device=candidate.device)[:, None] * num_anchors
    where = (candidate + first).flatten()
    best = bid.new_full((batch_size * num_anchors,), -1)
    best.scatter_reduce_(0, where, bid.flatten(), "amax")
    return is_positive & (best.gather(0, where).view_as(bid) == bid)
