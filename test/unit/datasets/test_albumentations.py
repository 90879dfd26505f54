"""Transforms of the package albumentations inside our pipeline; skipped where it is missing."""

import sys

import numpy as np
import pytest

from mmdet.core.structures import Sample
from mmdet.datasets.transforms import Albumentations
from mmdet.errors import ConfigError

CHANNELS = dict(type="ToGray", p=1.0)
NOISY = [dict(type="GaussNoise", p=1.0), dict(type="CLAHE", clip_limit=(2.0, 4.0), p=0.5)]


@pytest.fixture
def sample():
    image = np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)
    none = np.zeros((0, 4), np.float32)
    kps = np.zeros((1, 5, 3), np.float32)
    bboxes = np.array([[1, 2, 30, 20]], np.float32)
    return Sample(image, bboxes, np.zeros(1, np.int64), kps, none, "a.jpg", (40, 60))


def run(steps, sample, seed=0):
    pytest.importorskip("albumentations", reason="albumentations is not installed (extra [albumentations])")
    transform = Albumentations(steps=steps)
    return transform.apply(sample, transform.draw(np.random.RandomState(seed), sample))


def test_the_package_sees_rgb_and_leaves_the_faces(sample):
    found = run([CHANNELS], sample)
    red, green, blue = (sample.image[..., channel].astype(float) for channel in (2, 1, 0))
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(found.image - gray[..., None]).max() <= 1
    assert np.array_equal(found.gt_bboxes, sample.gt_bboxes)
    assert found.image.flags.c_contiguous


def test_the_draw_decides_alone(sample):
    once, again, other = (run(NOISY, sample, seed).image for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert not np.array_equal(once, sample.image)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (dict(type="HorizontalFlip"), "'HorizontalFlip' is not an ImageOnlyTransform"),
        (dict(type="NoSuchThing"), "'NoSuchThing' is not an ImageOnlyTransform"),
        (dict(p=1.0), "None is not an ImageOnlyTransform"),
        (dict(type="CLAHE", clip_limit="much"), "CLAHE refuses its arguments"),
    ],
)
def test_what_would_move_boxes_or_has_no_meaning_is_refused(step, message, sample):
    with pytest.raises(ConfigError, match=message):
        run([step], sample)


def test_float_images_are_refused(sample):
    with pytest.raises(ConfigError, match="8-bit images"):
        run([CHANNELS], sample.replace(image=sample.image.astype(np.float32)))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ConfigError, match=r"cannot import albumentations .*\[albumentations\]"):
        Albumentations(steps=[CHANNELS])
