"""Network output to faces, in numpy and with the reference runtime's conventions.

They are not those of the evaluation (mmdet/core): a score equal to the threshold counts, boxes are not
clamped to the picture, and a box that ends at pixel x includes that pixel (the "+1" in areas and overlaps).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmdet.deploy.runtime.coders import AnchorArrays, Decoder


@dataclass(frozen=True)
class Faces:
    """What was found in one picture; n faces, K keypoints.

    Attributes:
        bboxes: (n, 5) float32 x1, y1, x2, y2, score in pixels of the picture, best first (or largest
            first, if only the `max_num` largest were asked for).
        kps: (n, K, 2) float32, or None if the model has no keypoints.
        labels: (n,) int64 class index.
    """

    bboxes: np.ndarray
    kps: np.ndarray | None
    labels: np.ndarray

    def __len__(self) -> int:
        """Return n."""
        return len(self.bboxes)

    def take(self, index: np.ndarray) -> "Faces":
        """Return the faces `index` chooses, in its order."""
        return Faces(self.bboxes[index], None if self.kps is None else self.kps[index], self.labels[index])

    def scaled(self, scale: float, shift: tuple[float, float] = (0.0, 0.0)) -> "Faces":
        """Return the faces in pixels of the picture, given the factor from picture to network input.

        Args:
            scale: the factor.
            shift: x and y, in the picture, of what the network has seen.
        """
        step = np.array(shift, np.float32)
        bboxes = self.bboxes.copy()
        bboxes[:, :4] = bboxes[:, :4] / scale + np.tile(step, 2)
        kps = None if self.kps is None else self.kps / np.float32(scale) + step
        return Faces(bboxes, kps, self.labels)


@lru_cache(maxsize=100)
def level_anchors(
    height: int,
    width: int,
    stride: int,
    num_anchors: int,
    whs: tuple[tuple[float, float], ...] = (),
    center_offset: float = 0.0,
) -> AnchorArrays:
    """Return the anchors of a level, those of a cell one after another, cells row by row; do not change them.

    The centres of row i, column j are at ((j + center_offset) * stride, (i + center_offset) * stride); `whs`
    are the sizes of the anchors of a cell, if known.
    """
    y, x = np.mgrid[:height, :width]
    centers = (np.stack((x, y), axis=-1).astype(np.float32) + np.float32(center_offset)) * stride
    centers = np.repeat(centers.reshape(-1, 2), num_anchors, axis=0)
    centers.setflags(write=False)
    wh = np.tile(np.array(whs, np.float32), (height * width, 1)) if whs else None
    return AnchorArrays(centers, stride, wh)


def decode_level(
    scores: np.ndarray,
    bbox: np.ndarray,
    kps: np.ndarray | None,
    anchors: AnchorArrays,
    decoder: Decoder,
    score_thr: float,
) -> tuple[np.ndarray, Faces]:
    """Decode what one level says about N images, where the score is at least `score_thr`.

    Args:
        scores: (N, A, C), probabilities.
        bbox: (N, A, 4) codes.
        kps: (N, A, 2K) codes, or None.
        anchors: the A anchors of the level.
        decoder: what the codes mean.
        score_thr: lowest score.

    Returns:
        The picture each face belongs to, (m,), and the faces in pixels of the network input.
    """
    image, anchor, label = np.nonzero(scores >= score_thr)
    anchors = anchors.take(anchor)
    bboxes = decoder.bboxes(bbox[image, anchor], anchors)
    rows = np.concatenate((bboxes, scores[image, anchor, label, None]), axis=1)
    points = None if kps is None else decoder.kps(kps[image, anchor], anchors)
    return image, Faces(rows.astype(np.float32, copy=False), points, label)


def largest_sides(bbox: np.ndarray, anchors: AnchorArrays, decoder: Decoder) -> np.ndarray:
    """Return the longest side (N,) of all boxes of a level, however low they score; see `decode_level`."""
    bboxes = decoder.bboxes(bbox, anchors)
    return (bboxes[..., 2:] - bboxes[..., :2]).max(axis=(1, 2))


def concatenate(parts: Sequence[Faces]) -> Faces:
    """Return the faces of all parts, in order."""
    kps = None if parts[0].kps is None else np.concatenate([part.kps for part in parts])  # type: ignore[misc]
    return Faces(
        np.concatenate([part.bboxes for part in parts]), kps, np.concatenate([part.labels for part in parts])
    )


def suppress(found: Faces, iou_thr: float) -> Faces:
    """Return the faces best first, without those that overlap a better one of their class too much."""
    order = np.argsort(found.bboxes[:, 4], kind="stable")[::-1]  # equal scores: the later one first
    kept = [order[:0]]
    for label in np.unique(found.labels):
        of_class = order[found.labels[order] == label]
        kept.append(of_class[nms(found.bboxes[of_class, :4], iou_thr)])
    keep = np.zeros(len(order), dtype=bool)
    keep[np.concatenate(kept)] = True
    return found.take(order[keep[order]])


def nms(bboxes: np.ndarray, iou_thr: float) -> np.ndarray:
    """Return the indices of the boxes to keep, (k,) int64.

    Args:
        bboxes: (n, 4) xyxy, best first; the pixel at x2, y2 belongs to the box.
        iou_thr: a box goes if its overlap with a kept one is larger.
    """
    x1, y1, x2, y2 = bboxes.T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    left, kept = np.arange(len(bboxes)), []
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(best)
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        left = rest[inter / (areas[best] + areas[rest] - inter) <= iou_thr]
    return np.array(kept, dtype=np.int64)


def keep_largest(found: Faces, max_num: int, metric: str, image_hw: tuple[int, int]) -> Faces:
    """Return the `max_num` most important faces, most important first; all of them if there are no more.

    Args:
        found: of one picture.
        max_num: 0 for all.
        metric: "max": the area of the box; else the area less twice the squared distance of its centre from
            the picture's.
        image_hw: size of the picture.
    """
    if not 0 < max_num < len(found):
        return found
    x1, y1, x2, y2 = found.bboxes[:, :4].T
    value = (x2 - x1) * (y2 - y1)
    if metric != "max":
        height, width = image_hw
        value = value - 2 * (((x1 + x2) / 2 - width // 2) ** 2 + ((y1 + y2) / 2 - height // 2) ** 2)
    return found.take(np.argsort(value)[::-1][:max_num])
