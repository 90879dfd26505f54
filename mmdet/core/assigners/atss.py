"""ATSS for a whole batch, with fixed shapes and without the anchors x faces matrix.

Letters: B images, G face slots, L levels, A anchors of all levels, M candidates per face (L * topk, until
those that cannot win are left out).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.bbox import bbox_overlaps
from mmdet.core.structures import Assignment
from mmdet.errors import ConfigError

_LOW_32_BITS = (1 << 32) - 1
_NO_ANCHOR = 0x7F800000 << 32  # the key of anchor 0 at an infinite distance
_FACE_CHUNK = 8  # boxes compared with all anchors at once, only with ignore_iof_thr > 0


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

    Ties, so that every device gives the same result: of equally near anchors the lowest index; a
    contested anchor goes to the face of highest IoU, then to the lowest slot.

    As in the reference, an ignored anchor cannot be a candidate: the next nearest takes its place, however
    far away. So with ignore_iof_thr > 0 all anchors are looked at, in chunks of faces; it costs more time.
    Differs from the reference: batched; ignore boxes also count in an image without faces.
    """

    def __init__(self, *, topk: int = 9, mode: int = 0, ignore_iof_thr: float = -1):
        if mode != 0:
            raise ConfigError(f"train_cfg.assigner.mode={mode} is not implemented; use mode=0.")
        if topk < 1:
            raise ConfigError(f"train_cfg.assigner.topk={topk} must be at least 1.")
        self.topk = topk
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def __call__(
        self, grid: AnchorGrid, gt_bboxes: Tensor, gt_valid: Tensor, gt_ignore: Tensor, valid_hw: Tensor
    ) -> Assignment:
        """Assign the anchors of a batch.

        Args:
            grid: the A anchors.
            gt_bboxes: (B, G, 4) xyxy. Slots neither valid nor ignored may hold anything.
            gt_valid: (B, G) bool, faces to learn.
            gt_ignore: (B, G) bool, ignore boxes.
            valid_hw: (B, 2) height and width of each padded sample; anchors whose centre lies beyond
                it are neither candidates nor trained.

        Returns:
            Assignment; it does not depend on G or on what padding slots hold.
        """
        # The where() keeps padding out of all arithmetic; no mask further down has to remember it.
        faces = torch.where(gt_valid[..., None], gt_bboxes.float(), 0)
        x, y = grid.centers.unbind(-1)
        is_ignored = (y >= valid_hw[:, :1]) | (x >= valid_hw[:, 1:])  # (B, A)
        if self.ignore_iof_thr > 0:
            is_ignored |= is_in_ignore_region(grid.bboxes, gt_bboxes, gt_ignore, self.ignore_iof_thr)
            candidate, exists = nearest_allowed_anchors(grid, faces, is_ignored, self.topk)
        else:
            candidate, exists = nearest_anchors(grid, faces, valid_hw, self.topk)  # (B, G, M)

        flat = candidate.flatten()
        iou = bbox_overlaps(grid.bboxes.index_select(0, flat).view(*candidate.shape, 4), faces[:, :, None])
        enough = iou >= _mean_plus_std(iou, exists)
        inside = _is_well_inside(
            grid.centers.index_select(0, flat).view(*candidate.shape, 2), faces[:, :, None]
        )
        is_positive = enough & inside & exists & gt_valid[..., None]
        wins = _settle_contests(candidate, iou, is_positive, grid.num_anchors)
        candidate, wins = _keep_winners(candidate, wins, _most_winners(grid, candidate.shape[-1]))
        return Assignment(is_ignored, candidate, wins)


def nearest_anchors(grid: AnchorGrid, faces: Tensor, valid_hw: Tensor, topk: int) -> tuple[Tensor, Tensor]:
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
        candidate: (B, G, L * topk) int64 anchor indices. Where a level has fewer than topk anchors the
            rest are repeats or strangers.
        exists: same shape, False for those.
    """
    num_cells = -(-topk // grid.num_anchors_per_cell)
    strides, widths = grid.level_strides, grid.level_hw[:, 1:]
    valid = (valid_hw[:, None, :] + strides[:, None] - 1) // strides[:, None]  # (B, L, 2) rows, columns
    num_rows, num_columns = torch.minimum(valid, grid.level_hw)[:, None, :, None].unbind(-1)  # (B, 1, L, 1)
    center = (faces[..., :2] + faces[..., 2:]) / 2
    column, dx = _nearest_lines(center[..., 0], strides, num_columns, num_cells)  # (B, G, L, k)
    row, dy = _nearest_lines(center[..., 1], strides, num_rows, num_cells)

    dx, dy, first_of_row = dx.square(), dy.square(), row * widths
    spans = [(r, slice(r, r + 1), slice(0, num_cells // (r + 1))) for r in range(num_cells)]
    distance = torch.cat([dx[..., cs] + dy[..., rs] for _, rs, cs in spans], dim=-1).sqrt()
    cell = torch.cat([first_of_row[..., rs] + column[..., cs] for _, rs, cs in spans], dim=-1)
    distance, cell = _sort_by_distance(distance, cell)
    cell, exists = cell[..., :num_cells], distance[..., :num_cells].isfinite()

    per_cell = grid.num_anchors_per_cell
    of_cell = torch.arange(per_cell, device=cell.device)
    candidate = cell[..., None] * per_cell + of_cell  # (B, G, L, k, n)
    candidate = candidate.flatten(-2)[..., :topk] + grid.level_offsets[:, None]
    exists = exists[..., None].expand(*exists.shape, per_cell).flatten(-2)[..., :topk]
    return candidate.flatten(-2), exists.flatten(-2)


def nearest_allowed_anchors(
    grid: AnchorGrid, faces: Tensor, is_ignored: Tensor, topk: int
) -> tuple[Tensor, Tensor]:
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
    for chunk in ((faces[..., :2] + faces[..., 2:]) / 2).split(_FACE_CHUNK, dim=1):
        distance = ((x - chunk[..., :1]).square() + (y - chunk[..., 1:]).square()).sqrt()  # (B, 8, A)
        distance = torch.where(is_ignored[:, None], torch.inf, distance)
        keys = _make_key(distance, index).split(grid.level_sizes, dim=-1)
        keys = [key.topk(min(topk, key.shape[-1]), largest=False, sorted=True)[0] for key in keys]
        # A level with fewer than topk anchors is filled up with the infinitely far anchor 0.
        keys = [F.pad(key, (0, topk - key.shape[-1]), value=_NO_ANCHOR) for key in keys]
        found.append(torch.cat(keys, dim=-1))
    distance, candidate = _read_key(torch.cat(found, dim=1))
    return candidate, distance.isfinite()


def is_in_ignore_region(anchors: Tensor, gt_bboxes: Tensor, gt_ignore: Tensor, iof_thr: float) -> Tensor:
    """Return (B, A): the anchor has more than `iof_thr` of its area inside one ignore box.

    All anchors have to be looked at, so the boxes come in chunks: memory stays at B x A x 8.
    """
    ignored = gt_bboxes.new_zeros(gt_bboxes.shape[0], anchors.shape[0], dtype=torch.bool)
    boxes = torch.where(gt_ignore[..., None], gt_bboxes.float(), 0)
    for chunk in boxes.split(_FACE_CHUNK, dim=1):
        iof = bbox_overlaps(anchors[:, None], chunk[:, None], mode="iof")  # (B, A, 8)
        ignored |= (iof > iof_thr).any(dim=-1)
    return ignored


def _nearest_lines(coordinate: Tensor, strides: Tensor, num_lines: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k nearest grid lines along one axis, nearest first, ties by lowest index.

    Args:
        coordinate: (B, G) pixels.
        strides: (L,) pixels between lines.
        num_lines: (B, 1, L, 1) lines that exist.
        k: lines wanted.

    Returns:
        (B, G, L, k) indices, always inside the grid, and distances in pixels, inf where no line is left.
    """
    coordinate = coordinate[..., None, None]
    # The k nearest of an endless grid are consecutive; at a border the window slides inwards.
    first = (coordinate / strides[:, None] - k / 2).ceil().clamp(min=0)
    first = torch.minimum(first, (num_lines - k).clamp(min=0))
    line = first.long() + torch.arange(k, device=strides.device)
    distance = (line * strides[:, None] - coordinate).abs()
    distance = torch.where(line < num_lines, distance, torch.inf)
    distance, line = _sort_by_distance(distance, torch.minimum(line, num_lines - 1))
    return line, distance


def _sort_by_distance(distance: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Sort along the last dimension by (distance, index); no ties, so no sort has to be stable."""
    return _read_key(_make_key(distance, index).sort(dim=-1)[0])


def _make_key(value: Tensor, index: Tensor) -> Tensor:
    """Return int64 that order as (value, index) do; value fp32 >= 0, whose bits order as it does."""
    return (value.view(torch.int32).long() << 32) | index


def _read_key(key: Tensor) -> tuple[Tensor, Tensor]:
    return (key >> 32).int().view(torch.float32), key & _LOW_32_BITS


def _mean_plus_std(iou: Tensor, exists: Tensor) -> Tensor:
    """Return mean + unbiased standard deviation over the existing candidates, (B, G, 1)."""
    count = exists.sum(dim=-1, keepdim=True)
    mean = torch.where(exists, iou, 0).sum(dim=-1, keepdim=True) / count.clamp(min=1)
    squares = torch.where(exists, iou - mean, 0).square().sum(dim=-1, keepdim=True)
    return mean + (squares / (count - 1).clamp(min=1)).sqrt()


def _is_well_inside(centers: Tensor, faces: Tensor) -> Tensor:
    """Return whether a centre is inside its face by more than 0.1 % of the face's size."""
    margin = torch.cat((centers - faces[..., :2], faces[..., 2:] - centers), dim=-1).amin(dim=-1)
    area = (faces[..., 2] - faces[..., 0]) * (faces[..., 3] - faces[..., 1])
    return margin / area.clamp(min=1e-4).sqrt() > 0.001


def _settle_contests(candidate: Tensor, iou: Tensor, is_positive: Tensor, num_anchors: int) -> Tensor:
    """Give each claimed anchor to the face of highest IoU, ties to the lowest slot; return who wins.

    Args:
        candidate: (B, G, M) anchor indices.
        iou: (B, G, M) with the face.
        is_positive: (B, G, M), the face claims the anchor.
        num_anchors: A.
    """
    slot = torch.arange(candidate.shape[1], device=candidate.device)[:, None]
    # The complement of the slot, so that the lowest one wins a tie.
    bid = torch.where(is_positive, _make_key(iou, _LOW_32_BITS - slot), -1)
    where = candidate.flatten(1)
    best = bid.new_full((len(bid), num_anchors), -1)
    best.scatter_reduce_(1, where, bid.flatten(1), "amax")  # (B, A)
    return is_positive & (best.gather(1, where).view_as(bid) == bid)


def _most_winners(grid: AnchorGrid, num_candidates: int) -> int:
    """Return how many of a face's candidates can reach mean + standard deviation.

    If m of n values reach it, the best case being m equal values above n - m equal ones, then
    m <= n (n - 1) / (2 n - 1), less than half. Only values that are all equal all reach it. IoUs above 0 are
    all equal only if every anchor lies inside the face or around it, so not with three sizes of anchors.
    """
    areas = {width * height for level in grid.levels for width, height in level.anchor_whs}
    return num_candidates // 2 if len(areas) >= 3 else num_candidates


def _keep_winners(candidate: Tensor, wins: Tensor, num_kept: int) -> tuple[Tensor, Tensor]:
    """Return candidate and wins (B, G, num_kept), the winners first and in their order."""
    # The losers share one place past the end.
    place = torch.where(wins, wins.int().cumsum(dim=-1) - 1, num_kept)
    index = torch.arange(candidate.shape[-1], device=candidate.device).expand_as(place)
    kept = index.new_zeros(*place.shape[:-1], num_kept + 1).scatter_(-1, place, index)[..., :num_kept]
    is_winner = index[..., :num_kept] < wins.sum(dim=-1, keepdim=True)
    return candidate.gather(-1, kept), is_winner
