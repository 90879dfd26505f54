"""First and last steps of an mmdet pipeline; most of their work is done by our dataset and collate."""

from collections.abc import Sequence

import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.errors import ConfigError


class LoadImageFromFile(Transform):
    """Choose the number type of the pixels; the dataset has read the file already."""

    def __init__(
        self, *, to_float32: bool = False, color_type: str = "color", file_client_args: dict | None = None
    ) -> None:
        if color_type != "color":
            raise ConfigError(f"LoadImageFromFile.color_type = {color_type!r}: only 'color' is supported")
        if file_client_args not in (None, {"backend": "disk"}):
            raise ConfigError("LoadImageFromFile.file_client_args: only images on disk are supported")
        self.to_float32 = to_float32

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the sample with float32 pixels if `to_float32`."""
        return sample.replace(image=sample.image.astype(np.float32)) if self.to_float32 else sample


class LoadAnnotations(Transform):
    """Keep or drop keypoints; the dataset has read the labels already."""

    def __init__(
        self,
        *,
        with_bbox: bool = True,
        with_label: bool = True,
        with_keypoints: bool = False,
        with_mask: bool = False,
        with_seg: bool = False,
    ) -> None:
        if with_mask or with_seg:
            raise ConfigError("LoadAnnotations: with_mask and with_seg are not supported")
        if not (with_bbox and with_label):
            raise ConfigError("LoadAnnotations: with_bbox and with_label must be True")
        self.with_keypoints = with_keypoints

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the sample; without keypoints all their weights are 0."""
        return sample if self.with_keypoints else sample.replace(gt_kps=np.zeros_like(sample.gt_kps))


class _Marker(Transform):
    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the sample unchanged."""
        return sample


class DefaultFormatBundle(_Marker):
    """Accepted for mmdet's sake: `Collate` makes the tensors."""


class ImageToTensor(_Marker):
    """Accepted for mmdet's sake: `Collate` makes the tensors."""

    def __init__(self, *, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)


class Collect(_Marker):
    """Accepted for mmdet's sake: a `Sample` has fixed fields."""

    def __init__(self, *, keys: Sequence[str], meta_keys: Sequence[str] = ()) -> None:
        self.keys = tuple(keys)
        self.meta_keys = tuple(meta_keys)
