"""Coders: what the numbers of a head mean. Between boxes or points and the codes a network predicts for them.

`Outputs.bbox_pred` and `kps_pred` hold codes; a detector's `coder` turns them into boxes and points. Losses,
post-processing and export ask it; mmdet/deploy/runtime/coders.py decodes the same in numpy.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mmdet.core.anchors import Anchors
from mmdet.core.bbox import bbox2distance, distance2bbox, distance2kps, kps2distance
from mmdet.errors import ConfigError


class Coder(Protocol):
    """Encodes what a head should say about boxes and points, and decodes what it said.

    Boxes are (..., 4) xyxy, points (..., 2K) x0, y0, x1, ..., codes have the same shapes. The anchors are
    broadcast against them. Lengths are in the unit of the anchors.
    """

    def encode_bboxes(self, bboxes: Tensor, anchors: Anchors) -> Tensor:
        """Return the codes of boxes."""

    def decode_bboxes(self, codes: Tensor, anchors: Anchors) -> Tensor:
        """Return the boxes; they may be inverted or lie outside the image."""

    def encode_kps(self, kps: Tensor, anchors: Anchors) -> Tensor:
        """Return the codes of points."""

    def decode_kps(self, codes: Tensor, anchors: Anchors) -> Tensor:
        """Return the points."""


@dataclass(frozen=True)
class DistanceCoder:
    """Distances from the anchor's centre in strides: to left, top, right, bottom; to each point (SCRFD).

    Every method takes `dim`, the dimension that holds the coordinates of boxes, points and anchors: 0 for
    planes (4, ...), else the last.
    """

    def encode_bboxes(self, bboxes: Tensor, anchors: Anchors, max_distance: float | None = None) -> Tensor:
        """Return (..., 4) distances; `max_distance` clamps them to its range, see `bbox2distance`."""
        stride = anchors.stride
        if stride is None:
            return bbox2distance(anchors.center, bboxes, max_distance)
        return bbox2distance(anchors.center / stride, bboxes / stride, max_distance)

    def decode_bboxes(self, codes: Tensor, anchors: Anchors, dim: int = -1) -> Tensor:
        """Return the boxes; a negative distance inverts a box."""
        return distance2bbox(anchors.center, _times(codes, anchors.stride), dim=dim)

    def encode_kps(self, kps: Tensor, anchors: Anchors, dim: int = -1) -> Tensor:
        """Return the offsets of points."""
        offsets = kps2distance(anchors.center, kps, dim=dim)
        return offsets if anchors.stride is None else offsets / anchors.stride

    def decode_kps(self, codes: Tensor, anchors: Anchors) -> Tensor:
        """Return the points."""
        return distance2kps(anchors.center, _times(codes, anchors.stride))


@dataclass(frozen=True)
class PriorCoder:
    """Centre and size relative to the anchor's, divided by variances (SSD, arXiv:1512.02325, equation 2).

    A box is (dx / w, dy / h) / variances[0] and ln(width / w), ln(height / h) / variances[1], with w and h
    of the anchor; a point is its offset from the anchor's centre, coded as (dx, dy) of a box.

    Args:
        variances: for the centre and for the size.

    Differs from the reference: a box without width or height has a finite code.
    """

    variances: tuple[float, float] = (0.1, 0.2)

    def __post_init__(self) -> None:
        """Refuse variances that cannot divide."""
        if len(self.variances) != 2 or min(self.variances) <= 0:
            raise ConfigError(f"variances={self.variances} must be two numbers above 0")

    def encode_bboxes(self, bboxes: Tensor, anchors: Anchors, dim: int = -1) -> Tensor:
        """Return (..., 4): dx, dy, ln width, ln height, scaled."""
        lt, rb = bboxes.split(2, dim)
        relative = (rb - lt) / _wh(anchors)
        shift = ((lt + rb) / 2 - anchors.center) / (self.variances[0] * _wh(anchors))
        return torch.cat((shift, relative.clamp(min=1e-6).log() / self.variances[1]), dim=dim)

    def decode_bboxes(self, codes: Tensor, anchors: Anchors) -> Tensor:
        """Return the boxes; none is inverted."""
        shift, size = codes.split(2, -1)
        center = anchors.center + shift * (self.variances[0] * _wh(anchors))
        half = _wh(anchors) * (size * self.variances[1]).exp() / 2
        return torch.cat((center - half, center + half), dim=-1)

    def encode_kps(self, kps: Tensor, anchors: Anchors, dim: int = -1) -> Tensor:
        """Return the offsets of points over variances[0] and the anchor's size."""
        offsets = kps2distance(anchors.center, kps, dim=dim).unflatten(dim, (-1, 2))
        pair = dim - 1 if dim < 0 else dim
        return (offsets / (self.variances[0] * _wh(anchors)).unsqueeze(pair)).flatten(pair, pair + 1)

    def decode_kps(self, codes: Tensor, anchors: Anchors) -> Tensor:
        """Return the points."""
        size = self.variances[0] * _wh(anchors)
        size = size.repeat(*[1] * (size.dim() - 1), int(codes.shape[-1]) // 2)  # w, h, w, h, ...
        return distance2kps(anchors.center, codes * size)


CODERS: dict[str, Any] = {"DistanceCoder": DistanceCoder, "PriorCoder": PriorCoder}


def describe_coder(coder: Any) -> dict[str, Any]:
    """Return the config dict of a coder, as the description of an exported file holds it."""
    return {"type": type(coder).__name__, **asdict(coder)}


def _times(codes: Tensor, stride: Tensor | float | None) -> Tensor:
    return codes if stride is None else codes * stride


def _wh(anchors: Anchors) -> Tensor:
    assert anchors.wh is not None, "this coder needs the size of the anchors"
    return anchors.wh
