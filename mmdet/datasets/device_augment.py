"""Colour changes and normalisation for a whole batch on the device, from 8-bit pixels.

The host draws the random numbers in the same order as ever, crops, resizes and flips in 8 bits, and sends a
quarter of the bytes. The arithmetic here follows PhotoMetricDistortion and Normalize step by step, for all
images alike: a change that was not drawn adds 0 or multiplies by 1. Shapes are fixed, and there is no matrix
product, whose fp32 some accelerators round. What differs from the host's pipeline is the resize, which rounds
to whole grey levels.
"""

import numpy as np
import torch
from torch import Tensor

from mmdet.core.structures import Batch, Sample
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms.affine import RandomAffine
from mmdet.datasets.transforms.base import Compose, Transform
from mmdet.datasets.transforms.color import Distortion, Normalize, PhotoMetricDistortion
from mmdet.datasets.transforms.formatting import LoadImageFromFile
from mmdet.datasets.transforms.geometric import Pad, Resize
from mmdet.datasets.transforms.mosaic import Mosaic
from mmdet.errors import ConfigError

_EPS = float(np.finfo(np.float32).eps)
_GRAY = (0.114, 0.587, 0.299)  # of blue, green, red, as OpenCV's BGR2GRAY
NUM_OPS = 9  # brightness, contrast before, saturation, hue, contrast after, three source channels, is gray


def leave_colours_to_device(dataset: FacesDataset) -> "FinishImages":
    """Make a training data set give raw pixels and colour changes; return what finishes its batches.

    Raises:
        ConfigError: a pipeline is not ..., Resize (or RandomAffine, Mosaic), ..., PhotoMetricDistortion,
            Normalize, or the closing one normalises otherwise.
    """
    dataset.pipeline, normalize = _leave_colours(dataset.pipeline)
    if dataset.closing_pipeline is not None:
        dataset.closing_pipeline, last = _leave_colours(dataset.closing_pipeline)
        if repr(vars(last)) != repr(vars(normalize)):
            raise ConfigError("data.device_augment: pipeline and closing_pipeline have different Normalize")
    return FinishImages(normalize)


def _leave_colours(pipeline: Transform) -> tuple[Compose, Normalize]:
    """Return the host's part of a pipeline, and what the device has to normalise by."""
    steps = list(pipeline.transforms)  # type: ignore[attr-defined]
    kinds = [type(step) for step in steps if isinstance(step, _PIXEL_STEPS)]
    normalize = next((step for step in steps if isinstance(step, Normalize)), None)
    if normalize is None or kinds not in [[first, PhotoMetricDistortion, Normalize] for first in _RESIZING]:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ConfigError(
            "data.device_augment needs a training pipeline with Resize (or RandomAffine, Mosaic), "
            "PhotoMetricDistortion, Normalize in "
            f"this order and no other change of pixels; found {names or 'none'}"
        )
    host: list[Transform] = []
    for step in steps:
        if isinstance(step, PhotoMetricDistortion):
            host.append(_DrawOnly(step))
        elif not isinstance(step, Normalize | LoadImageFromFile):
            host.append(step)
    return Compose(host), normalize


_RESIZING = (Resize, RandomAffine, Mosaic)
_PIXEL_STEPS = (*_RESIZING, PhotoMetricDistortion, Normalize, Pad)


class _DrawOnly(Transform):
    """Draws the colour changes and writes them down for the device."""

    def __init__(self, distortion: PhotoMetricDistortion) -> None:
        self.distortion = distortion

    def draw(self, rng: np.random.RandomState, sample: Sample) -> Distortion:
        """Return the changes, drawn as PhotoMetricDistortion does."""
        return self.distortion.draw(rng, sample)

    def apply(self, sample: Sample, params: Distortion) -> Sample:  # type: ignore[override]
        """Return the sample with `pixel_ops`; the pixels stay."""
        return sample.replace(pixel_ops=encode(params))


def encode(params: Distortion) -> np.ndarray:
    """Return (NUM_OPS,) float32."""
    contrast = 1.0 if params.contrast is None else params.contrast
    before, after = (contrast, 1.0) if params.contrast_first else (1.0, contrast)
    return np.array(
        [
            params.brightness or 0.0,
            before,
            1.0 if params.saturation is None else params.saturation,
            params.hue or 0.0,
            after,
            *(params.channels or (0, 1, 2)),
            params.is_gray,
        ],
        np.float32,
    )


class FinishImages:
    """Turns a batch of raw pixels into the batch the model takes; any other batch passes unchanged.

    Args:
        normalize: whose mean, std and order of channels.
    """

    def __init__(self, normalize: Normalize) -> None:
        self.to_rgb = normalize.to_rgb
        gray = _GRAY[::-1] if self.to_rgb else _GRAY
        self._numbers = torch.tensor([normalize.mean.tolist(), normalize.inverse_std.tolist(), gray])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with images (B, 3, H, W) float32, normalised."""
        ops = batch.pixel_ops
        if ops is None:
            return batch
        if self._numbers.device != ops.device:  # once: a card waits while it is sent numbers
            self._numbers = self._numbers.to(ops.device)
        mean, factor, weights = self._numbers[:, :, None, None].unbind()
        pixels = batch.images.permute(0, 3, 1, 2).contiguous().float()  # (B, 3, H, W) BGR
        pixels = distort(pixels, ops)
        channels = ops[:, 5:8].split(1, 1)
        pixels = _take_channels(pixels, torch.cat(channels[::-1] if self.to_rgb else channels, 1))
        gray = (pixels * weights).sum(dim=1, keepdim=True)
        pixels = torch.where(ops[:, 8, None, None, None] > 0, gray, pixels)
        changes = {"images": (pixels - mean) * factor, "pixel_ops": None}
        return Batch(**{**vars(batch), **changes})


def distort(pixels: Tensor, ops: Tensor) -> Tensor:
    """Apply brightness, contrast, saturation and hue to (B, 3, H, W) float32 BGR, values around 0..255.

    Hue H is in degrees, saturation S = (max - min) / |max|, as OpenCV's float HSV, negative pixels included.
    """
    brightness, before, saturation, hue, after = (v[:, None, None] for v in ops[:, :5].unbind(1))
    pixels = (pixels + brightness[:, None]) * before[:, None]
    blue, green, red = pixels.unbind(1)
    value = pixels.amax(dim=1)  # (B, H, W)
    spread = value - pixels.amin(dim=1)
    scale = 60 / (spread + _EPS)
    h = torch.where(
        value == red,
        (green - blue) * scale,
        torch.where(value == green, (blue - red) * scale + 120, (red - green) * scale + 240),
    )
    h = h + 360.0 * (h < 0) + hue
    h = h - 360.0 * (h > 360)
    h = (h + 360.0 * (h < 0)) / 60
    chroma = value * (spread / (value.abs() + _EPS) * saturation)
    turn = torch.arange(1.0, 6.0, 2.0, device=pixels.device)[:, None, None]
    k = h[:, None] + turn  # (B, 3, H, W): blue, green, red are 1, 3, 5 sixths of the circle away
    k = k - 6.0 * (k >= 6)
    return (value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)) * after[:, None]


def _take_channels(pixels: Tensor, channels: Tensor) -> Tensor:
    """Return pixels[b, channels[b]] for each image; channels (B, 3) whole numbers."""
    # int32: fp32 to int64 runs on the AI CPU of a 910A
    rows = channels.int() + 3 * torch.arange(len(pixels), device=pixels.device)[:, None]
    return pixels.flatten(0, 1).index_select(0, rows.flatten()).view_as(pixels)
