"""Picture to network input, rounded and padded as the reference does."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from mmdet.deploy.runtime.letterbox import fit_size, letterbox, reused, to_blob


@pytest.mark.parametrize(
    ("image_hw", "want"),
    [
        ((886, 1280), (443, 640, 443 / 886)),
        ((1280, 886), (640, 443, 0.5)),
        ((480, 640), (480, 640, 1.0)),
        ((640, 640), (640, 640, 1.0)),
        ((683, 1024), (426, 640, 426 / 683)),  # 426.875: rounded down, and the factor is the rounded one
        ((1, 1), (640, 640, 640.0)),
        ((2, 12000), (1, 640, 640 / 12000)),  # 0.107 rows: at least one, and the width's factor
        ((12000, 2), (640, 1, 640 / 12000)),
        ((12000, 12000), (640, 640, 640 / 12000)),
    ],
)
def test_sizes(image_hw, want):
    height, width, scale = fit_size(image_hw, (640, 640))
    assert (height, width) == want[:2] and scale == pytest.approx(want[2], rel=1e-12)


def test_an_input_that_is_no_square():
    assert fit_size((100, 100), (320, 480)) == (320, 320, 3.2)
    assert fit_size((100, 300), (320, 480)) == (160, 480, 1.6)


def test_the_picture_is_top_left_on_black():
    image = np.full((10, 20, 3), 200, np.uint8)
    canvas, scale = letterbox(image, (64, 64))
    assert scale == 3.2 and canvas.shape == (64, 64, 3)
    assert (canvas[:32] == 200).all() and (canvas[32:] == 0).all()
    np.testing.assert_array_equal(image, 200)


def test_a_part_of_the_canvas_may_be_filled():
    canvas, scale = letterbox(np.full((10, 20, 3), 7, np.uint8), (64, 64), (32, 32))
    assert scale == 1.6 and canvas[:16, :32].min() == 7 and canvas.sum() == 7 * 16 * 32 * 3


def test_pixels_are_those_of_opencv():
    image = np.random.RandomState(0).randint(0, 256, (37, 53, 3)).astype(np.uint8)
    canvas, _ = letterbox(image, (96, 96))
    np.testing.assert_array_equal(canvas[:67, :96], cv2.resize(image, (96, 67)))


@pytest.mark.parametrize("is_rgb", [True, False])
def test_blob_is_the_arithmetic(is_rgb):
    rng = np.random.RandomState(1)
    canvases = [rng.randint(0, 256, (8, 6, 3)).astype(np.uint8) for _ in range(3)]
    mean, std = (127.5, 100.0, 1.5), (128.0, 50.0, 3.0)
    blob = to_blob(canvases, mean, std, is_rgb)
    pixels = np.stack(canvases)[..., ::-1] if is_rgb else np.stack(canvases)
    want = (pixels.astype(np.float64) - mean) / std
    np.testing.assert_allclose(blob, want.transpose(0, 3, 1, 2), atol=1e-6)
    assert blob.dtype == np.float32 and blob.flags.c_contiguous


def test_blob_is_opencvs_to_the_last_bit():
    canvas = np.arange(192).reshape(8, 8, 3).astype(np.uint8)
    want = cv2.dnn.blobFromImage(canvas, 1 / 128, (8, 8), (127.5, 127.5, 127.5), swapRB=True)
    np.testing.assert_array_equal(to_blob([canvas], (127.5,) * 3, (128.0,) * 3), want)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("hw", [(20, 50), (50, 20)])
def test_a_used_canvas_is_overwritten_whole(hw, dtype):
    image = np.random.RandomState(0).randint(0, 256, (*hw, 3)).astype(dtype)
    canvas = np.full((64, 96, 3), 9, np.uint8)
    got, _ = letterbox(image, (64, 96), (32, 64), canvas)
    assert got is canvas and np.array_equal(got, letterbox(image, (64, 96), (32, 64))[0])
    assert got[:, 64:].max() == got[32:].max() == 0


def test_memory_is_used_again_by_the_same_thread_only():
    first = reused("test", (2, 3))
    assert np.shares_memory(first, reused("test", (3, 1))) and reused("test", (4, 4)).shape == (4, 4)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(reused, "test", (4, 4)).result()
    assert not np.shares_memory(other, reused("test", (4, 4)))
