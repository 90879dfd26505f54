"""tools/benchmark.py infer: the baseline finds what the detector finds, and both are timed."""

import json

import cv2
import numpy as np
import pytest

from benchmark.baseline_infer import OneByOne
from mmdet.deploy import SCRFD
from mmdet.deploy.runtime.session import open_model

from .conftest import export_spots


@pytest.fixture
def photos(tmp_path):
    rng = np.random.RandomState(0)
    for number, hw in enumerate([(480, 640), (640, 480), (683, 1024)]):
        coarse = rng.choice([0, 0, 0, 0, 255], (hw[0] // 40, hw[1] // 40)).astype(np.uint8)
        cv2.imwrite(
            str(tmp_path / f"{number}.jpg"), cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_NEAREST)
        )
    return tmp_path


def test_the_baseline_finds_the_same(spots, photos):
    baseline, detector = OneByOne(open_model(spots, "cpu").session), SCRFD(spots, provider="cpu")
    for path in sorted(photos.glob("*.jpg")):
        got, (want, _) = baseline.detect_file(path), detector.detect(path)
        assert len(got) == len(want) > 10
        np.testing.assert_allclose(np.sort(got, axis=0), np.sort(want, axis=0), atol=1e-3)


@pytest.mark.slow
def test_both_are_timed_in_processes_of_their_own(run_tool, spots, photos, tmp_path):
    out = tmp_path / "figures.json"
    code, printed, err = run_tool("benchmark", "infer", spots, photos, "--rounds", 1, "--json", out)
    assert code == 0, err
    figures = json.loads(out.read_text())
    assert figures["num_images"] == 3 and figures["batch_size"] == 16
    assert figures["num_faces"]["tool"] == figures["num_faces"]["one_by_one"] > 30
    assert set(figures["one_core_ms_per_image"]) == {"read", "letterbox", "blob", "network"}
    speeds = figures["images_per_s"]
    assert figures["speedup"]["wall"] == pytest.approx(speeds["tool"] / speeds["one_by_one"])
    assert "speedup" in printed


def test_models_the_baseline_does_not_know(run_tool, tmp_path, photos):
    path = export_spots(tmp_path / "a.onnx", strides=(8, 16, 32, 64, 128), num_anchors=1)
    code, _, err = run_tool("benchmark", "infer", path, photos)
    assert code == 2 and "the baseline knows strides 8, 16, 32 and no NMS inside" in err
    code, _, err = run_tool("benchmark", "infer", tmp_path / "none.onnx", photos)
    assert code == 2 and "no such file" in err
