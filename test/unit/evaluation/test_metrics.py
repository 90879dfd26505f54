"""The table of metrics: what a run prepares, computes and leaves on disk."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from wider_fixture import image

from mmdet.config.types import EvalConfig
from mmdet.datasets.labels.base import Record, join_records
from mmdet.errors import ConfigError, DataError, WriteError
from mmdet.evaluation.metrics import (
    METRICS,
    HeightMetric,
    MapMetric,
    WiderFaceMetric,
    default_gt_dir,
    figure_names,
    prepare_metrics,
    to_wider,
)

FACE = [10, 10, 20, 20]  # xywh
FOUND = {
    "e/a.jpg": np.array([[*FACE, 0.9, 0], [50, 50, 5, 5, 0.1, 0], [*FACE, 0.95, 1]], np.float32),
    "e/b.jpg": np.array([[*FACE, 0.9, 0], [50, 50, 5, 5, 0.1, 0]], np.float32),
}


def wider(faces=(FACE,)):
    return WiderFaceMetric([image(faces), image([], name="b")])


def data_set(tmp_path, classes=("FG",)):
    bboxes, none = np.array([[10, 10, 30, 50]], np.float32), np.zeros((0, 4), np.float32)
    kps = np.zeros((1, 5, 3), np.float32)
    faces = Record("e/a.jpg", bboxes, np.zeros(1, np.int64), kps, none, (99, 99))
    empty = Record("e/b.jpg", none, np.zeros(0, np.int64), kps[:0], none, (99, 99))
    return SimpleNamespace(
        labels=join_records([faces, empty], 5, classes), img_prefix=tmp_path / "images", ann_file="label.txt"
    )


def test_detections_of_other_classes_are_left_out_of_wider():
    assert to_wider(FOUND)["e"]["a"][:, 4].tolist() == pytest.approx([0.9, 0.1])


def test_wider_figures_and_files(tmp_path):
    metric = wider()
    figures = metric.compute(FOUND)
    assert [figures[name] for name in metric.names] == [1.0, 1.0, 1.0] and figures["num_detections"] == 4
    lines = metric.report(tmp_path / "a" / "b", "title").splitlines()
    assert lines[0] == "APS: [1.0, 1.0, 1.0]"  # what launchers look for
    assert "4 detections on 2 images; 1 images without a face have 1 detections of score >= 0.5" in lines[-1]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["aps", "pr_curves.png"]
    assert (tmp_path / "a" / "b" / "aps").read_text() == "1.000000,1.000000,1.000000"


def test_a_setting_without_faces_is_nan(tmp_path):
    metric = wider(faces=())
    assert np.isnan(metric.compute(FOUND)["AP_easy"])
    metric.report(tmp_path, "title")
    assert (tmp_path / "aps").read_text() == "nan,nan,nan"


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    metric = wider()
    metric.compute(FOUND)
    with pytest.raises(WriteError, match="file/aps cannot be written"):
        metric.report(tmp_path / "file", "title")


def test_gt_is_beside_the_images_even_if_these_are_a_link(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "images").symlink_to(tmp_path / "pictures")
    assert default_gt_dir(SimpleNamespace(img_prefix=tmp_path / "val" / "images")) == tmp_path / "val" / "gt"


def test_without_gt_the_labels_say_which_faces_count(tmp_path, caplog):
    [metric] = prepare_metrics(data_set(tmp_path), EvalConfig(save_best="AP_hard"))
    assert [im.kept["easy"].tolist() for im in metric.gt] == [[False], []]  # 40 px high
    assert [im.kept["medium"].tolist() for im in metric.gt] == [[True], []]
    assert "no ground truth in" in caplog.text
    with pytest.raises(DataError, match="wider_face_val.mat: no such file"):
        prepare_metrics(data_set(tmp_path), EvalConfig(gt_dir=str(tmp_path / "none")))


def test_map_names_and_classes(tmp_path):
    [metric] = prepare_metrics(
        data_set(tmp_path, ("mask", "none")), EvalConfig(metric=("mAP",), save_best="mAP")
    )
    figures = metric.compute({name: rows[:2] for name, rows in FOUND.items()})
    assert set(figures) == set(metric.names) and figures["mAP"] == figures["AP50"]
    assert figures["AP50_mask"] == pytest.approx(1) and figures["AP50_none"] == -1  # IoU 0.5 exactly
    assert metric.report(tmp_path, "").startswith("mAP      1.0000\nAP50 ")
    assert [path.name for path in tmp_path.iterdir()] == ["pr_curves_mAP.png"]
    assert set(metric.curves) == {"mask"}  # the other has no face
    assert MapMetric.names == tuple(figure_names(["mAP"]))


class CountMetric:
    """A metric of one's own."""

    names = ("num_boxes",)

    @classmethod
    def prepare(cls, dataset, cfg):
        return cls()

    def compute(self, predictions):
        return {"num_boxes": sum(map(len, predictions.values()))}

    def report(self, folder, title):
        return "counted"


def test_a_metric_of_ones_own_is_one_entry(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "count", CountMetric)
    cfg = EvalConfig(metric=("mAP", "count"), save_best="num_boxes")
    assert [type(metric) for metric in prepare_metrics(data_set(tmp_path), cfg)] == [MapMetric, CountMetric]
    assert figure_names(cfg.metric)[-1] == "num_boxes"
    with pytest.raises(ConfigError, match="save_best = 'num_box' is unknown; did you mean 'num_boxes'"):
        prepare_metrics(data_set(tmp_path), EvalConfig(metric=("count",), save_best="num_box"))
    with pytest.raises(ConfigError, match="metric = 'cuont' is unknown; did you mean 'count'"):
        prepare_metrics(data_set(tmp_path), EvalConfig(metric=("cuont",)))


def test_neither_metrics_nor_labels_load_torch():
    code = "import sys, mmdet.evaluation.metrics, mmdet.datasets.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_heights_count_each_face_in_its_band(tmp_path):
    # 9.5, 10, 16 and 200 px high; the first and the last are found, the third only roughly (IoU 0.53)
    bboxes = np.array([[0, 0, 9, 9.5], [20, 0, 30, 10], [40, 0, 56, 16], [100, 0, 300, 200]], np.float32)
    ignored = np.array([[0, 50, 20, 60]], np.float32)
    kps = np.zeros((4, 5, 3), np.float32)
    record = Record("e/a.jpg", bboxes, np.zeros(4, np.int64), kps, ignored, (300, 300))
    data = SimpleNamespace(labels=join_records([record], 5, ("FG",)), ann_file="label.txt")
    rows = [
        [0, 0, 9, 9.5, 0.9, 0],
        [100, 0, 200, 200, 0.8, 0],
        [40, 0, 16, 8, 0.7, 0],
        [0, 50, 20, 10, 0.6, 0],
    ]
    metric = HeightMetric.prepare(data, EvalConfig())
    figures = metric.compute({"e/a.jpg": np.array(rows, np.float32)})
    expected = {"h0": 1.0, "h10": 0.0, "h16": 1.0, "h32": np.nan, "h64": np.nan, "h128": 1.0}
    for band, value in expected.items():
        assert figures[f"recall_{band}"] == pytest.approx(value, nan_ok=True), band
        assert figures[f"AP_{band}"] == pytest.approx(value, nan_ok=True), band
    assert (
        metric.report(tmp_path, "").splitlines()[0] == "height 0 to 10 px: AP 1.0000  recall 1.0000  1 faces"
    )
