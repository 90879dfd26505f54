"""MultiScaleFlipAug: the wrapper around the test transforms in mmdet configs; one scale, no flip."""

from collections.abc import Sequence

import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Compose, Transform
from mmdet.datasets.transforms.geometric import Resize, single_scale
from mmdet.errors import ConfigError


class MultiScaleFlipAug(Transform):
    """Run `transforms` once, giving their Resize its scale.

    Args:
        transforms: built transforms (the config's dicts are built by `build_pipeline`).
        img_scale: (width, height), or
        scale_factor: factor on the image size (1 = original size).
        flip: must be False; testing with flips or several scales is not supported.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[Transform],
        img_scale: Sequence | None = None,
        scale_factor: float | Sequence[float] | None = None,
        flip: bool = False,
        flip_direction: str = "horizontal",
    ) -> None:
        if flip:
            raise ConfigError("MultiScaleFlipAug.flip = True is not supported: only one scale, no flip")
        if (img_scale is None) == (scale_factor is None):
            raise ConfigError("MultiScaleFlipAug needs exactly one of img_scale and scale_factor")
        if isinstance(scale_factor, Sequence):
            if len(scale_factor) != 1:
                raise ConfigError(f"MultiScaleFlipAug.scale_factor = {scale_factor}: expected one number")
            scale_factor = scale_factor[0]
        scale = None if img_scale is None else single_scale(img_scale, "MultiScaleFlipAug.img_scale")
        self.steps = Compose([_with_scale(step, scale, scale_factor) for step in transforms])

    def __call__(self, sample: Sample, rng: np.random.RandomState) -> Sample:
        """Run the wrapped transforms."""
        return self.steps(sample, rng)


def _with_scale(step: Transform, img_scale: tuple[int, int] | None, scale_factor: float | None) -> Transform:
    if not isinstance(step, Resize):
        return step
    return Resize(
        img_scale=img_scale,
        scale_factor=scale_factor,
        keep_ratio=step.keep_ratio,
        bbox_clip_border=step.bbox_clip_border,
    )
