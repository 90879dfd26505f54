"""MultiBoxAssigner: every anchor that overlaps a face enough learns it (SSD, RetinaFace).

The rule compares all anchors with all faces. Here a face looks only at the anchors around its centre that
can reach the threshold at all, a set that depends on the anchors alone: 719 of 16,800 at 640 pixels. Of these
only the pairs (anchor, face) that count are kept, some twenty per face. How many depends on the faces: this
belongs where batches are made (`data.assign_ahead`); on a device it makes the host wait.

Letters: n faces of all images, M anchors around a face, N pairs, R positives of all images.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.assigners.ignored import find_ignored
from mmdet.core.assigners.window import window
from mmdet.core.structures import Assignment
from mmdet.errors import ConfigError

_FORCED_IOU = 2.0  # of a face's best anchor: above every other
_LEAST_IOU = 1e-30  # above 0, below every overlap
_SHORTEST_LIST = 256


class MultiBoxAssignment(Assignment):
    """Also lists the positives of all images, filled up to R, a power of two: few shapes occur.

    Attributes:
        num_slots: G.
        anchor: (R,) int64.
        row: (R,) int64, the anchor's row in (B * A, ...).
        gt_row: (R,) int64, the face's row in (B * G, ...).
        exists: (R,) float32, 0 where the list is filled up; the entry is then anchor 0 and face 0 of image 0.
        num_positives: (B,) float32.
        num_free: (B,) float32, anchors that are neither positive nor ignored.
    """

    def __init__(self, num_slots: int, is_positive: Tensor, is_ignored: Tensor, *lists: Tensor):
        self.num_slots = num_slots
        self.is_positive, self.is_ignored = is_positive, is_ignored
        self.anchor, self.row, self.gt_row, self.exists, self.num_positives, self.num_free = lists

    def map(self, change: Callable[[Tensor], Tensor]) -> "MultiBoxAssignment":
        """Return the assignment with every tensor replaced."""
        lists = (self.anchor, self.row, self.gt_row, self.exists, self.num_positives, self.num_free)
        return MultiBoxAssignment(self.num_slots, *map(change, (self.is_positive, self.is_ignored, *lists)))

    @cached_property
    def gt_index(self) -> Tensor:  # type: ignore[override]
        """(B, A) int64 in [0, G), meaningful where is_positive."""
        slot = self.gt_row % self.num_slots * self.exists.long()
        return self.is_positive.long().flatten().mul(0).index_add(0, self.row, slot).view_as(self.is_positive)


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
    ) -> MultiBoxAssignment:
        """Assign the anchors of a batch; see `Assigner` for the arguments."""
        is_ignored = find_ignored(grid, gt_bboxes, gt_ignore, valid_hw, self.ignore_iof_thr)
        is_face = gt_valid & (gt_bboxes[..., 2:] > gt_bboxes[..., :2]).all(dim=-1)
        image, slot = is_face.nonzero().unbind(-1)
        pairs = _find_pairs(grid, gt_bboxes.float()[image, slot], valid_hw[image], self.pos_iou_thr)
        best_iou, best_anchor = pairs.best(len(image), grid.num_anchors)
        is_matched = (best_iou > 0) & (best_iou >= self.min_pos_iou)

        first_row = image * grid.num_anchors
        best = _Bids(first_row + best_anchor, slot, torch.full_like(best_iou, _FORCED_IOU))
        others = _Bids(first_row[pairs.face] + pairs.anchor, slot[pairs.face], pairs.iou)
        bids = best.where(is_matched).and_also(others.where(pairs.iou >= self.pos_iou_thr))
        is_wanted, owner = bids.settle(is_ignored.numel(), claims=best.where(best_iou > 0))
        may_learn = ~is_ignored
        may_learn &= torch.zeros_like(gt_valid[:, :1]).index_fill_(0, image[is_matched], True)
        return _list_positives(
            is_wanted.view_as(is_ignored) & may_learn, is_ignored, owner, gt_valid.shape[1]
        )


class _Bids(NamedTuple):
    """Faces, by slot, that want anchors, by row of (B * A, ...), and their IoU; (N,) each."""

    row: Tensor
    slot: Tensor
    iou: Tensor

    def where(self, mask: Tensor) -> "_Bids":
        """Return those of a mask (N,)."""
        return _Bids(*(values[mask] for values in self))

    def and_also(self, other: "_Bids") -> "_Bids":
        """Return both."""
        return _Bids(*map(torch.cat, zip(self, other, strict=True)))

    def settle(self, num_rows: int, claims: "_Bids") -> tuple[Tensor, Tensor]:
        """Return (rows,) bool, whether some face wants the anchor, and (rows,) int64, the slot that has it.

        That is the highest slot of the claims; without one that of the highest IoU, of equal ones the lowest.
        """
        highest = self.iou.new_zeros(num_rows).scatter_reduce_(0, self.row, self.iou, "amax")
        winners = self.where(self.iou == highest[self.row])
        owner = self.slot.new_full((num_rows,), torch.iinfo(torch.int64).max)
        owner.scatter_reduce_(0, winners.row, winners.slot, "amin")
        owner.index_fill_(0, claims.row, -1).scatter_reduce_(0, claims.row, claims.slot, "amax")
        return highest > 0, owner


def _list_positives(
    is_positive: Tensor, is_ignored: Tensor, owner: Tensor, num_slots: int
) -> MultiBoxAssignment:
    """Return the assignment, given disjoint masks (B, A) and the slot (B * A,) that has each positive."""
    num_images, num_anchors = is_positive.shape
    row = is_positive.flatten().nonzero()[:, 0]
    image = row // num_anchors
    lists = (row % num_anchors, row, owner[row] + image * num_slots, torch.ones_like(row).float())
    length = max(_SHORTEST_LIST, 1 << (len(row) - 1).bit_length())
    num_positives = image.bincount(minlength=num_images)
    num_free = num_anchors - num_positives - is_ignored.sum(dim=1)
    return MultiBoxAssignment(
        num_slots,
        is_positive,
        is_ignored,
        *(F.pad(values, (0, length - len(row))) for values in lists),
        num_positives.float(),
        num_free.float(),
    )


class _Pairs(NamedTuple):
    """Pairs of an anchor and a face, both (N,) int64 indices, and their (N,) IoU."""

    anchor: Tensor
    face: Tensor
    iou: Tensor

    def best(self, num_faces: int, num_anchors: int) -> tuple[Tensor, Tensor]:
        """Return the highest IoU (n,) of each face, 0 without a pair, and the lowest anchor (n,) with it."""
        iou = self.iou.new_zeros(num_faces).scatter_reduce_(0, self.face, self.iou, "amax")
        is_best = self.iou == iou[self.face]
        anchor = self.anchor.new_full((num_faces,), num_anchors)
        return iou, anchor.scatter_reduce_(0, self.face[is_best], self.anchor[is_best], "amin")


def _find_pairs(grid: AnchorGrid, bboxes: Tensor, valid_hw: Tensor, iou_thr: float) -> _Pairs:
    """Return the pairs that reach the threshold, and the best ones of each face.

    Args:
        grid: the anchors.
        bboxes: (n, 4) xyxy faces with an area.
        valid_hw: (n, 2) of their samples.
        iou_thr: see above.
    """
    left, top, right, bottom = bboxes.t().contiguous()
    around = window(grid.levels, grid.center_offset, iou_thr, str(bboxes.device))
    column, overlap_x = around.columns.overlap(valid_hw[:, 1], left, right)
    row, overlap_y = around.rows.overlap(valid_hw[:, 0], top, bottom)
    inter = overlap_x.index_select(0, around.column).mul_(overlap_y.index_select(0, around.row))  # (M, n)
    iou = inter / (around.area + (right - left) * (bottom - top) - inter)
    place, face = (iou >= iou.amax(dim=0).clamp(_LEAST_IOU, iou_thr)).nonzero().unbind(-1)
    cell = row[around.row[place], face] * around.level_width[place] + column[around.column[place], face]
    return _Pairs(cell * grid.num_anchors_per_cell + around.first_anchor[place], face, iou[place, face])
