"""RandomAffine: crop, zoom, rotation and resize in one pass over the pixels.

A map is a (2, 3) float64 matrix from image pixels to pixels of the result, coordinates continuous: pixel i
covers [i, i + 1), as for Resize.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.datasets.transforms.crop import FILL_VALUE
from mmdet.datasets.transforms.geometric import single_scale
from mmdet.errors import ConfigError

NUM_POSITIONS = 32  # of a patch, drawn at once
JITTER = 0.4  # where no position shows a face, its centre lies within this share of the patch from the middle


class RandomAffine(Transform):
    """Show a turned square of the image, with the centre of at least one face in it, at `img_scale`.

    The patch lies inside the image, or around it where it is larger, as RandomSquareCrop's; outside the image
    are 128s. Faces whose centre it holds are kept.

    Args:
        img_scale: (width, height) of the result.
        crop_ratio_range: (low, high) of the patch's side in shorter image sides, drawn log-uniformly.
        degrees: most rotation, either way.
        face_px: (low, high), with probability `face_prob` a face is drawn and the ratio is such that the face
            has a side from this range in the result, drawn log-uniformly, where crop_ratio_range allows it.
        face_prob: see face_px.
        bbox_clip_border: clip boxes to the patch. Keypoints are never clipped: they stay where they are.

    A turned box is the box of the turned ellipse that the box holds, which for a face is closer than that of
    the turned corners; without rotation it is the box itself.
    """

    def __init__(
        self,
        *,
        img_scale: Sequence,
        crop_ratio_range: tuple[float, float] = (0.3, 2.0),
        degrees: float = 0.0,
        face_px: tuple[float, float] | None = None,
        face_prob: float = 0.5,
        bbox_clip_border: bool = True,
    ) -> None:
        self.size_wh = single_scale(img_scale, "RandomAffine.img_scale")
        for name, limits in (("crop_ratio_range", crop_ratio_range), ("face_px", face_px)):
            if limits is not None and not 0 < limits[0] <= limits[1]:
                raise ConfigError(f"RandomAffine.{name} = {limits}: expected 0 < low <= high")
        if not 0 <= face_prob <= 1 or not 0 <= degrees <= 180:
            raise ConfigError(
                f"RandomAffine: face_prob = {face_prob} (0 to 1), degrees = {degrees} (0 to 180)"
            )
        self.crop_ratio_range, self.degrees = crop_ratio_range, degrees
        self.face_px, self.face_prob = face_px, face_prob
        self.bbox_clip_border = bbox_clip_border

    def draw(self, rng: np.random.RandomState, sample: Sample) -> np.ndarray:
        """Return the map."""
        return self.draw_map(rng, sample, self.size_wh)

    def draw_map(self, rng: np.random.RandomState, sample: Sample, size_wh: tuple[int, int]) -> np.ndarray:
        """Return a map to a result of any size; as many numbers are drawn in every case."""
        height, width = sample.image.shape[:2]
        bboxes = sample.gt_bboxes.astype(np.float64)
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        ratio, target_px = (
            _log_uniform(rng, limits) for limits in (self.crop_ratio_range, self.face_px or (1, 1))
        )
        follows_face, place = rng.uniform(size=2)
        corners = rng.uniform(size=(NUM_POSITIONS, 2))
        face = int(place * len(bboxes))

        result_px, shorter = math.sqrt(size_wh[0] * size_wh[1]), min(height, width)
        wanted = np.arange(len(bboxes))
        if self.face_px and follows_face < self.face_prob and len(bboxes):
            side = math.sqrt(max(float(np.prod(bboxes[face, 2:] - bboxes[face, :2])), 1e-6))
            ratio = float(np.clip(side * result_px / target_px / shorter, *self.crop_ratio_range))
            wanted = wanted[face : face + 1]
        zoom = result_px / (ratio * shorter)

        half = np.array(size_wh) / 2 / zoom  # of the patch, image pixels
        room = np.array((width, height)) - half
        centers = np.minimum(half, room) + corners * np.abs(room - half)  # (NUM_POSITIONS, 2)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        offsets = (centers_of(bboxes[wanted])[:, None] - centers) @ turn.T  # (n, NUM_POSITIONS, 2)
        shows_face = (np.abs(offsets) < half).all(-1).any(0)
        center = centers[int(shows_face.argmax())]
        if len(bboxes) and not shows_face.any():
            center = centers_of(bboxes[face]) + (corners[0] * 2 - 1) * JITTER * half @ turn
        linear = zoom * turn
        return np.column_stack([linear, np.array(size_wh) / 2 - linear @ center])

    def apply(self, sample: Sample, params: np.ndarray) -> Sample:  # type: ignore[override]
        """Return what the map shows, in the number type of the pixels."""
        image = np.empty((self.size_wh[1], self.size_wh[0], 3), sample.image.dtype)
        warp(sample.image, params, image)
        return sample.replace(image=image, **move_labels(sample, params, self.size_wh, self.bbox_clip_border))


def warp(image: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """Write into `out` (H, W, 3), which may be a part of a larger array, what the map shows of an image."""
    by_index = matrix.copy()  # OpenCV counts from the middle of the first pixel
    by_index[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    size_wh = (out.shape[1], out.shape[0])
    image = np.ascontiguousarray(image, out.dtype)
    fill = (FILL_VALUE,) * 3
    out[:] = cv2.warpAffine(image, by_index, size_wh, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)


def move_labels(
    sample: Sample, matrix: np.ndarray, size_wh: Sequence[int], clip: bool
) -> dict[str, np.ndarray]:
    """Return the fields of the faces and ignore boxes whose centre a result of `size_wh` holds.

    Args:
        sample: with faces in image pixels.
        matrix: the map.
        size_wh: width and height of the result.
        clip: boxes to it.
    """
    bboxes, kept = _move_bboxes(sample.gt_bboxes, matrix, size_wh, clip)
    ignore, _ = _move_bboxes(sample.gt_bboxes_ignore, matrix, size_wh, clip)
    kps = sample.gt_kps[kept].copy()
    kps[..., :2] = kps[..., :2].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return dict(gt_bboxes=bboxes, gt_labels=sample.gt_labels[kept], gt_kps=kps, gt_bboxes_ignore=ignore)


def centers_of(bboxes: np.ndarray) -> np.ndarray:
    """Return (..., 2) of boxes (..., 4)."""
    return (bboxes[..., :2] + bboxes[..., 2:]) / 2


def _move_bboxes(
    bboxes: np.ndarray, matrix: np.ndarray, size_wh: Sequence[int], clip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moved boxes whose centre lies inside, and which those are, (n,) bool."""
    values = bboxes.astype(np.float64)
    linear = matrix[:, :2]
    center = centers_of(values) @ linear.T + matrix[:, 2]
    half = np.sqrt(((values[:, 2:] - values[:, :2]) / 2) ** 2 @ (linear.T**2))  # of the ellipse's box
    kept = ((center > 0) & (center < size_wh)).all(-1)
    moved = np.concatenate([center - half, center + half], axis=1)[kept]
    if clip:
        moved = moved.clip(0, [*size_wh, *size_wh])
    return moved.astype(np.float32), kept


def _log_uniform(rng: np.random.RandomState, limits: Sequence[float]) -> float:
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))
