"""Boxes and keypoints as distances from an anchor centre, and how much boxes overlap.

Every function broadcasts over leading dimensions, allocates nothing larger than its result and works
in whatever unit its arguments share (pixels at test time, strides in the losses).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def distance2bbox(
    centers: Tensor, ltrb: Tensor, max_hw: Sequence[float] | None = None, dim: int = -1
) -> Tensor:
    """Return the xyxy boxes that lie `ltrb` around the centres.

    Args:
        centers: (..., 2) x, y.
        ltrb: (..., 4) distances to left, top, right, bottom. Negative ones are taken as they are, so a
            box may come out inverted.
        max_hw: clamp x to [0, w] and y to [0, h].
        dim: where the coordinates lie in all of them; 0 for planes, (2, ...) and (4, ...).
    """
    lt, rb = ltrb.split(2, dim)
    return clamp_xy(torch.cat((centers - lt, centers + rb), dim=dim), max_hw)


def bbox2distance(centers: Tensor, bboxes: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
    """Return (..., 4) distances from the centres to the sides of xyxy boxes.

    Args:
        centers: (..., 2) x, y.
        bboxes: (..., 4) xyxy.
        max_dis: clamp to [0, max_dis - eps], which the bins of the distribution focal loss need.
        eps: see max_dis.
    """
    ltrb = torch.cat((centers - bboxes[..., :2], bboxes[..., 2:] - centers), dim=-1)
    return ltrb if max_dis is None else ltrb.clamp(min=0, max=max_dis - eps)


def distance2kps(centers: Tensor, offsets: Tensor, max_hw: Sequence[float] | None = None) -> Tensor:
    """Return the (..., 2K) points x0, y0, x1, ... that lie `offsets` (..., 2K) from the centres (..., 2)."""
    repeated = centers.repeat(*[1] * (centers.dim() - 1), int(offsets.shape[-1]) // 2)  # x, y, x, y, ...
    return clamp_xy(offsets + repeated, max_hw)


def kps2distance(
    centers: Tensor, kps: Tensor, max_dis: float | None = None, eps: float = 0.1, dim: int = -1
) -> Tensor:
    """Return (..., 2K) offsets of points x0, y0, x1, ... (..., 2K) from the centres (..., 2).

    `max_dis` clamps to [0, max_dis - eps], as in `bbox2distance`; `dim` as in `distance2bbox`.
    """
    pair = dim - 1 if dim < 0 else dim
    offsets = (kps.unflatten(dim, (-1, 2)) - centers.unsqueeze(pair)).flatten(pair, pair + 1)
    return offsets if max_dis is None else offsets.clamp(min=0, max=max_dis - eps)


def bbox_overlaps(a: Tensor, b: Tensor, mode: str = "iou", eps: float = 1e-6) -> Tensor:
    """Return the overlap of boxes `a` with boxes `b`, element by element.

    Args:
        a: (..., 4) xyxy.
        b: (..., 4) xyxy, broadcast against `a`.
        mode: "iou"; "iof", intersection over the area of `a`; or "giou" (arXiv:1902.09630).
        eps: smallest denominator. An inverted or zero-size box therefore has IoU 0.
    """
    num_dims = max(a.dim(), b.dim())  # equal, before the coordinates become the first one
    a, b = (v[(None,) * (num_dims - v.dim())] for v in (a, b))
    (low_a, high_a), (low_b, high_b) = split_corners(a), split_corners(b)
    area_a, area_b = area_of(high_a - low_a), area_of(high_b - low_b)
    inter = area_of((torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0))
    if mode == "iof":
        return inter / area_a.clamp(min=eps)
    union = (area_a + area_b - inter).clamp(min=eps)
    iou = inter / union
    if mode == "iou":
        return iou
    if mode == "giou":
        hull_wh = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).clamp(min=0)
        hull = area_of(hull_wh).clamp(min=eps)
        return iou - (hull - union) / hull
    raise ValueError(f"mode {mode!r} is not one of iou, iof, giou")


class BboxPair:
    """Aligned boxes, and what measures of their overlap share: computed once, also for several measures.

    Args:
        pred: (..., 4) xyxy, with gradients; may be inverted.
        target: (..., 4) xyxy.

    Attributes:
        inter, area, target_area: (...); the area of an inverted box is a product of negative numbers, too.
    """

    def __init__(self, pred: Tensor, target: Tensor):
        self.pred, self.target = pred, target
        (low, high), (target_low, target_high) = split_corners(pred), split_corners(target)
        self.inter = area_of((torch.minimum(high, target_high) - torch.maximum(low, target_low)).relu())
        self.area, self.target_area = area_of(high - low), area_of(target_high - target_low)

    def iou(self, eps: float = 1e-6) -> Tensor:
        """Return the IoU as `bbox_overlaps` does, not differentiated."""
        with torch.no_grad():
            return self.inter / (self.area + self.target_area - self.inter).clamp(min=eps)


def split_corners(bboxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners (2, ...) x, y of boxes (..., 4): operators then take both axes at once."""
    return bboxes.movedim(-1, 0).split(2)  # type: ignore[return-value]


def area_of(wh: Tensor) -> Tensor:
    """Return (...) of widths and heights (2, ...)."""
    width, height = wh.unbind(0)
    return width * height


def overlaps_of_sides(a: Sequence[Tensor], b: Sequence[Tensor], eps: float = 1e-6) -> Tensor:
    """Return the IoU as `bbox_overlaps` does; a box is 4 tensors: left, top, right, bottom."""
    a_left, a_top, a_right, a_bottom = a
    b_left, b_top, b_right, b_bottom = b
    inter_w = torch.minimum(a_right, b_right) - torch.maximum(a_left, b_left)
    inter_h = torch.minimum(a_bottom, b_bottom) - torch.maximum(a_top, b_top)
    inter = inter_w.clamp(min=0) * inter_h.clamp(min=0)
    area_a, area_b = (a_right - a_left) * (a_bottom - a_top), (b_right - b_left) * (b_bottom - b_top)
    return inter / (area_a + area_b - inter).clamp(min=eps)


def pairwise_overlaps(a: Tensor, b: Tensor, mode: str = "iou", eps: float = 1e-6) -> Tensor:
    """Return the (..., n, m) overlaps of all boxes a (..., n, 4) with all boxes b (..., m, 4)."""
    return bbox_overlaps(a[..., :, None, :], b[..., None, :, :], mode, eps)


def clamp_xy(xy: Tensor, max_hw: Sequence[float] | None) -> Tensor:
    """Return (..., 2n) interleaved x, y clamped to [0, w] and [0, h]; max_hw None: as they are."""
    if max_hw is None:
        return xy
    height, width = max_hw
    pairs = xy.unflatten(-1, (-1, 2))
    clamped = (pairs[..., 0].clamp(0, width), pairs[..., 1].clamp(0, height))
    return torch.stack(clamped, dim=-1).flatten(-2)
