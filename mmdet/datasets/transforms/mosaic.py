"""Mosaic: four images in one, each by a crop of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.affine import RandomAffine, move_labels, warp
from mmdet.datasets.transforms.base import ImageSource, Transform
from mmdet.errors import ConfigError


class MosaicTile(NamedTuple):
    """A rectangle of the result and what it shows.

    Attributes:
        left, top, right, bottom: pixels of the result.
        sample: image and faces.
        matrix: map from the image to the rectangle, see affine.py.
    """

    left: int
    top: int
    right: int
    bottom: int
    sample: Sample
    matrix: np.ndarray


class Mosaic(Transform):
    """With probability `prob` crops of four images around a point, else one crop; by one RandomAffine.

    A patch is scaled to its rectangle, so faces of a mosaic are about half as large as in a single crop.
    The three further images are drawn from the data set, with the random numbers of the sample: it stays a
    function of seed, epoch and index. They are read for it, which costs four decodings (data.train.cache_dir
    saves them).

    Args:
        transforms: exactly one, RandomAffine(img_scale, ...).
        prob: of a mosaic.
        center_range: (low, high) of the point where the four meet, in sides of the result.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[Transform],
        prob: float = 0.5,
        center_range: tuple[float, float] = (0.35, 0.65),
    ) -> None:
        if len(transforms) != 1 or not isinstance(transforms[0], RandomAffine):
            raise ConfigError("Mosaic.transforms: expected exactly one, RandomAffine")
        if not 0 <= prob <= 1 or not 0.1 <= center_range[0] <= center_range[1] <= 0.9:
            raise ConfigError(
                f"Mosaic: prob = {prob} (0 to 1), center_range = {center_range} (0.1 to 0.9, ascending)"
            )
        self.crop = transforms[0]
        self.prob, self.center_range = prob, center_range
        self.source: ImageSource | None = None

    def bind(self, source: ImageSource) -> None:
        """Take further images from `source`."""
        self.source = source

    def draw(self, rng: np.random.RandomState, sample: Sample) -> list[MosaicTile]:
        """Return one tile or four, in the order left top, right top, left bottom, right bottom."""
        width, height = self.crop.size_wh
        if self.source is None or rng.uniform() >= self.prob:
            return [MosaicTile(0, 0, width, height, sample, self.crop.draw(rng, sample))]
        x, y = (int(side * rng.uniform(*self.center_range)) for side in (width, height))
        others = rng.randint(len(self.source), size=3)
        samples = [sample, *(self.source.load_readable(int(index)) for index in others)]
        corners = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        tiles = []
        for (left, top, right, bottom), each in zip(corners, samples, strict=True):
            matrix = self.crop.draw_map(rng, each, (right - left, bottom - top))
            tiles.append(MosaicTile(left, top, right, bottom, each, matrix))
        return tiles

    def apply(self, sample: Sample, params: list[MosaicTile]) -> Sample:  # type: ignore[override]
        """Return the tiles put together; the name stays that of the first image, notes are of all."""
        width, height = self.crop.size_wh
        image = np.empty((height, width, 3), sample.image.dtype)
        labels = []
        for left, top, right, bottom, each, matrix in params:
            warp(each.image, matrix, image[top:bottom, left:right])
            moved = move_labels(each, matrix, (right - left, bottom - top), self.crop.bbox_clip_border)
            corner = np.array((left, top), np.float32)
            moved["gt_kps"][..., :2] += corner
            for name in ("gt_bboxes", "gt_bboxes_ignore"):
                moved[name] += np.tile(corner, 2)
            labels.append(moved)
        joined = {name: np.concatenate([each[name] for each in labels]) for name in labels[0]}
        notes = tuple(note for tile in params for note in tile.sample.notes)
        return sample.replace(image=image, notes=notes, **joined)
