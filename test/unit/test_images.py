import resource
import struct
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet.images import (
    TooManyPixelsError,
    UnreadableImageError,
    decode_image,
    read_image,
    read_image_size,
    read_pages,
)


def encode(image, suffix=".png"):
    ok, data = cv2.imencode(suffix, image)
    assert ok
    return data.tobytes()


def with_exif_orientation(jpeg, orientation):
    """Put an APP1 segment with one tag (0x0112) behind the start-of-image marker."""
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def write(tmp_path, data, name="x"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_gray_alpha_and_16_bit_become_8_bit_bgr(tmp_path):
    gray = np.full((4, 6), 77, np.uint8)
    assert (read_image(write(tmp_path, encode(gray))) == 77).all()
    alpha = np.zeros((4, 6, 4), np.uint8)
    alpha[..., 0], alpha[..., 3] = 200, 10
    image = read_image(write(tmp_path, encode(alpha)))
    assert image.shape == (4, 6, 3) and image[0, 0].tolist() == [200, 0, 0]
    deep = np.full((4, 6, 3), 0x8000, np.uint16)
    image = read_image(write(tmp_path, encode(deep)))
    assert image.dtype == np.uint8 and (image == 128).all()


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_a_transparent_tiff_keeps_its_colours(tmp_path, alpha):
    pixels = np.random.RandomState(0).randint(0, 256, (20, 31, 4)).astype(np.uint8)
    pixels[..., 3] = alpha
    pages = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels[..., 2::-1])
    for page, want in zip(read_pages(tmp_path / "a.tif"), (pixels, pixels[::-1]), strict=True):
        np.testing.assert_array_equal(page, want[..., 2::-1])
    cut = (tmp_path / "a.tif").read_bytes()[:-40]
    assert read_image(write(tmp_path, cut + b"\0" * 40, "b.tif")).shape == (20, 31, 3)


def test_8_bits_in_16_are_not_black(tmp_path):
    dark = np.arange(72, dtype=np.uint16).reshape(4, 6, 3) * 3
    np.testing.assert_array_equal(read_image(write(tmp_path, encode(dark))), dark)
    assert read_image(write(tmp_path, encode(dark << 4))).max() == dark.max()
    assert not read_image(write(tmp_path, encode(0 * dark))).any()


def test_exif_orientation_follows_the_label_file(tmp_path):
    jpeg = encode(np.full((40, 60, 3), 90, np.uint8), ".jpg")
    path = write(tmp_path, with_exif_orientation(jpeg, 6))  # 6: rotate by 90 degrees to show
    assert read_image(path).shape == (60, 40, 3)
    assert read_image(path, label_hw=(60, 40)).shape == (60, 40, 3)
    assert read_image(path, label_hw=(40, 60)).shape == (40, 60, 3)
    assert read_image(path, label_hw=(999, 60)).shape == (60, 40, 3)


def test_names_beyond_ascii(tmp_path):
    path = write(tmp_path, encode(np.zeros((4, 6), np.uint8)), "聚会.png")
    assert read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("data", "reason"), [(None, "No such file"), (b"", "is empty"), (b"not an image", "cannot be decoded")]
)
def test_unreadable_files_say_why(tmp_path, data, reason):
    path = tmp_path / "bad.jpg"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=f"bad.jpg.*{reason}"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (1, 1, 3)])
def test_size_is_that_of_the_decoded_image(tmp_path, suffix, shape):
    path = write(tmp_path, encode(np.full(shape, 90, np.uint8), suffix))
    assert read_image_size(path) == shape[:2] == read_image(path).shape[:2]


@pytest.mark.parametrize(
    ("orientation", "size_hw"), [(1, (40, 60)), (4, (40, 60)), (5, (60, 40)), (8, (60, 40))]
)
def test_size_follows_the_exif_orientation(tmp_path, orientation, size_hw):
    jpeg = encode(np.full((40, 60, 3), 90, np.uint8), ".jpg")
    path = write(tmp_path, with_exif_orientation(jpeg, orientation))
    assert read_image_size(path) == size_hw == read_image(path).shape[:2]


def test_size_is_read_without_decoding(tmp_path):
    """The pixels of these files are cut off; only the headers are there."""
    for suffix in (".jpg", ".png"):
        data = encode(np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8), suffix)
        assert read_image_size(write(tmp_path, data[: 700 if suffix == ".jpg" else 60])) == (40, 60)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00", b"\x89PNG\r\n\x1a\n", b"text"])
def test_size_of_no_image(tmp_path, data):
    with pytest.raises(UnreadableImageError, match="cannot be decoded|is empty"):
        read_image_size(write(tmp_path, data))
    with pytest.raises(UnreadableImageError, match="No such file"):
        read_image_size(tmp_path / "absent.jpg")


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def png_with_chunk_length(png, kind, length):
    """Write another length into the head of the first chunk of a kind."""
    at = png.index(kind) - 4
    return png[:at] + struct.pack(">I", length) + png[at + 4 :]


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_png_chunk_longer_than_its_file_is_refused_at_once(kind):
    png = encode(np.full((40, 60, 3), 90, np.uint8))
    before, start = peak_mib(), time.monotonic()
    for length in (len(png), 2**31 - 1, 2**32 - 1):
        data = np.frombuffer(png_with_chunk_length(png, kind, length), np.uint8)
        with pytest.raises(UnreadableImageError, match="x.png cannot be decoded"):
            decode_image(data, "x.png")
    assert peak_mib() - before < 100 and time.monotonic() - start < 5


def test_the_png_of_69_bytes(shared):
    path = shared / "cases/attack/02_png_69_bytes_4GiB.png"
    before = peak_mib()
    with pytest.raises(UnreadableImageError, match="69_bytes_4GiB.png cannot be decoded"):
        read_image(path)
    assert peak_mib() - before < 100


@pytest.mark.parametrize(("suffix", "place"), [(".png", 16), (".bmp", 18), (".jpg", None)])
def test_more_pixels_than_the_limit_are_refused_by_the_header(tmp_path, monkeypatch, suffix, place):
    """Where OpenCV was imported before the limit was set, too: PNG and JPEG headers are read here."""
    data = bytearray(encode(np.full((40, 60, 3), 90, np.uint8), suffix))
    if place is None:  # a whole image, of more pixels than are allowed now
        monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "2399")
    else:
        data[place : place + 8] = struct.pack(">II" if suffix == ".png" else "<II", 30_000, 30_000)
    before = peak_mib()
    with pytest.raises((TooManyPixelsError, UnreadableImageError), match="too many pixels|cannot be decoded"):
        decode_image(np.frombuffer(bytes(data), np.uint8), "x")
    assert peak_mib() - before < 100
