"""Faces that no anchor would learn: too small to hold the centre of a cell, or beaten by another face.

Their anchors are trained as background: with WIDER FACE's crops one face in five, nearly all below 8 px.
Letters as in atss.py; fixed shapes.
"""

import torch
from torch import Tensor


def claim_nearest(
    is_positive: Tensor, exists: Tensor, sides: tuple[Tensor, ...], min_face_px: float
) -> Tensor:
    """Let each face without a claim claim its first candidate, the nearest anchor of the finest level.

    Args:
        is_positive: (M, B, G), the face claims the candidate.
        exists: (M, B, G), the candidate is an anchor, and the slot a face.
        sides: left, top, right and bottom of the faces, (B, G) each.
        min_face_px: faces whose sqrt(width * height) is below it claim nothing.
    """
    left, top, right, bottom = sides
    is_large = (right - left) * (bottom - top) >= min_face_px**2
    claims = is_large & exists[0] & ~is_positive.any(dim=0)
    return torch.cat((is_positive[:1] | claims, is_positive[1:]))


def anchors_to_spare(
    anchor: Tensor, exists: Tensor, wins: Tensor, candidate: Tensor, num_anchors: int
) -> Tensor:
    """Return (B, A): nearest anchors of faces that won none, which are no other face's; not to be background.

    Args:
        anchor: (N, B, G) int64, the anchors of each face's nearest cell.
        exists: (N, B, G), the anchor exists, and the slot is a face.
        wins: (M, B, G), the face learns at the candidate.
        candidate: (M, B, G) int64, anchors.
        num_anchors: A.
    """
    is_spared = exists & ~wins.any(dim=0)
    return _by_anchor(anchor, is_spared, num_anchors) & ~_by_anchor(candidate, wins, num_anchors)


def _by_anchor(anchor: Tensor, mask: Tensor, num_anchors: int) -> Tensor:
    """Return (B, A), whether any of (M, B, G) masks is true at the anchor."""
    anchor, mask = (v.movedim(1, 0).flatten(1) for v in (anchor, mask))
    zeros = torch.zeros(len(anchor), num_anchors, device=anchor.device)
    return zeros.scatter_add_(1, anchor, mask.float()) > 0
