"""Geometry of RetinaFace's training pipeline: clip the labels, turn by 90 degrees, cut a square, pad to one.

Mirroring, resizing and normalising are RandomFlip, Resize and Normalize.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.datasets.transforms.crop import Patch, RandomSquareCrop
from mmdet.errors import ConfigError

MAX_TRIES = 250


class ClipLabels(Transform):
    """Move the corners of boxes into the image, as the JSON labels of RetinaFace are read.

    x1 into [0, W - 1], x2 into [x1 + 1, W - 1], where the upper limit wins; y1 likewise, y2 into [y1, H - 1].
    A box beyond the image becomes one without area. Keypoints stay.
    """

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the sample with clipped boxes."""
        last_y, last_x = (side - 1 for side in sample.image.shape[:2])
        x1, y1, x2, y2 = sample.gt_bboxes.T
        x1, y1 = x1.clip(0, last_x), y1.clip(0, last_y)
        x2, y2 = np.minimum(np.maximum(x2, x1 + 1), last_x), np.minimum(np.maximum(y2, y1), last_y)
        return sample.replace(gt_bboxes=np.stack([x1, y1, x2, y2], axis=1))


class RandomRotate90(Transform):
    """Turn the image by 0, 90, 180 or 270 degrees, each with probability 1/4.

    Differs from the reference: coordinates are not cut to integers, and keypoints turn about the same centre
    as boxes (there, one pixel beside it).
    """

    def draw(self, rng: np.random.RandomState, sample: Sample) -> int:
        """Return the number of turns counter-clockwise."""
        return int(rng.randint(4))

    def apply(self, sample: Sample, params: int) -> Sample:  # type: ignore[override]
        """Return the turned sample."""
        for _ in range(params % 4):
            width = np.float32(sample.image.shape[1])
            sample = sample.replace(
                image=cv2.rotate(sample.image, cv2.ROTATE_90_COUNTERCLOCKWISE),
                gt_bboxes=_turn_bboxes(sample.gt_bboxes, width),
                gt_bboxes_ignore=_turn_bboxes(sample.gt_bboxes_ignore, width),
                gt_kps=_turn_kps(sample.gt_kps, width),
            )
        return sample


class RetinaFaceCrop(RandomSquareCrop):
    """Cut a square inside the image that holds a whole face, and keep the faces centred inside it.

    side = int(scale * shorter image side); the corner is drawn from [0, size - side), so the last possible
    place never occurs, as in the reference. After 250 squares without a whole face the image stays whole;
    an image without faces takes the first square. A face of less than 1 pixel is never whole.

    Args:
        crop_choice: scales to choose from, at most 1.
    """

    def __init__(self, *, crop_choice: Sequence[float] = (0.3, 0.45, 0.6, 0.8, 1.0)) -> None:
        super().__init__(crop_choice=crop_choice)
        if max(self.scales) > 1:
            raise ConfigError(f"RetinaFaceCrop.crop_choice = {crop_choice}: scales above 1 leave the image")

    def draw(self, rng: np.random.RandomState, sample: Sample) -> Patch | None:  # type: ignore[override]
        """Return the square; None for the whole image."""
        height, width = sample.image.shape[:2]
        for _ in range(MAX_TRIES):
            side = int(float(rng.choice(self.scales)) * min(height, width))
            left, top = (int(rng.randint(size - side)) if size > side else 0 for size in (width, height))
            patch = Patch(left, top, side)
            if side and (not len(sample.gt_bboxes) or _holds_whole_face(sample.gt_bboxes, patch)):
                return patch
        return None

    def apply(self, sample: Sample, params: Patch | None) -> Sample:  # type: ignore[override]
        """Return the content of the square; boxes and keypoints clipped to it."""
        return sample if params is None else super().apply(sample, params)


class PadToSquare(Transform):
    """Pad the shorter side, right or below, to the longer one."""

    def __init__(self, *, pad_val: float | Sequence[float] = 0) -> None:
        self.pad_val = pad_val if isinstance(pad_val, Sequence) else (pad_val,) * 3

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the padded sample; boxes do not move."""
        height, width = sample.image.shape[:2]
        if height == width:
            return sample
        bottom, right = max(width - height, 0), max(height - width, 0)
        border = cv2.BORDER_CONSTANT
        return sample.replace(
            image=cv2.copyMakeBorder(sample.image, 0, bottom, 0, right, border, value=self.pad_val)
        )


def _turn_bboxes(bboxes: np.ndarray, width: np.float32) -> np.ndarray:
    x1, y1, x2, y2 = bboxes.T
    return np.stack([y1, width - x2, y2, width - x1], axis=1)


def _turn_kps(kps: np.ndarray, width: np.float32) -> np.ndarray:
    return np.stack([kps[..., 1], width - kps[..., 0], kps[..., 2]], axis=-1)


def _holds_whole_face(bboxes: np.ndarray, patch: Patch) -> bool:
    """Return whether one box lies inside the square with all of its area."""
    corner = np.array([patch.left, patch.top])
    lower = np.maximum(bboxes[:, :2], corner)
    upper = np.minimum(bboxes[:, 2:], corner + patch.side)
    inside = np.prod(upper - lower, axis=1) * (lower < upper).all(axis=1)
    area = np.prod(bboxes[:, 2:] - bboxes[:, :2], axis=1)
    return bool((inside >= np.maximum(area, 1)).any())
