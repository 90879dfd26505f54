"""Positive anchors that follow the network's predictions (task alignment, arXiv:2108.07755, section 3.2).

Which anchors a face may learn is geometry, and decided in the loader as ATSS is; which of them it learns
is decided beside the loss, by elementwise operators on (M, B, G) tensors. Letters as in atss.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.assigners.atss import (
    ATSSAssignment,
    check_centered,
    is_well_inside,
    nearest_anchors,
    settle_contests,
)
from mmdet.core.assigners.ignored import find_ignored
from mmdet.core.assigners.unassigned import anchors_to_spare, claim_nearest
from mmdet.core.bbox import overlaps_of_sides
from mmdet.errors import ConfigError


class AllowedAnchors(ATSSAssignment):
    """Anchors that faces may learn: `candidate_wins` is true for all of them, M candidates per face.

    Attributes:
        anchor_iou: (M, B, G) float32, IoU of the anchor with the face.
    """

    anchor_iou: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "AllowedAnchors":
        """Return the same with every tensor replaced."""
        lists = (self.candidate_anchor, self.candidate_wins, self.candidate_row)
        changed = AllowedAnchors(*map(change, (self.is_ignored, *lists, self.num_samples)))
        changed.anchor_iou = change(self.anchor_iou)
        return changed


class TaskAlignedAssigner:
    """Choose for each face the `topk` allowed anchors that do best at it already.

    Allowed are, of the `num_candidates` nearest anchors of each level, those whose centre lies inside the
    face; where there is none, the nearest one. An anchor that two faces may learn is kept for the one of
    higher anchor IoU. How well an anchor does is score^alpha * IoU^beta, with the score of the face's class
    and the IoU of the predicted box.

    Args:
        topk: most positives per face.
        num_candidates: nearest anchors per level.
        alpha, beta: see above.
        prior: the IoU counts as at least this share of the anchor's own, so that a network that predicts
            nothing yet learns where anchors fit, as ATSS does. As boxes get better it loses its effect.
        min_face_px: smallest face, sqrt(width * height), that gets its nearest anchor; None: no face does.
        ignore_unassigned: the anchors of the nearest cell of a face that may learn none are not background.

    Ties go to the finer level, then the nearer anchor, so the result does not depend on the device.
    Differs from the paper: faces share no anchor even before they choose, since settling contests by
    predictions takes a scatter with maximum, which runs on the host of an Ascend machine; class targets stay
    the IoU (quality focal loss) instead of the normalised alignment.
    """

    needs_predictions = False  # to say which anchors are allowed

    def __init__(
        self,
        *,
        topk: int = 9,
        num_candidates: int = 9,
        alpha: float = 1.0,
        beta: float = 6.0,
        prior: float = 0.5,
        min_face_px: float | None = 4.0,
        ignore_unassigned: bool = True,
    ):
        if not 1 <= topk or not 1 <= num_candidates:
            raise ConfigError(
                f"TaskAlignedAssigner: topk = {topk}, num_candidates = {num_candidates}: at least 1"
            )
        if min(alpha, beta) < 0 or not 0 < prior <= 1 or (min_face_px is not None and min_face_px <= 0):
            raise ConfigError(
                f"TaskAlignedAssigner: alpha = {alpha} and beta = {beta} must be at least 0, prior = {prior} "
                f"above 0 and at most 1, min_face_px = {min_face_px} above 0 or None"
            )
        self.topk, self.num_candidates = topk, num_candidates
        self.alpha, self.beta, self.prior = alpha, beta, prior
        self.min_face_px, self.ignore_unassigned = min_face_px, ignore_unassigned

    @torch.no_grad()
    def __call__(
        self, grid: AnchorGrid, gt_bboxes: Tensor, gt_valid: Tensor, gt_ignore: Tensor, valid_hw: Tensor
    ) -> AllowedAnchors:
        """Return which anchors each face may learn; arguments as of every assigner (base.py)."""
        check_centered(grid, "TaskAlignedAssigner")
        faces = torch.where(gt_valid[..., None], gt_bboxes.float(), 0)
        is_ignored = find_ignored(grid, gt_bboxes, gt_ignore, valid_hw, -1)
        found = nearest_anchors(grid, faces, valid_hw, self.num_candidates)
        sides = faces.movedim(-1, 0).contiguous().unbind(0)  # 4 of (B, G)
        exists = found.exists & gt_valid
        may_learn = exists & is_well_inside(found.x, found.y, sides)
        if self.min_face_px is not None:
            may_learn = claim_nearest(may_learn, exists, sides, self.min_face_px)
        iou = overlaps_of_sides(found.sides, sides)  # (M, B, G)
        allowed = settle_contests(found.anchor, iou, may_learn, grid.num_anchors)
        if self.ignore_unassigned:
            cell = slice(0, min(grid.num_anchors_per_cell, self.num_candidates))
            is_ignored |= anchors_to_spare(
                found.anchor[cell], exists[cell], allowed, found.anchor, grid.num_anchors
            )
        made = AllowedAnchors(is_ignored, found.anchor, allowed)
        made.anchor_iou = iou
        return made

    @torch.no_grad()
    def follow(self, allowed: AllowedAnchors, score: Tensor, iou: Tensor) -> ATSSAssignment:
        """Choose among the allowed anchors by what the network says; no host sync, no sort.

        Args:
            allowed: of `__call__`.
            score: (M, B, G) float32 in [0, 1], of the face's class at the candidate.
            iou: (M, B, G) float32, of the candidate's predicted box with the face.
        """
        fit = torch.maximum(iou, self.prior * allowed.anchor_iou)
        alignment = torch.where(allowed.candidate_wins, score.pow(self.alpha) * fit.pow(self.beta), -1.0)
        number = torch.arange(len(alignment), device=alignment.device)
        is_earlier = (number[:, None] > number)[
            ..., None, None
        ]  # (M, M, 1, 1): the second is before the first
        here, other = alignment[:, None], alignment[None]
        is_better = (other > here) | ((other == here) & is_earlier)  # (M, M, B, G)
        wins = allowed.candidate_wins & (is_better.float().sum(dim=1) < self.topk)
        return ATSSAssignment(
            allowed.is_ignored, allowed.candidate_anchor, wins, candidate_row=allowed.candidate_row
        )
