"""Records, flat arrays, and what a data set leaves out; numbers by hand."""

import numpy as np
import pytest

from mmdet.datasets.labels import LABEL_READERS, LabelFile, Record, read_labels
from mmdet.datasets.labels.base import join_records
from mmdet.datasets.labels.prepare import prepare
from mmdet.errors import ConfigError


def record(name="a.jpg", faces=(), ignore=(), labels=None, size_hw=(100, 200), num_kps=2):
    faces, ignore = (np.array(b, np.float32).reshape(-1, 4) for b in (faces, ignore))
    labels = np.zeros(len(faces), np.int64) if labels is None else np.array(labels)
    kps = np.arange(len(faces) * num_kps * 3, dtype=np.float32).reshape(len(faces), num_kps, 3)
    return Record(name, faces, labels, kps, ignore, size_hw)


def test_records_come_back_as_they_were_joined():
    one = record(faces=[[1, 2, 3, 4], [5, 6, 7, 8]], ignore=[[0, 0, 9, 9]], labels=[1, 0])
    none = record("b.jpg", size_hw=None)
    last = record("c.jpg", ignore=[[1, 1, 2, 2]])
    joined = join_records([one, none, last], num_kps=2, classes=("mask", "face"))
    assert joined.names == ("a.jpg", "b.jpg", "c.jpg") and joined.classes == ("mask", "face")
    assert joined.offsets.tolist() == [0, 3, 3, 4] and joined.is_ignored.tolist() == [
        False,
        False,
        True,
        True,
    ]
    for want, got in zip([one, none, last], joined, strict=True):
        assert (got.name, got.size_hw) == (want.name, want.size_hw)
        for field in ("bboxes", "labels", "kps", "bboxes_ignore"):
            np.testing.assert_array_equal(getattr(got, field), getattr(want, field))


@pytest.mark.parametrize("num_kps", [0, 3, 68])
def test_no_record_and_no_face_keep_the_number_of_points(num_kps):
    assert join_records([], num_kps).kps.shape == (0, num_kps, 3) and len(join_records([], num_kps)) == 0
    assert join_records([record(num_kps=num_kps)], num_kps)[0].kps.shape == (0, num_kps, 3)


def test_select_takes_images_in_the_order_asked_for():
    joined = join_records(
        [record(faces=[[1, 1, 2, 2]]), record("b", faces=[[3, 3, 4, 4]], labels=[4])], num_kps=2
    )
    picked = joined.select(np.array([1, 0, 1]))
    assert picked.names == ("b", "a.jpg", "b") and picked.labels.tolist() == [4, 0, 4]
    assert picked.bboxes[:, 0].tolist() == [3, 1, 3] and picked.num_kps == 2


def test_an_image_of_unknown_size_is_not_called_narrow():
    labels = join_records([record(faces=[[1, 1, 5, 5]], size_hw=None)], num_kps=2)
    assert len(prepare(labels, "x", train=True)) == 1


def test_a_reader_of_ones_own(monkeypatch, tmp_path):
    def read(path, *, train, classes, num_kps):
        assert (path, train, classes, num_kps) == (tmp_path, False, ("a", "b"), 7)
        return join_records([record(faces=[[1, 1, 5, 5], [1, 1, 50, 50]], num_kps=7)], 7, classes)

    monkeypatch.setitem(LABEL_READERS, "mine", read)
    labels = read_labels(tmp_path, "mine", train=False, classes=("a", "b"), num_kps=7, min_size=10)
    assert isinstance(labels, LabelFile) and labels.is_ignored.tolist() == [True, False]
    with pytest.raises(ConfigError, match="label_format = 'labelv3' is unknown; did you mean 'labelv2'"):
        read_labels(tmp_path, "labelv3", train=True)
