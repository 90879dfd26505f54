"""The validation set that is split off: which images, by what."""

import pytest

from mmdet.datasets.labels import read_labels
from mmdet.datasets.labels.prepare import split
from mmdet.errors import DataError


def label_file(path, names):
    path.write_text("".join(f"# {name} 100 100\n10 10 50 50 0\n" for name in names))
    return read_labels(path, train=True)


def test_the_parts_make_up_the_whole_and_stay_when_images_come(tmp_path):
    names = [f"a/{i}.jpg" for i in range(500)]
    labels = label_file(tmp_path / "a.txt", names)
    val, train = split(labels, 0.1, True), split(labels, 0.1, False)
    assert sorted(val.names + train.names) == sorted(names)
    assert 30 <= len(val) <= 70
    assert val.names[:3] == ("a/6.jpg", "a/20.jpg", "a/23.jpg")  # for ever: SHA-256 begins 11c7, 0b4d, 0507
    more = split(label_file(tmp_path / "b.txt", [*names[::-1], "b/0.jpg", "b/1.jpg"]), 0.1, True)
    assert set(more.names) - {"b/0.jpg", "b/1.jpg"} == set(val.names)
    assert set(val.names) <= set(split(labels, 0.3, True).names)  # a larger share keeps them


def test_too_few_images(tmp_path):
    labels = label_file(tmp_path / "a.txt", ["a/0.jpg"])
    with pytest.raises(DataError, match="val_split = 0.1 of 1 images leaves none for validation"):
        split(labels, 0.1, True)
