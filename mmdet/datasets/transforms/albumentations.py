"""Colour changes with the names, arguments and arithmetic of albumentations 1.0, on 8-bit images.

RetinaFace's published configs name the first three. Any other transform of that package goes through
`Albumentations`, which needs it installed (the extra `albumentations`).
"""

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.transforms.base import Transform
from mmdet.errors import ConfigError

LEVELS = np.arange(256, dtype=np.float32)


class _Colour(Transform):
    """A change of 8-bit pixels that takes place with probability p; its numbers are uniform in ranges."""

    def __init__(self, p: float, **ranges: float | Sequence[float]) -> None:
        self.p = p
        self.ranges = {name: _as_range(name, limit) for name, limit in ranges.items()}

    def draw(self, rng: np.random.RandomState, sample: Sample) -> tuple[float, ...] | None:
        """Return one number per range; None for no change."""
        if rng.random_sample() >= self.p:
            return None
        return tuple(rng.uniform(low, high) for low, high in self.ranges.values())

    def apply(self, sample: Sample, params: tuple[float, ...] | None) -> Sample:  # type: ignore[override]
        """Return the changed sample, uint8."""
        if params is None:
            return sample
        _need_uint8(self, sample.image)
        return sample.replace(image=self.change(np.ascontiguousarray(sample.image), *params))

    def change(self, image: np.ndarray, *numbers: float) -> np.ndarray:
        """Return the changed (H, W, 3) uint8 BGR image."""
        raise NotImplementedError


class RandomBrightnessContrast(_Colour):
    """pixel * (1 + contrast) + 255 * brightness, clipped and cut to whole levels.

    Args:
        brightness_limit, contrast_limit: range, or a number b for (-b, b).
        p: probability.
    """

    def __init__(
        self,
        *,
        brightness_limit: float | Sequence[float] = 0.2,
        contrast_limit: float | Sequence[float] = 0.2,
        p: float = 0.5,
    ) -> None:
        super().__init__(p, brightness_limit=brightness_limit, contrast_limit=contrast_limit)

    def change(self, image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:  # type: ignore[override]
        """Return the changed image."""
        table = LEVELS * np.float32(1 + contrast) + np.float32(brightness * 255)
        return cv2.LUT(image, _to_levels(table))


class HueSaturationValue(_Colour):
    """Shifts in OpenCV's 8-bit HSV: hue in half degrees, cyclic; saturation and value clipped.

    Args:
        hue_shift_limit, sat_shift_limit, val_shift_limit: range, or a number b for (-b, b).
        p: probability.
    """

    def __init__(
        self,
        *,
        hue_shift_limit: float | Sequence[float] = 20,
        sat_shift_limit: float | Sequence[float] = 30,
        val_shift_limit: float | Sequence[float] = 20,
        p: float = 0.5,
    ) -> None:
        limits = dict(hue_shift_limit=hue_shift_limit, sat_shift_limit=sat_shift_limit)
        super().__init__(p, **limits, val_shift_limit=val_shift_limit)

    def change(self, image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:  # type: ignore[override]
        """Return the changed image."""
        tables = (np.mod(LEVELS + hue, 180), LEVELS + saturation, LEVELS + value)
        table = np.stack([_to_levels(table) for table in tables], axis=-1)[None]
        return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table), cv2.COLOR_HSV2BGR)


class RandomGamma(_Colour):
    """255 * (pixel / 255) ** gamma, cut to whole levels.

    Args:
        gamma_limit: range of 100 * gamma, drawn as whole numbers.
        p: probability.
    """

    def __init__(self, *, gamma_limit: float | Sequence[float] = (80, 120), p: float = 0.5) -> None:
        super().__init__(p, gamma_limit=gamma_limit)

    def draw(self, rng: np.random.RandomState, sample: Sample) -> tuple[float, ...] | None:
        """Return gamma; None for no change."""
        if rng.random_sample() >= self.p:
            return None
        low, high = self.ranges["gamma_limit"]
        return (rng.randint(int(low), int(high) + 1) / 100,)

    def change(self, image: np.ndarray, gamma: float) -> np.ndarray:  # type: ignore[override]
        """Return the changed image."""
        return cv2.LUT(image, _to_levels(np.power(np.arange(256) / 255, gamma) * 255))


class Albumentations(Transform):
    """Colour transforms of the installed albumentations, one after the other.

    Args:
        steps: dicts dict(type="CLAHE", clip_limit=4.0, p=0.5). Only such as leave boxes where they are:
            the package tells which, by the class ImageOnlyTransform.
    """

    def __init__(self, *, steps: Sequence[dict[str, Any]]) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its newest version
        try:
            import albumentations
        except ImportError as error:
            raise ConfigError(
                f"Albumentations: cannot import albumentations ({error}); install the extra [albumentations]"
            ) from None
        self._compose = albumentations.Compose([_build(albumentations, cfg) for cfg in steps])

    def draw(self, rng: np.random.RandomState, sample: Sample) -> int:
        """Return a seed, since the package draws by itself."""
        return int(rng.randint(2**31))

    def apply(self, sample: Sample, params: int) -> Sample:  # type: ignore[override]
        """Return the changed sample; the package sees RGB, as it expects."""
        _need_uint8(self, sample.image)
        self._compose.set_random_seed(params)
        found = self._compose(image=np.ascontiguousarray(sample.image[..., ::-1]))["image"]
        return sample.replace(image=np.ascontiguousarray(found[..., ::-1]))


def _build(package: Any, cfg: dict[str, Any]) -> Any:
    """Return the package's transform of a dict with a type."""
    arguments = dict(cfg)
    name = arguments.pop("type", None)
    target = getattr(package, str(name), None)
    if not (isinstance(target, type) and issubclass(target, package.ImageOnlyTransform)):
        raise ConfigError(f"Albumentations: {name!r} is not an ImageOnlyTransform of albumentations")
    try:
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Albumentations: {name} refuses its arguments: {error}") from None


def _as_range(name: str, limit: float | Sequence[float]) -> tuple[float, float]:
    """Return (low, high); a number b stands for (-b, b)."""
    if isinstance(limit, int | float):
        return -float(limit), float(limit)
    if len(limit) != 2 or limit[0] > limit[1]:
        raise ConfigError(f"{name} = {limit!r}: expected a number or a range (low, high)")
    return float(limit[0]), float(limit[1])


def _to_levels(table: np.ndarray) -> np.ndarray:
    return table.clip(0, 255).astype(np.uint8)


def _need_uint8(transform: Transform, image: np.ndarray) -> None:
    if image.dtype != np.uint8:
        raise ConfigError(
            f"{type(transform).__name__} works on 8-bit images: LoadImageFromFile(to_float32=False)"
        )
