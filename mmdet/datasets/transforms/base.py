"""What a transform is: `draw` chooses the random numbers, `apply` uses them.

They are apart so that `apply` can be tested with chosen numbers, and so that the drawing can stay on
the host if the pixels are ever changed elsewhere. No transform edits the arrays of the sample it is given.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.labels.base import DEFAULT_NUM_KPS


class ImageSource(Protocol):
    """Where a transform gets further images from: the data set it belongs to."""

    def __len__(self) -> int:
        """Return the number of images."""

    def load_readable(self, index: int) -> Sample:
        """Return an untransformed sample, or of the next image if this one cannot be read."""


class Transform:
    """Base class; a transform without randomness overrides `apply` only."""

    def bind(self, source: ImageSource) -> None:
        """Take further images from `source`; most transforms need none."""

    def draw(self, rng: np.random.RandomState, sample: Sample) -> object:
        """Return the random choices for this sample (None when there are none)."""
        return None

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the changed sample; `params` is what `draw` returned."""
        raise NotImplementedError

    def __call__(self, sample: Sample, rng: np.random.RandomState) -> Sample:
        """Draw and apply."""
        return self.apply(sample, self.draw(rng, sample))


class Compose(Transform):
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def bind(self, source: ImageSource) -> None:
        """Bind all transforms."""
        for transform in self.transforms:
            transform.bind(source)

    def __call__(self, sample: Sample, rng: np.random.RandomState) -> Sample:
        """Run all transforms; each draws when its turn comes, as the reference does."""
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


def make_sample(image: np.ndarray, name: str = "", num_kps: int = DEFAULT_NUM_KPS) -> Sample:
    """Return a sample without labels around a (H, W, 3) uint8 BGR image, for example for inference."""
    return Sample(
        image=image,
        gt_bboxes=np.zeros((0, 4), np.float32),
        gt_labels=np.zeros(0, np.int64),
        gt_kps=np.zeros((0, num_kps, 3), np.float32),
        gt_bboxes_ignore=np.zeros((0, 4), np.float32),
        name=name,
        size_hw=image.shape[:2],
    )
