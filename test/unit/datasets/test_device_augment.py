"""The batched colour changes against the transforms they replace."""

import numpy as np
import pytest
import torch

from mmdet.core.structures import Batch
from mmdet.datasets.build import build_pipeline
from mmdet.datasets.collate import Collate
from mmdet.datasets.device_augment import FinishImages, encode, leave_colours_to_device
from mmdet.datasets.transforms import make_sample
from mmdet.datasets.transforms.color import Distortion, Normalize, PhotoMetricDistortion
from mmdet.errors import ConfigError

NORMALIZE = dict(mean=(127.5, 120.0, 110.0), std=(128.0, 64.0, 32.0))
STEPS = [
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="LoadAnnotations", with_keypoints=True),
    dict(type="RandomSquareCrop", crop_choice=[0.5, 1.0, 1.5]),
    dict(type="Resize", img_scale=(64, 64), keep_ratio=False),
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="Normalize", mean=[127.5] * 3, std=[128.0] * 3),
]
GRAY_LEVEL = 1 / 128


def raw_batch(images, ops):
    """Return a batch as the loader makes it; only pixels matter."""
    zeros = torch.zeros(len(images), 1)
    return Batch(torch.from_numpy(images), *[zeros] * 6, pixel_ops=torch.from_numpy(np.stack(ops)))


def finish(images, changes, to_rgb=True):
    normalize = Normalize(**NORMALIZE, to_rgb=to_rgb)
    return FinishImages(normalize)(raw_batch(images, [encode(c) for c in changes])).images.numpy()


def on_the_host(image, change, to_rgb=True):
    sample = PhotoMetricDistortion().apply(make_sample(image.astype(np.float32)), change)
    return Normalize(**NORMALIZE, to_rgb=to_rgb).apply(sample).image.transpose(2, 0, 1)


CHANGES = [
    Distortion(),
    Distortion(brightness=-31.5),
    Distortion(brightness=30.0, contrast=0.6, contrast_first=True),
    Distortion(contrast=1.4),
    Distortion(saturation=1.5, hue=17.0),
    Distortion(saturation=0.5, hue=-17.0),
    Distortion(channels=(2, 0, 1)),
    Distortion(is_gray=True, channels=(1, 2, 0)),
    Distortion(-32.0, True, 1.5, 1.5, -18.0, (1, 0, 2)),
]


@pytest.mark.parametrize("to_rgb", [True, False])
def test_a_batch_of_all_changes_equals_the_transforms(to_rgb):
    images = np.random.RandomState(0).randint(0, 256, (len(CHANGES), 40, 50, 3), np.uint8)
    images[:, :10] = images[:, :10, :, :1]  # grey: no hue, no saturation
    images[:, 10:12] = 0
    got = finish(images, CHANGES, to_rgb)
    for row, change in enumerate(CHANGES):
        np.testing.assert_allclose(
            got[row], on_the_host(images[row], change, to_rgb), rtol=0, atol=2e-5, err_msg=str(change)
        )


def test_by_hand():
    # Brightness 10 makes (b, g, r) = (20, 30, 40) into (30, 40, 50), the channel order (2, 1, 0) turns that
    # into (50, 40, 30), and RGB is (30, 40, 50).
    image = np.full((1, 2, 2, 3), (20, 30, 40), np.uint8)
    got = finish(image, [Distortion(brightness=10.0, channels=(2, 1, 0))])[0, :, 0, 0]
    np.testing.assert_allclose(got, [(30 - 127.5) / 128, (40 - 120) / 64, (50 - 110) / 32], atol=1e-6)


class Faces:
    """As much of a data set as `leave_colours_to_device` needs."""

    def __init__(self, steps):
        self.pipeline, self.closing_pipeline = build_pipeline(steps), None

    def sample(self, seed):
        rng = np.random.RandomState(seed)
        y, x = np.mgrid[0:96, 0:128]
        smooth = 128 + 100 * np.sin(x / 9 + seed)[..., None] * np.cos(y[..., None] / np.array([7, 11, 13]))
        sample = make_sample(smooth.astype(np.uint8)).replace(
            gt_bboxes=np.array([[40, 30, 70, 60], [80, 50, 100, 80]], np.float32),
            gt_labels=np.zeros(2, np.int64),
            gt_kps=rng.uniform(40, 60, (2, 5, 3)).astype(np.float32),
        )
        return self.pipeline(sample, np.random.RandomState(seed))


def test_whole_pipeline_same_faces_and_pixels_up_to_rounding():
    host, device = Faces(STEPS), Faces(STEPS)
    finish_images = leave_colours_to_device(device)
    collate = Collate((4,))
    want = collate([host.sample(seed) for seed in range(24)])
    raw = collate([device.sample(seed) for seed in range(24)])
    assert raw.images.dtype == torch.uint8 and raw.images.shape == (24, 64, 64, 3)
    got = finish_images(raw)
    assert got.images.shape == want.images.shape and got.pixel_ops is None
    for name in ("gt_bboxes", "gt_kps", "gt_valid", "valid_hw"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
    # Rounding moves a pixel by half a grey level, contrast and saturation stretch that.
    error = got.images - want.images
    assert error.abs().mean() < 0.5 * GRAY_LEVEL
    assert error.abs().max() < 4 * GRAY_LEVEL
    assert abs(error.mean()) < 0.15 * GRAY_LEVEL  # OpenCV's 8-bit resize rounds down a little more than up
    assert abs(got.images.std() / want.images.std() - 1) < 2e-3


def test_a_finished_batch_passes_unchanged():
    batch = Collate((4,))([Faces(STEPS).sample(0)])
    assert FinishImages(Normalize(**NORMALIZE))(batch) is batch


@pytest.mark.parametrize("left_out", ["Resize", "PhotoMetricDistortion", "Normalize"])
def test_other_pipelines_are_refused(left_out):
    with pytest.raises(ConfigError, match="device_augment needs"):
        leave_colours_to_device(Faces([step for step in STEPS if step["type"] != left_out]))
