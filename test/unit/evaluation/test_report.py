"""What an evaluation prints and leaves on disk."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from wider_fixture import image, rows

from mmdet.errors import WriteError
from mmdet.evaluation import evaluate_widerface
from mmdet.evaluation.report import default_gt_dir, describe, wider_figures, write_report

FACE = [10, 10, 20, 20]


def result(faces=(FACE,)):
    det = rows([*FACE, 0.9], [50, 50, 5, 5, 0.1])
    images = [image(faces), image([], name="b")]
    return evaluate_widerface({"e": {"a": det, "b": det}}, images)


def test_first_line_is_what_launchers_look_for():
    lines = describe(result()).splitlines()
    assert lines[0] == "APS: [1.0, 1.0, 1.0]"
    assert "4 detections on 2 images; 1 images without a face have 1 detections of score >= 0.5" in lines[-1]


def test_files(tmp_path):
    write_report(tmp_path / "a" / "b", result(), "title", {"mode": 0})
    out = tmp_path / "a" / "b"
    assert sorted(path.name for path in out.iterdir()) == ["aps", "metrics.json", "pr_curves.png"]
    assert (out / "aps").read_text() == "1.000000,1.000000,1.000000"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == {"mode": 0, **wider_figures(result())}


def test_a_setting_without_faces_is_null_in_json(tmp_path):
    nothing = result(faces=())
    assert np.isnan(wider_figures(nothing)["AP_easy"])
    write_report(tmp_path, nothing, "title", {})
    assert json.loads((tmp_path / "metrics.json").read_text())["AP_easy"] is None
    assert (tmp_path / "aps").read_text() == "nan,nan,nan"


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file/aps cannot be written"):
        write_report(tmp_path / "file", result(), "title", {})


def test_gt_is_beside_the_images_even_if_these_are_a_link(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "images").symlink_to(tmp_path / "pictures")
    assert default_gt_dir(SimpleNamespace(img_prefix=tmp_path / "val" / "images")) == tmp_path / "val" / "gt"
