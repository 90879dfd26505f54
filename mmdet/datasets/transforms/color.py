"""PhotoMetricDistortion and Normalize: transforms that change colours only."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.errors import ConfigError


class Distortion(NamedTuple):
    """Chosen changes, in the order they are applied; None or False means no change.

    Attributes:
        brightness: added to all pixels.
        contrast: factor on all pixels, before (contrast_first) or after the two below.
        saturation: factor on S; hue: added to H in degrees.
        channels: order of the three channels.
    """

    brightness: float | None = None
    contrast_first: bool = False
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    channels: tuple[int, int, int] | None = None
    is_gray: bool = False


class PhotoMetricDistortion(Transform):
    """Random brightness, contrast, saturation, hue and channel order, each with probability 1/2.

    Works on float32 and never clips, as the reference: values from -152 to 331 occur. The image goes
    through HSV (H 0..360, S 0..1) even when neither saturation nor hue changes, as there.
    """

    def __init__(
        self,
        *,
        brightness_delta: float = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_delta: float = 18,
        gray_prob: float = 0.0,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = tuple(contrast_range)
        self.saturation_range = tuple(saturation_range)
        self.hue_delta = hue_delta
        self.gray_prob = gray_prob

    def draw(self, rng: np.random.RandomState, sample: Sample) -> Distortion:
        """Return the changes; a number is only drawn when its coin says so, in this order."""
        brightness = rng.uniform(-self.brightness_delta, self.brightness_delta) if rng.randint(2) else None
        contrast_first = bool(rng.randint(2))
        contrast = None
        if contrast_first and rng.randint(2):
            contrast = _uniform(rng, self.contrast_range)
        saturation = _uniform(rng, self.saturation_range) if rng.randint(2) else None
        hue = rng.uniform(-self.hue_delta, self.hue_delta) if rng.randint(2) else None
        if not contrast_first and rng.randint(2):
            contrast = _uniform(rng, self.contrast_range)
        channels = tuple(rng.permutation(3)) if rng.randint(2) else None
        is_gray = self.gray_prob > 0 and rng.uniform(0, 1) < self.gray_prob
        return Distortion(brightness, contrast_first, contrast, saturation, hue, channels, is_gray)

    def apply(self, sample: Sample, params: Distortion) -> Sample:  # type: ignore[override]
        """Return the distorted sample, float32."""
        image = sample.image
        if image.dtype != np.float32:
            raise ConfigError("PhotoMetricDistortion needs LoadImageFromFile(to_float32=True)")
        if params.brightness is not None:
            image = image + np.float32(params.brightness)
        if params.contrast is not None and params.contrast_first:
            image = image * np.float32(params.contrast)
        image = _change_saturation_and_hue(image, params.saturation, params.hue)
        if params.contrast is not None and not params.contrast_first:
            image *= np.float32(params.contrast)
        if params.channels is not None:
            image = _reorder_channels(image, params.channels)
        if params.is_gray:
            gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
            image = np.repeat(gray[..., None], 3, axis=-1)
        return sample.replace(image=image)


class Normalize(Transform):
    """(pixel - mean) / std per channel, after exchanging blue and red if `to_rgb`; float32.

    The result is (H, W, 3) by shape and planar in memory, as the batch wants it.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], to_rgb: bool = True) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ConfigError(f"Normalize: mean={mean} and std={std} must hold 3 numbers, std positive")
        self.mean = np.array(mean, np.float32)
        self.inverse_std = (1 / np.array(std, np.float64)).astype(np.float32)
        self.to_rgb = to_rgb

    def apply(self, sample: Sample, params: object = None) -> Sample:
        """Return the normalised sample."""
        image = np.ascontiguousarray(sample.image)
        planes = np.empty((3, *image.shape[:2]), np.float32)
        for channel, plane in enumerate(planes):
            source = cv2.extractChannel(image, 2 - channel if self.to_rgb else channel)
            np.subtract(source, self.mean[channel], out=plane, dtype=np.float32)
            plane *= self.inverse_std[channel]
        return sample.replace(image=planes.transpose(1, 2, 0))


def _change_saturation_and_hue(image: np.ndarray, saturation: float | None, hue: float | None) -> np.ndarray:
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2HSV)
    if saturation is not None:
        hsv[..., 1] *= np.float32(saturation)
    if hue is not None:
        degrees = hsv[..., 0] + np.float32(hue)
        degrees -= (degrees > 360) * np.float32(360)
        degrees += (degrees < 0) * np.float32(360)
        hsv[..., 0] = degrees
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _reorder_channels(image: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """Return image[..., channels], contiguous."""
    pairs = [number for target, source in enumerate(channels) for number in (int(source), target)]
    return cv2.mixChannels([image], [np.empty_like(image)], pairs)[0]


def _uniform(rng: np.random.RandomState, limits: Sequence[float]) -> float:
    low, high = limits
    return rng.uniform(low, high)
