"""What the numbers of an exported head mean: the decoding half of mmdet/core/coders.py, in numpy.

Boxes are (..., 4) xyxy and points (..., 2K) x0, y0, x1, ..., float32 in the unit of the anchors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mmdet.config.table import build_from


class AnchorArrays(NamedTuple):
    """Some anchors, in pixels.

    Attributes:
        center: (..., 2) x, y.
        stride: pixels per cell of their level.
        wh: (..., 2) width and height; None for a file that does not say them.
    """

    center: np.ndarray
    stride: float
    wh: np.ndarray | None

    def take(self, index: np.ndarray) -> "AnchorArrays":
        """Return the anchors that index (n,) chooses."""
        return AnchorArrays(self.center[index], self.stride, None if self.wh is None else self.wh[index])


@dataclass(frozen=True)
class DistanceDecoder:
    """Decodes what `mmdet.core.coders.DistanceCoder` encodes.

    Attributes:
        formula: the same in words, for the description of a file.
    """

    formula = (
        "bbox: x1 = cx - l * stride, y1 = cy - t * stride, x2 = cx + r * stride, y2 = cy + b * stride. "
        "kps: x = cx + dx * stride, y = cy + dy * stride."
    )

    def bboxes(self, codes: np.ndarray, anchors: AnchorArrays) -> np.ndarray:
        """Return (..., 4) xyxy of distances (..., 4) from the centre to left, top, right, bottom."""
        ltrb = codes * anchors.stride
        return np.concatenate((anchors.center - ltrb[..., :2], anchors.center + ltrb[..., 2:]), axis=-1)

    def kps(self, codes: np.ndarray, anchors: AnchorArrays) -> np.ndarray:
        """Return (..., K, 2) points of offsets (..., 2K)."""
        return anchors.center[..., None, :] + _pairs(codes) * anchors.stride


@dataclass(frozen=True)
class PriorDecoder:
    """Decodes what `mmdet.core.coders.PriorCoder` encodes."""

    formula = (
        "w, h are the anchor's. bbox dx, dy, dw, dh: centre (cx + dx * variances[0] * w, cy + dy * "
        "variances[0] * h), width w * exp(dw * variances[1]), height h * exp(dh * variances[1]). "
        "kps: x = cx + dx * variances[0] * w, y = cy + dy * variances[0] * h."
    )

    variances: tuple[float, float] = (0.1, 0.2)

    def bboxes(self, codes: np.ndarray, anchors: AnchorArrays) -> np.ndarray:
        """Return (..., 4) xyxy of shifts and logarithms of sizes."""
        wh = _wh(anchors)
        center = anchors.center + codes[..., :2] * (self.variances[0] * wh)
        half = wh * np.exp(codes[..., 2:] * self.variances[1]) / 2
        return np.concatenate((center - half, center + half), axis=-1)

    def kps(self, codes: np.ndarray, anchors: AnchorArrays) -> np.ndarray:
        """Return (..., K, 2) points of shifts (..., 2K)."""
        return anchors.center[..., None, :] + _pairs(codes) * (self.variances[0] * _wh(anchors))[..., None, :]


Decoder = DistanceDecoder | PriorDecoder
DECODERS = {"DistanceCoder": DistanceDecoder, "PriorCoder": PriorDecoder}


def make_decoder(coder: Mapping[str, Any]) -> Decoder:
    """Return the decoder of a coder that a description names.

    Raises:
        ConfigError: it is not known here, or its numbers do not fit.
    """
    return build_from(DECODERS, coder, "coder")


def _wh(anchors: AnchorArrays) -> np.ndarray:
    assert anchors.wh is not None, "a description with this coder holds the sizes of the anchors"
    return anchors.wh


def _pairs(codes: np.ndarray) -> np.ndarray:
    return codes.reshape(*codes.shape[:-1], codes.shape[-1] // 2, 2)
