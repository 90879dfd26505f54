"""init_detector, inference_detector and detect, as mmdet users call them."""

import cv2
import numpy as np
import pytest
import torch

from mmdet.apis import detect, inference_detector, init_detector
from mmdet.config import load_config
from mmdet.errors import CheckpointError, ConfigError, DataError

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
# Scores of a freshly initialised network are about 0.01: a low threshold gives some boxes, NMS few of them.
OPTIONS = {"test_cfg.score_thr": 0.0001, "test_cfg.max_per_img": 20}


@pytest.fixture(scope="module")
def model(repo):
    torch.manual_seed(0)
    return init_detector(repo / CONFIG, device="cpu", cfg_options=OPTIONS)


@pytest.fixture(scope="module")
def picture():
    return np.random.RandomState(0).randint(0, 256, (120, 200, 3)).astype(np.uint8)


def test_one_image_gives_a_list_over_classes(model, picture):
    (bboxes,) = inference_detector(model, picture)
    assert bboxes.shape == (20, 5) and bboxes.dtype == np.float32
    assert (np.diff(bboxes[:, 4]) <= 0).all()
    assert bboxes[:, :4].min() >= 0 and bboxes[:, 2].max() <= 201 and bboxes[:, 3].max() <= 121


def test_path_array_and_list_agree(model, picture, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (want,) = inference_detector(model, picture)
    np.testing.assert_array_equal(inference_detector(model, str(tmp_path / "a.png"))[0], want)
    np.testing.assert_array_equal(inference_detector(model, tmp_path / "a.png")[0], want)
    both = inference_detector(model, [tmp_path / "a.png", picture])
    assert len(both) == 2
    for (bboxes,) in both:
        np.testing.assert_array_equal(bboxes, want)
    assert inference_detector(model, []) == []


def test_gray_alpha_and_float_are_the_colour_picture(model, picture):
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    (want,) = inference_detector(model, cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
    np.testing.assert_array_equal(inference_detector(model, gray)[0], want)
    np.testing.assert_array_equal(inference_detector(model, gray[..., None])[0], want)
    (want,) = inference_detector(model, picture)
    np.testing.assert_array_equal(inference_detector(model, np.dstack([picture, gray]))[0], want)
    # OpenCV rounds a resized uint8 picture, not a float one.
    np.testing.assert_allclose(inference_detector(model, picture.astype(np.float64))[0], want, atol=2)


def test_detect_gives_keypoints(model, picture):
    (found,) = detect(model, [picture])
    assert found.kps.shape == (20, 5, 2)
    np.testing.assert_array_equal(found.bboxes.numpy(), inference_detector(model, picture)[0][:, :4])


def test_model_carries_config_and_classes(model):
    assert model.cfg.filename.endswith("scrfd_500m_bnkps.py")
    assert model.CLASSES == ("face",) and not model.training


def test_loaded_config(repo):
    cfg = load_config(repo / CONFIG)
    assert init_detector(cfg, device="cpu").cfg is cfg
    with pytest.raises(ConfigError, match="cfg_options need the config file"):
        init_detector(cfg, device="cpu", cfg_options=OPTIONS)


def test_checkpoint_of_another_model(repo, model, tmp_path):
    torch.save({"meta": {"CLASSES": ("one",)}, "state_dict": model.state_dict()}, tmp_path / "a.pth")
    again = init_detector(repo / CONFIG, tmp_path / "a.pth", device="cpu")
    assert again.CLASSES == ("one",)
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    with pytest.raises(CheckpointError):
        init_detector(repo / "configs/scrfd/scrfd_2.5g.py", tmp_path / "a.pth", device="cpu")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"image 0: shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"image 0: shape \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.int64), "image 0: int64 pixels"),
        (None, "image 0: expected a path or an array, got NoneType"),
        ("/none/a.jpg", "image /none/a.jpg"),
    ],
)
def test_what_is_no_image(model, image, message):
    with pytest.raises(DataError, match=message):
        detect(model, [image])


def test_model_made_elsewhere(picture):
    with pytest.raises(ConfigError, match="init_detector"):
        detect(torch.nn.Linear(1, 1), [picture])


def test_pipeline_and_postprocessing_are_built_once(model, picture, monkeypatch):
    detect(model, [picture])
    monkeypatch.setattr("mmdet.apis.build_pipeline", None)
    assert len(detect(model, [picture, picture])) == 2
