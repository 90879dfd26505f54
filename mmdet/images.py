"""Read an image file as 8-bit BGR, whatever is inside."""

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np

from mmdet.errors import DataError
from mmdet.files import recognise_bytes
from mmdet.process import MAX_IMAGE_PIXELS

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 1 << 20  # of a JPEG file; in them is the frame's size
_EXIF_ORIENTATION = 0x0112
_STRAIGHT_ALPHA = (0x0152, 2)  # TIFF's ExtraSamples: unassociated
_JPEG_NO_FRAME = (0xC4, 0xC8, 0xCC)  # in the range of frame headers, but tables


AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
TWELVE_BITS = 15  # the highest value after OpenCV has cut 16 bits to 8


class UnreadableImageError(DataError):
    """An image file that is missing or cannot be decoded."""


class TooManyPixelsError(UnreadableImageError):
    """An image file whose header states more pixels than OpenCV is allowed to decode."""


def quiet_opencv() -> None:
    """Silence the warnings that OpenCV and its FFmpeg print; failures are raised as errors.

    To be called before the first video is opened. Warnings of libpng are not affected.
    """
    in_opencv_5 = getattr(cv2.utils, "logging", cv2)
    in_opencv_5.setLogLevel(0)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def read_image(path: str | Path, label_hw: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a file as the reference does (OpenCV, colour).

    Gray becomes three equal channels, an alpha channel is dropped, 16 bits become 8, and the EXIF
    orientation is applied, unless the label file was made for the unrotated image: if height and
    width match `label_hw` only without the rotation, the image is not rotated. Orientations that keep
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
    image = decode_image(data, f"image {path}")
    if label_hw is not None and image.shape[:2] != label_hw and image.shape[1::-1] == label_hw:
        unrotated = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if unrotated is not None and unrotated.shape[:2] == label_hw:
            return unrotated
    return image


def decode_image(data: np.ndarray, name: str) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR of an encoded file's bytes (n,) uint8; see `read_image`.

    Raises:
        UnreadableImageError: "<name> is empty" or "<name> cannot be decoded".
        TooManyPixelsError: more than MAX_IMAGE_PIXELS, or OPENCV_IO_MAX_IMAGE_PIXELS of the environment.
    """
    if _brand(data) in HEIC_BRANDS:
        return _decode_heic(data, name)
    try:
        image = _decode(data, cv2.IMREAD_COLOR) if _is_bounded(data) else None
    except TooManyPixelsError:
        raise TooManyPixelsError(f"{name} has too many pixels to be decoded") from None
    if image is None:
        reason = recognise_bytes(data[:256].tobytes()) or "cannot be decoded"
        raise UnreadableImageError(f"{name} {reason if len(data) else 'is empty'}")
    if _brand(data) in AVIF_BRANDS:
        return _turn(image, data)
    return image if _is_jpeg(data) or image.max() > TWELVE_BITS else _brighten(image, data)


def read_pages(path: str | Path) -> tuple[np.ndarray, ...]:
    """Return all pages of a TIFF, or frames of an animated PNG, WebP, AVIF or GIF, as (H, W, 3) uint8 BGR.

    Raises:
        UnreadableImageError: it cannot be read, or its first image would take too much memory.
    """
    read_image(path)  # refuses what is too large; OpenCV reads all pages of any size
    try:
        is_read, images = cv2.imdecodemulti(_with_plain_alpha(np.fromfile(path, np.uint8)), cv2.IMREAD_COLOR)
    except cv2.error:
        is_read = False
    if not is_read:
        raise UnreadableImageError(f"{path}: cannot be decoded")
    return images


def _is_bounded(data: np.ndarray) -> bool:
    """Say whether decoding takes memory as the file's size and its header announce.

    OpenCV limits the pixels by itself only if the limit was set before it was imported. And it allocates what
    a PNG chunk states as its length, up to 4 GiB, before it looks whether so much is there.

    Raises:
        TooManyPixelsError: the header states more than the limit.
    """
    head = data[:_HEADER_BYTES].tobytes()
    try:
        height, width = _header_size(io.BytesIO(head)) or (0, 0)
    except struct.error:  # OpenCV may still make sense of it
        height, width = 0, 0
    if height * width > int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", MAX_IMAGE_PIXELS)):
        raise TooManyPixelsError(f"{width}x{height}")
    return not head.startswith(_PNG) or _has_whole_chunks(memoryview(data))


def _has_whole_chunks(data: memoryview) -> bool:
    """Say whether each chunk of a PNG file ends inside the file."""
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if kind == b"IEND":
            break
    return position <= len(data)


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Return the height and width that `read_image` would give.

    JPEG and PNG files are not decoded: their headers are read, a few hundred bytes.

    Raises:
        UnreadableImageError: as `read_image`.
    """
    try:
        with open(path, "rb") as file:
            size_hw = _header_size(file)
    except OSError as error:
        raise UnreadableImageError(f"image {path}: {error.strerror or error}") from None
    except struct.error:  # the file ends inside its header
        size_hw = None
    if size_hw is not None:
        return size_hw
    height, width = read_image(path).shape[:2]
    return height, width


def _header_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return height and width of a JPEG or PNG file; None if only decoding can tell."""
    start = file.read(8)
    if start == _PNG:
        return _png_size(file)
    if not start.startswith(b"\xff\xd8"):
        return None
    file.seek(2)
    is_turned = False
    while True:
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF:
            return None
        if 0xC0 <= kind <= 0xCF and kind not in _JPEG_NO_FRAME:
            height, width = struct.unpack_from(">HH", file.read(5), 1)
            if not height:
                return None
            return (width, height) if is_turned else (height, width)
        if kind == 0xE1:
            is_turned = _exif_orientation(file.read(length - 2)) >= 5 or is_turned
        else:
            file.seek(length - 2, os.SEEK_CUR)


def _png_size(file: BinaryIO) -> tuple[int, int] | None:
    length, kind, width, height = struct.unpack(">I4sII", file.read(16))
    if kind != b"IHDR":
        return None
    file.seek(length - 4, os.SEEK_CUR)
    while kind != b"IDAT":
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"eXIf":  # may turn the image
            return None
        file.seek(length + 4, os.SEEK_CUR)
    return height, width


def _exif_orientation(segment: bytes) -> int:
    """Return the orientation of an APP1 segment, 1 if there is none; 5 to 8 exchange the sides."""
    if not segment.startswith(b"Exif\0\0"):
        return 1
    tiff = segment[6:]
    entries, _ = _tiff_directory(tiff, int.from_bytes(tiff[4:8], _byte_order(tiff)))
    return next((value for tag, value, _ in entries if tag == _EXIF_ORIENTATION), 1)


def _byte_order(tiff: bytes) -> Literal["little", "big"]:
    return "little" if tiff[:2] == b"II" else "big"


def _tiff_directory(tiff: bytes, first: int) -> tuple[list[tuple[int, int, int]], int]:
    """Return tag, 16-bit value and its place for each entry of a directory, and where the next one begins."""
    sign = "<" if _byte_order(tiff) == "little" else ">"
    (count,) = struct.unpack_from(f"{sign}H", tiff, first)
    end = first + 2 + 12 * count
    entries = [(*struct.unpack_from(f"{sign}H6xH", tiff, at), at + 8) for at in range(first + 2, end, 12)]
    return entries, int.from_bytes(tiff[end : end + 4], _byte_order(tiff))


def _with_plain_alpha(data: np.ndarray) -> np.ndarray:
    """Return a TIFF that says its colours hold its alpha already, or libtiff multiplies it into them.

    An alpha channel is dropped, so what is transparent keeps its colours, as in other formats.
    """
    tiff = data[:4].tobytes()
    if tiff not in (b"II*\0", b"MM\0*"):
        return data
    tiff, changed, seen = data.tobytes(), data.copy(), {0}
    first = int.from_bytes(tiff[4:8], _byte_order(tiff))
    try:
        while first not in seen:  # a page after the other
            seen.add(first)
            entries, first = _tiff_directory(tiff, first)
            for place in (place for tag, value, place in entries if (tag, value) == _STRAIGHT_ALPHA):
                changed[place : place + 2] = list((1).to_bytes(2, _byte_order(tiff)))
    except struct.error:  # OpenCV may still make sense of it
        return data
    return changed


def _is_jpeg(data: np.ndarray) -> bool:
    return data[:2].tobytes() == b"\xff\xd8"


def _brand(data: np.ndarray) -> bytes:
    """Return what kind of an ISO media file this is, "avif" for example; b"" if it is none."""
    head = data[:12].tobytes()
    return head[8:12] if head[4:8] == b"ftyp" else b""


def _turn(image: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return an AVIF image upright: OpenCV leaves out the rotation, then the mirror, that the file states."""
    head = data[:4096].tobytes()
    place = head.find(b"\0\0\0\x09irot")
    quarters = head[place + 8] & 3 if place >= 0 else 0  # counter-clockwise
    image = cv2.rotate(image, ROTATIONS[quarters]) if quarters else image
    place = head.find(b"\0\0\0\x09imir")
    return cv2.flip(image, head[place + 8] & 1) if place >= 0 else image  # 0: top to bottom


def _brighten(image: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return an image of 16 bits that uses 12 of them, as cameras write, or 8 in its full range."""
    deep = _decode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if deep is None or deep.dtype != np.uint16:
        return image
    return (deep >> (4 if deep.max() > 255 else 0)).clip(0, 255).astype(np.uint8)


def _decode_heic(data: np.ndarray, name: str) -> np.ndarray:
    """Return the pixels of an iPhone's photo, which needs a library of its own."""
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImageError(
            f"{name} is HEIC: pip install 'scrfd-trainer[heic]', or convert it (heif-convert a.heic a.jpg)"
        ) from None
    try:
        pixels = np.asarray(pillow_heif.read_heif(data.tobytes()).to_pillow().convert("RGB"))
    except Exception as error:  # its library raises several kinds
        raise UnreadableImageError(f"{name} cannot be decoded: {error}") from None
    return np.ascontiguousarray(pixels[..., ::-1])


def as_bgr(image: np.ndarray, name: str) -> np.ndarray:
    """Return (H, W, 3) BGR pixels of an array a user gives, uint8 or, if it was floating, float32.

    Args:
        image: (H, W), (H, W, 1) gray, (H, W, 3) BGR or (H, W, 4) BGRA, values 0..255.
        name: for messages.

    Raises:
        DataError: another shape or type, or values that lie between 0 and 1.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"{name}: expected a path or an array, got {type(image).__name__}.")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise DataError(f"{name}: shape {image.shape}, expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise DataError(f"{name}: {image.dtype} pixels, expected uint8, or floats from 0 to 255.")
    if image.dtype != np.uint8 and 0 < image.max() <= 1 and (image % 1).any():
        raise DataError(f"{name}: values from 0 to 1, expected 0 to 255; multiply by 255.")
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    pixels = image[..., :3] if image.dtype == np.uint8 else image[..., :3].astype(np.float32)
    return np.ascontiguousarray(pixels)


def _decode(data: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(_with_plain_alpha(data), flags)
    except cv2.error as error:  # empty buffer, or a size beyond OpenCV's limit
        if "CV_IO_MAX_IMAGE" in str(error):
            raise TooManyPixelsError(str(error)) from None
        return None
