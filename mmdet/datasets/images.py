"""Read an image file as 8-bit BGR, whatever is inside."""

from pathlib import Path

import cv2
import numpy as np

from mmdet.errors import DataError


class UnreadableImageError(DataError):
    """An image file that is missing or cannot be decoded."""


def read_image(path: str | Path, label_hw: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a file as the reference does (OpenCV, colour).

    Gray becomes three equal channels, an alpha channel is dropped, 16 bits become 8, and the EXIF
    orientation is applied, unless the label file was made for the unrotated picture: if height and
    width match `label_hw` only without the rotation, the picture is not rotated. Orientations that keep
    the size (180 degrees, mirrored) are always applied, since the size cannot tell.

    Args:
        path: the file.
        label_hw: height and width the label file states, None if there is none.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        UnreadableImageError: the file is missing, empty or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UnreadableImageError(f"image {path}: {error.strerror or error}") from None
    image = _decode(data, cv2.IMREAD_COLOR)
    if image is None:
        reason = "is empty" if not len(data) else "cannot be decoded"
        raise UnreadableImageError(f"image {path} {reason}")
    if label_hw is not None and image.shape[:2] != label_hw and image.shape[1::-1] == label_hw:
        unrotated = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if unrotated is not None and unrotated.shape[:2] == label_hw:
            return unrotated
    return image


def _decode(data: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:  # empty buffer, or a size beyond OpenCV's limit
        return None
