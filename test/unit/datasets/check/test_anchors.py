"""Faces that no anchor learns, counted against one that cannot be missed."""

from dataclasses import replace

import numpy as np
import pytest

from mmdet.config import load_config
from mmdet.datasets.check import anchors
from mmdet.datasets.check.anchors import find_unlearned
from mmdet.datasets.labels import read_labels

FIXED = ["data.train.pipeline.2.crop_choice=[1.0]", "data.train.pipeline.4.flip_ratio=0.0"]


@pytest.fixture
def labels_of(tmp_path):
    def make(text):
        (tmp_path / "a.txt").write_text(text)
        return read_labels(tmp_path / "a.txt", train=True)

    return make


@pytest.fixture
def cfg(repo):
    return load_config(repo / "configs/scrfd/scrfd_500m_bnkps.py", FIXED)


def test_a_face_of_a_pixel_has_no_anchor_and_a_large_one_has(labels_of, cfg):
    # 640 px as they are: an 8 x 8 grid of centres; a face between four of them holds none
    lines = ["# a.jpg 640 640", "100 100 180 180 0", "201 201 203 203 0", "10 10 500 500 0", "1 1 9 9 1"]
    (found,) = find_unlearned(labels_of("\n".join(lines)), cfg)
    assert (found.count, found.is_error) == (1, False)
    assert found.what == "of 3 faces, in crops of 1 images as training makes them, get no anchor"
    assert found.examples == ["1 of 1 faces of 0 to 4 px in the input"]


def test_nothing_to_tell(labels_of, cfg):
    large = labels_of("# a.jpg 640 640\n100 100 180 180 0\n# b.jpg 640 640\n90 90 190 190 0\n")
    assert find_unlearned(large, cfg) == []
    assert find_unlearned(replace(large, sizes_hw=np.zeros((2, 2), np.int32)), cfg) == []


def test_many_images_are_sampled(labels_of, cfg, monkeypatch):
    monkeypatch.setattr(anchors, "MOST_IMAGES", 20)
    lines = [f"# {i}.jpg 640 640\n201 201 203 203 0" for i in range(100)]
    (found,) = find_unlearned(labels_of("\n".join(lines)), cfg)
    assert found.count == 20 and "crops of 20 images" in found.what
