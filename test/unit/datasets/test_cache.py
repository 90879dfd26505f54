import os

import cv2
import numpy as np
import pytest

from mmdet.datasets.cache import DecodedCache
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms import Compose
from mmdet.errors import ConfigError, DataError

SIZES = [(40, 60), (60, 40), (50, 50)]
EACH_GIB = 40 * 60 * 3 / 2**30


@pytest.fixture
def folder(tmp_path):
    rng = np.random.RandomState(0)
    lines = []
    for number, (height, width) in enumerate(SIZES):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), rng.randint(0, 256, (height, width, 3), np.uint8))
        lines += [f"# {number}.jpg {width} {height}", "5 5 20 20 0"]
    (tmp_path / "label.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def make(folder, **options):
    return FacesDataset(folder / "label.txt", folder, Compose([]), **options)


def test_the_same_pixels_with_and_without(folder, tmp_path):
    plain, cached = make(folder), make(folder, cache_dir=tmp_path / "cache", cache_gib=1)
    for _ in range(2):  # decoded, then from the cache
        for index in range(3):
            np.testing.assert_array_equal(cached.load(index).image, plain.load(index).image)
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert not cached.load(0).image.flags.writeable


def test_an_entry_is_used_until_the_picture_changes(folder, tmp_path):
    cached = make(folder, cache_dir=tmp_path / "cache", cache_gib=1)
    before = np.array(cached.load(0).image)
    path = folder / "0.jpg"
    about = path.stat()
    path.write_bytes(b"x" * about.st_size)  # ruined, but of the same size and time
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    np.testing.assert_array_equal(cached.load(0).image, before)

    cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
    assert cached.load(0).image.max() == 0


def test_the_limit_keeps_the_first_images(folder, tmp_path):
    cached = make(folder, cache_dir=tmp_path / "cache", cache_gib=2.5 * EACH_GIB)
    for index in range(3):
        cached.load(index)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_picture_of_another_size_than_labelled_is_not_kept(folder, tmp_path):
    cv2.imwrite(str(folder / "0.jpg"), np.zeros((10, 10, 3), np.uint8))
    cached = make(folder, cache_dir=tmp_path / "cache", cache_gib=1)
    assert cached.load(0).image.shape == (10, 10, 3)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_can_be_wrong(folder, tmp_path):
    with pytest.raises(ConfigError, match="cache_gib = 0"):
        make(folder, cache_dir=tmp_path / "cache")
    with pytest.raises(ConfigError, match="label.txt"):
        make(folder, cache_dir=folder / "label.txt", cache_gib=1)
    cache = DecodedCache(tmp_path / "gone", 1, np.array(SIZES))
    (tmp_path / "gone").rmdir()
    with pytest.raises(DataError, match="lower cache_gib"):
        cache.put(0, folder / "0.jpg", np.zeros((40, 60, 3), np.uint8))
