"""Anchors that learn nothing, whatever the assigner: beyond the image's valid part, or in an ignore region.

Letters: B images, A anchors of all levels; fixed shapes.
"""

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.bbox import bbox_overlaps

FACE_CHUNK = 8  # boxes compared with all anchors at once


def find_ignored(
    grid: AnchorGrid, gt_bboxes: Tensor, gt_ignore: Tensor, valid_hw: Tensor, iof_thr: float
) -> Tensor:
    """Return (B, A): centred beyond valid_hw, or, with iof_thr > 0, inside an ignore region."""
    x, y = grid.centers.unbind(-1)
    valid_h, valid_w = valid_hw.float()[..., None].unbind(1)
    is_ignored = (y >= valid_h) | (x >= valid_w)
    if iof_thr > 0:
        is_ignored |= is_in_ignore_region(grid.bboxes, gt_bboxes, gt_ignore, iof_thr)
    return is_ignored


def is_in_ignore_region(anchors: Tensor, gt_bboxes: Tensor, gt_ignore: Tensor, iof_thr: float) -> Tensor:
    """Return (B, A): the anchor has more than `iof_thr` of its area inside one ignore box.

    All anchors have to be looked at, so the boxes come in chunks: memory stays at B x A x 8.
    """
    ignored = gt_bboxes.new_zeros(gt_bboxes.shape[0], anchors.shape[0], dtype=torch.bool)
    boxes = torch.where(gt_ignore[..., None], gt_bboxes.float(), 0)
    for chunk in boxes.split(FACE_CHUNK, dim=1):
        iof = bbox_overlaps(anchors[:, None], chunk[:, None], mode="iof")  # (B, A, 8)
        ignored |= (iof > iof_thr).any(dim=-1)
    return ignored
