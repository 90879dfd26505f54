"""RandomSquareCrop: the scale augmentation of SCRFD."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.errors import ConfigError

FILL_VALUE = 128
POSITIONS_PER_SCALE = 250


class Patch(NamedTuple):
    """A square in image pixels; it may reach beyond the image on any side."""

    left: int
    top: int
    side: int


class RandomSquareCrop(Transform):
    """Cut a square that holds the centre of at least one face, and keep the faces centred inside it.

    side = int(scale * shorter image side). In each direction the corner is drawn from [0, size - side)
    if the patch is smaller than the image and from [size - side, 0) if it is larger (the upper ends are
    excluded, as in the reference). Outside the image the patch is 128. After 250 positions without a
    face a new scale is drawn.

    Args:
        crop_choice: scales to choose from, or
        crop_ratio_range: (low, high) of a uniform scale.
        bbox_clip_border: clip boxes and keypoints to the patch.
        max_tries: scales drawn before giving up.

    Differs from the reference: it never loops for ever. When max_tries scales failed, or all faces lie
    outside the image, the patch is the whole image at the top left of a square of its longer side; an image
    without faces takes the first position. A keypoint that leaves the patch keeps its weight (as there).
    """

    def __init__(
        self,
        *,
        crop_choice: Sequence[float] | None = None,
        crop_ratio_range: Sequence[float] | None = None,
        bbox_clip_border: bool = True,
        max_tries: int = 20,
    ) -> None:
        if (crop_choice is None) == (crop_ratio_range is None):
            raise ConfigError("RandomSquareCrop needs exactly one of crop_choice and crop_ratio_range")
        scales = tuple(float(scale) for scale in (crop_choice or crop_ratio_range or ()))
        if not scales or min(scales) <= 0 or (crop_ratio_range is not None and len(scales) != 2):
            raise ConfigError(f"RandomSquareCrop: scales {scales} must be positive, and two for a range")
        self.scales = scales
        self.is_range = crop_ratio_range is not None
        self.bbox_clip_border = bbox_clip_border
        self.max_tries = max_tries

    def draw(self, rng: np.random.RandomState, sample: Sample) -> Patch:
        """Return the patch; see the class for how it is chosen."""
        height, width = sample.image.shape[:2]
        centers = _centers(sample.gt_bboxes)
        scale = 0.0
        for attempt in range(self.max_tries):
            if attempt == 0 or max(self.scales) > 1:
                scale = (
                    rng.uniform(self.scales[0], self.scales[1]) if self.is_range else rng.choice(self.scales)
                )
            else:
                scale *= 1.2  # no scale shows the whole image: grow until a face is met
            side = max(int(scale * min(height, width)), 1)
            for _ in range(POSITIONS_PER_SCALE):
                patch = Patch(_corner(rng, width, side), _corner(rng, height, side), side)
                if len(centers) == 0 or _is_inside(centers, patch).any():
                    return patch
            if max(self.scales) <= 1 and side >= max(height, width):
                break  # the whole image was visible: its faces lie outside, a larger patch is only larger
        return Patch(0, 0, max(height, width))

    def apply(self, sample: Sample, params: Patch) -> Sample:  # type: ignore[override]
        """Return the content of the patch, uint8 or float32 as it came."""
        kept = _is_inside(_centers(sample.gt_bboxes), params)
        kept_ignore = _is_inside(_centers(sample.gt_bboxes_ignore), params)
        return sample.replace(
            image=_cut(sample.image, params),
            gt_bboxes=self._move(sample.gt_bboxes[kept], params),
            gt_labels=sample.gt_labels[kept],
            gt_kps=self._move(sample.gt_kps[kept], params),
            gt_bboxes_ignore=self._move(sample.gt_bboxes_ignore[kept_ignore], params),
        )

    def _move(self, points: np.ndarray, patch: Patch) -> np.ndarray:
        """Shift (and clip) boxes (n, 4) or keypoints (n, K, 3); weights stay."""
        points = points.copy()
        x, y = (points[:, 0::2], points[:, 1::2]) if points.ndim == 2 else (points[..., 0], points[..., 1])
        for values, corner in ((x, patch.left), (y, patch.top)):
            values -= np.float32(corner)
            if self.bbox_clip_border:
                values.clip(0, patch.side, out=values)
        return points


def _corner(rng: np.random.RandomState, size: int, side: int) -> int:
    if size == side:
        return 0
    return int(rng.randint(min(size - side, 0), max(size - side, 0)))


def _centers(bboxes: np.ndarray) -> np.ndarray:
    return (bboxes[:, :2] + bboxes[:, 2:]) / 2  # (n, 2)


def _is_inside(centers: np.ndarray, patch: Patch) -> np.ndarray:
    corner = np.array([patch.left, patch.top])
    return np.all((centers > corner) & (centers < corner + patch.side), axis=1)  # (n,)


def _cut(image: np.ndarray, patch: Patch) -> np.ndarray:
    """Return the patch (side, side, 3); a view where it lies inside the image."""
    height, width = image.shape[:2]
    left, top, right, bottom = patch.left, patch.top, patch.left + patch.side, patch.top + patch.side
    visible = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if visible.shape[:2] == (patch.side, patch.side):
        return visible
    canvas = np.full((patch.side, patch.side, 3), FILL_VALUE, image.dtype)
    y, x = max(-top, 0), max(-left, 0)
    canvas[y : y + visible.shape[0], x : x + visible.shape[1]] = visible
    return canvas
