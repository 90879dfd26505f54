"""Resize, RandomFlip, Pad: transforms that move boxes and keypoints with the pixels."""

from collections.abc import Sequence

import cv2
import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.errors import ConfigError

FIVE_POINT_PAIRS = ((0, 1), (3, 4))  # eyes and mouth corners change sides


class Resize(Transform):
    """Resize to `img_scale` (bilinear), in test pipelines also by a factor.

    Args:
        img_scale: (width, height). With keep_ratio it is the frame to fit into: its longer side bounds
            the longer image side, its shorter side the shorter one (small images are enlarged).
        keep_ratio: keep the aspect ratio.
        bbox_clip_border: clip boxes and keypoints to the resized image.
        scale_factor: instead of img_scale, a factor for both sides.
    """

    def __init__(
        self,
        *,
        img_scale: Sequence | None = None,
        keep_ratio: bool = True,
        bbox_clip_border: bool = True,
        scale_factor: float | None = None,
    ) -> None:
        self.img_scale = None if img_scale is None else single_scale(img_scale, "Resize.img_scale")
        self.keep_ratio = keep_ratio
        self.bbox_clip_border = bbox_clip_border
        self.scale_factor = scale_factor

    def target_hw(self, height: int, width: int) -> tuple[int, int]:
        """Return the new height and width of an image."""
        if self.scale_factor is not None:
            frame = (int(width * self.scale_factor), int(height * self.scale_factor))
        elif self.img_scale is not None:
            frame = self.img_scale
        else:
            raise ConfigError(
                "Resize needs img_scale (or must stand inside MultiScaleFlipAug, which gives it)"
            )
        if not self.keep_ratio:
            return frame[1], frame[0]
        factor = min(max(frame) / max(height, width), min(frame) / min(height, width))
        return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the resized sample; `scale_xy` is set to the float32 factors the reference uses."""
        height, width = sample.image.shape[:2]
        new_height, new_width = self.target_hw(height, width)
        scale = np.array([new_width / width, new_height / height], np.float32)
        limit = (new_width, new_height) if self.bbox_clip_border else None
        image = cv2.resize(sample.image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        return sample.replace(
            image=image,
            gt_bboxes=_scale_bboxes(sample.gt_bboxes, scale, limit),
            gt_bboxes_ignore=_scale_bboxes(sample.gt_bboxes_ignore, scale, limit),
            gt_kps=_scale_kps(sample.gt_kps, scale, limit),
            scale_xy=(float(scale[0]), float(scale[1])),
        )


class RandomFlip(Transform):
    """Mirror left-right with probability `flip_ratio`; left and right keypoints change places.

    Args:
        flip_ratio: the probability; None: 0.
        direction: "horizontal".
        flip_pairs: keypoints (i, j) that change places; None: eyes and mouth corners of five points. Other
            numbers of points need it, [] if none has a counterpart.
    """

    def __init__(
        self,
        *,
        flip_ratio: float | None = None,
        direction: str = "horizontal",
        flip_pairs: Sequence | None = None,
    ) -> None:
        if direction != "horizontal":
            raise ConfigError(f"RandomFlip.direction = {direction!r}: only 'horizontal' is supported")
        if flip_ratio is not None and not (isinstance(flip_ratio, int | float) and 0 <= flip_ratio <= 1):
            raise ConfigError(f"RandomFlip.flip_ratio = {flip_ratio!r}: expected a number from 0 to 1")
        self.flip_ratio = float(flip_ratio or 0)
        pairs = None if flip_pairs is None else np.array(flip_pairs, int).reshape(-1, 2)
        self.flip_pairs = pairs
        if pairs is not None and len(np.unique(pairs)) < pairs.size:
            raise ConfigError(f"RandomFlip.flip_pairs = {flip_pairs!r}: a keypoint occurs twice")

    def draw(self, rng: np.random.RandomState, sample: Sample) -> bool:
        """Return whether to flip."""
        return rng.choice(2, p=[self.flip_ratio, 1 - self.flip_ratio]) == 0

    def apply(self, sample: Sample, params: bool) -> Sample:  # type: ignore[override]
        """Return the sample or its mirror image: x becomes width - x."""
        if not params:
            return sample
        width = np.float32(sample.image.shape[1])
        mirrored = sample.gt_kps[:, self._order(sample.gt_kps.shape[1])]
        mirrored[..., 0] = width - mirrored[..., 0]
        return sample.replace(
            image=cv2.flip(sample.image, 1),
            gt_bboxes=_flip_bboxes(sample.gt_bboxes, width),
            gt_bboxes_ignore=_flip_bboxes(sample.gt_bboxes_ignore, width),
            gt_kps=mirrored,
        )

    def _order(self, num_kps: int) -> np.ndarray:
        """Return where each of the K mirrored keypoints comes from."""
        order, pairs = np.arange(num_kps), self.flip_pairs
        if pairs is None and num_kps not in (0, 5):
            raise ConfigError(f"RandomFlip needs flip_pairs for {num_kps} keypoints: which change sides?")
        if pairs is None:
            pairs = np.array(FIVE_POINT_PAIRS[: num_kps // 2], int).reshape(-1, 2)
        if pairs.size and not 0 <= pairs.min() <= pairs.max() < num_kps:
            raise ConfigError(f"RandomFlip.flip_pairs {pairs.tolist()} do not fit {num_kps} keypoints")
        order[pairs] = pairs[:, ::-1]
        return order


class Pad(Transform):
    """Pad right and below to `size` (height, width), or to multiples of `size_divisor`.

    A side that is longer than `size` already is left alone.
    """

    def __init__(
        self, *, size: Sequence[int] | None = None, size_divisor: int | None = None, pad_val: float = 0
    ) -> None:
        if (size is None) == (size_divisor is None):
            raise ConfigError("Pad needs exactly one of size and size_divisor")
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.size_divisor = size_divisor
        self.pad_val = pad_val

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the padded sample; boxes do not move."""
        height, width = sample.image.shape[:2]
        if self.size is not None:
            bottom, right = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        else:
            bottom, right = -height % self.size_divisor, -width % self.size_divisor
        if not (bottom or right):
            return sample
        value = (self.pad_val,) * 3
        image = cv2.copyMakeBorder(sample.image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=value)
        return sample.replace(image=image)


def single_scale(scale: Sequence, what: str) -> tuple[int, int]:
    """Return (width, height) from a pair or a list with one pair.

    Raises:
        ConfigError: several scales, or not a pair.
    """
    if len(scale) == 1 and isinstance(scale[0], Sequence):
        scale = scale[0]
    if len(scale) != 2 or not all(isinstance(side, int | float) and side > 0 for side in scale):
        raise ConfigError(f"{what} = {scale!r}: expected one (width, height), not several scales")
    return int(scale[0]), int(scale[1])


def _scale_bboxes(bboxes: np.ndarray, scale: np.ndarray, limit: tuple[int, int] | None) -> np.ndarray:
    scaled = bboxes * np.tile(scale, 2)
    return scaled if limit is None else scaled.clip(0, np.tile(np.asarray(limit, np.float32), 2))


def _scale_kps(kps: np.ndarray, scale: np.ndarray, limit: tuple[int, int] | None) -> np.ndarray:
    points = kps[..., :2] * scale
    if limit is not None:
        points = points.clip(0, np.asarray(limit, np.float32))
    return np.concatenate([points, kps[..., 2:]], axis=-1)


def _flip_bboxes(bboxes: np.ndarray, width: np.float32) -> np.ndarray:
    x1, y1, x2, y2 = bboxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)
