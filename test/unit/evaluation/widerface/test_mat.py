"""The ground-truth files we write read back as what the label file says."""

import numpy as np
import pytest
from scipy.io import loadmat

from mmdet.datasets.labels import read_labels
from mmdet.errors import DataError
from mmdet.evaluation import read_wider_gt, wider_evaluation
from mmdet.evaluation.widerface.mat import write_wider_gt

LABELS = """\
# 0--Parade/a.b.jpg 640 480
10 20 40 70
1 1 31 30
5 5 9 9 1
7.5 8 20 18.5
# top.png 640 480
# 0--Parade/c.jpg 640 480
0 0 100 9
"""


@pytest.fixture
def gt(tmp_path):
    (tmp_path / "labelv2.txt").write_text(LABELS)
    write_wider_gt(tmp_path / "labelv2.txt", tmp_path / "gt")
    return tmp_path / "gt"


def test_read_back(gt):
    images = {(image.event, image.name): image for image in read_wider_gt(gt)}
    assert list(images) == [("0--Parade", "a.b"), ("0--Parade", "c"), ("images", "top")]
    a = images["0--Parade", "a.b"]
    assert a.bboxes_xywh.tolist() == [[10, 20, 30, 50], [1, 1, 30, 29], [7.5, 8, 12.5, 10.5], [5, 5, 4, 4]]
    assert a.kept["easy"].tolist() == [True, False, False, False]
    assert a.kept["medium"].tolist() == [True, False, False, False]
    assert a.kept["hard"].tolist() == [True, True, True, False]
    assert images["images", "top"].bboxes_xywh.shape == (0, 4)
    assert not images["0--Parade", "c"].kept["hard"].any()


def test_official_nesting(gt, shared):
    ours, official = loadmat(gt / "wider_hard_val.mat"), loadmat(shared / "data/wider_gt/wider_hard_val.mat")
    for key in ("event_list", "file_list", "face_bbx_list", "gt_list"):
        a, b = ours[key], official[key]
        while a.dtype == object:
            assert b.dtype == object and a.ndim == b.ndim and a.shape[1:] == b.shape[1:], key
            a, b = a.flat[0], b.flat[0]
        assert a.ndim == b.ndim and a.dtype.kind == b.dtype.kind or key == "face_bbx_list"
    assert ours["face_bbx_list"][0][0][1][0].dtype == np.int32


def test_real_labels_as_predictions_are_perfect(shared, tmp_path):
    label_file = shared / "data/facemask853/boxes_only/labelv2_val.txt"
    write_wider_gt(label_file, tmp_path)
    predictions = {}
    for record in read_labels(label_file, train=False):
        x1, y1, x2, y2 = record.bboxes.T
        rows = np.stack([x1, y1, x2 - x1, y2 - y1, np.linspace(1, 0.5, len(x1))], axis=1)
        predictions.setdefault("images", {})[record.name.removesuffix(".jpg")] = rows
    assert wider_evaluation(predictions, tmp_path) == pytest.approx((1, 1, 1))


def test_the_official_sets_obey_the_height_rule_closely(shared):
    from mmdet.evaluation.widerface.from_labels import MIN_HEIGHTS

    images = read_wider_gt(shared / "data/wider_gt")
    for setting, min_height in MIN_HEIGHTS.items():
        heights = np.concatenate([image.bboxes_xywh[image.kept[setting], 3] for image in images])
        assert np.percentile(heights, 1) == min_height


def test_names_that_differ_in_the_suffix_only_are_refused(tmp_path):
    (tmp_path / "l.txt").write_text("# a.jpg 64 64\n# a.png 64 64\n")
    with pytest.raises(DataError, match="a.png and a.jpg differ in the suffix only"):
        write_wider_gt(tmp_path / "l.txt", tmp_path / "gt")
