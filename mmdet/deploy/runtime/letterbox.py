"""Picture to network input, as the reference's runtime does it (mmdet's test pipeline rounds differently)."""

import math
import threading
from collections.abc import Sequence

import cv2
import numpy as np

_kept = threading.local()


def reused(name: str, shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """Return an array of this thread with whatever is in it, until the next call with this name.

    Memory that is new for every image costs 1,200 page faults, 3 of the 31 ms that an image takes.
    """
    size, kept = math.prod(shape), _kept.__dict__
    if len(kept.get(name, ())) < size:
        kept[name] = np.empty(size, dtype)
    return kept[name][:size].reshape(shape)


def fit_size(image_hw: tuple[int, int], fit_hw: tuple[int, int]) -> tuple[int, int, float]:
    """Return the height and width that fill `fit_hw` without distortion, and the scale the decoding uses.

    The reference rounds down and takes one factor, that of the height, for both axes. It fails where a side
    comes out as 0; here it becomes 1, and the scale that of the other side.
    """
    (height, width), (fit_height, fit_width) = image_hw, fit_hw
    ratio = height / width
    if ratio > fit_height / fit_width:
        new_height, new_width = fit_height, int(fit_height / ratio)
    else:
        new_height, new_width = int(fit_width * ratio), fit_width
    scale = new_height / height if new_height else new_width / width
    return max(new_height, 1), max(new_width, 1), scale


def letterbox(
    image: np.ndarray,
    input_hw: tuple[int, int],
    fit_hw: tuple[int, int] | None = None,
    canvas: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Return the picture resized into the top left corner of a black canvas, and its scale.

    Args:
        image: (h, w, 3) uint8.
        input_hw: size of the canvas.
        fit_hw: the part of the canvas to fill; default all of it.
        canvas: to be overwritten; None: a new one.

    Returns:
        (H, W, 3) uint8 and the factor from image pixels to canvas pixels.
    """
    height, width, scale = fit_size(image.shape[:2], fit_hw or input_hw)
    canvas = np.empty((*input_hw, 3), np.uint8) if canvas is None else canvas
    part = canvas[:height, :width]
    resized = cv2.resize(image, (width, height), dst=part, interpolation=cv2.INTER_LINEAR)
    if not np.may_share_memory(resized, part):  # of an image of floats
        part[:] = resized
    canvas[height:], canvas[:height, width:] = 0, 0
    return canvas, scale


def to_blob(
    canvases: Sequence[np.ndarray], mean: Sequence[float], std: Sequence[float], is_rgb: bool = True
) -> np.ndarray:
    """Return the normalised network input.

    Args:
        canvases: N times (H, W, 3) uint8 BGR.
        mean: per channel, in the network's channel order.
        std: likewise.
        is_rgb: the network takes RGB.

    Returns:
        (N, 3, H, W) float32, (pixel - mean) / std.
    """
    blob = np.empty((len(canvases), len(mean), *canvases[0].shape[:2]), np.float32)
    for canvas, planes in zip(canvases, blob, strict=True):
        normalize(canvas, mean, std, is_rgb, planes)
    return blob


def normalize(
    canvas: np.ndarray, mean: Sequence[float], std: Sequence[float], is_rgb: bool, out: np.ndarray
) -> None:
    """Write one picture's part of the network input into `out`, (3, H, W) float32; see `to_blob`.

    A look-up per byte is as exact as the arithmetic; measured 0.4 ms per 640 x 640 image, numpy takes 2.0
    and cv2.dnn.blobFromImages 2.9.
    """
    plane = reused("plane", canvas.shape[:2])
    for number, (m, s, to) in enumerate(zip(mean, std, out, strict=True)):
        cv2.extractChannel(canvas, 2 - number if is_rgb else number, plane)
        cv2.LUT(plane, (np.arange(256, dtype=np.float32) - m) / np.float32(s), dst=to)
