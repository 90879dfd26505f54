"""The folder tool: which images are found, what is written, how ranks share the work."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdet.errors import ConfigError, DataError
from mmdet.models import build_detector
from mmdet.retinaface import Predictor, get_model
from mmdet.retinaface.folder import FolderOptions, find_images, predict_folder

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def predictor():
    from mmdet.config import load_config

    torch.manual_seed(0)
    config = load_config(REPO / "configs/retinaface/mobilenet0.25.py")
    model = build_detector(config.model).eval()
    model.cfg = config
    with torch.no_grad():
        for head in model.ClassHead:
            head.conv1x1.bias.copy_(torch.tensor([0.0, 3.0, 0.0, 3.0]))  # everything is a face
    return Predictor(model, max_size=64)


@pytest.fixture
def folder(tmp_path):
    for name, size in (("a.jpg", (40, 60)), ("sub/b.PNG", (60, 40)), ("sub/deep/c.jpeg", (32, 32))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imencode(path.suffix.lower(), np.full((*size, 3), 90, np.uint8))[1].tofile(path) is None
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def test_every_image_gets_its_file(predictor, folder, tmp_path):
    options = FolderOptions(visualize=True, batch_size=2, keep_top_k=3)
    assert predict_folder(predictor, folder, tmp_path / "out", options) == 3
    written = sorted(
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*") if p.is_file()
    )
    assert written == [
        "labels/a.json",
        "labels/sub/b.json",
        "labels/sub/deep/c.json",
        "viz/a.jpg",
        "viz/sub/b.jpg",
        "viz/sub/deep/c.jpg",
    ]
    content = json.loads((tmp_path / "out/labels/sub/b.json").read_text())
    assert (content["file_name"], content["file_path"]) == ("b.PNG", "sub/b.PNG")
    assert len(content["annotations"]) == 3
    assert all(isinstance(value, int) for value in content["annotations"][0]["bbox"])
    assert np.shape(content["annotations"][0]["landmarks"]) == (5, 2)
    assert cv2.imread(str(tmp_path / "out/viz/a.jpg")).shape == (40, 60, 3)


def test_ranks_share_the_images(predictor, folder, tmp_path):
    counts = [
        predict_folder(predictor, folder, tmp_path / "out", FolderOptions(), rank, 2) for rank in (0, 1)
    ]
    assert counts == [2, 1]


def test_an_unreadable_image_is_left_out_with_a_warning(predictor, folder, tmp_path, caplog):
    (folder / "bad.jpg").write_bytes(b"no image")
    assert predict_folder(predictor, folder, tmp_path / "out", FolderOptions(score_thr=0.99)) == 0
    assert "bad.jpg" in caplog.text
    assert not (tmp_path / "out").exists()  # no face, no file


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        find_images(tmp_path / "absent")


def test_bad_arguments_are_refused(predictor):
    with pytest.raises(ConfigError, match="did you mean"):
        get_model("resnet50_2020-07-2", 960, weights="w.pth")
    with pytest.raises(ConfigError, match="max_size=0"):
        Predictor(predictor.model, 0)
    with pytest.raises(DataError, match=r"expected \(H, W, 3\) uint8 RGB"):
        predictor.predict_jsons(np.zeros((4, 4), np.uint8))
