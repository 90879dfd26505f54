"""Running a detector over a data set, with a model that finds one known face per image."""

import time

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mmdet.core.structures import Detections, Outputs
from mmdet.datasets.build import build_dataset
from mmdet.errors import ConfigError
from mmdet.evaluation.predict import (
    at_mode,
    group_by_input_size,
    map_on_lanes,
    merge_predictions,
    predict_dataset,
    to_rows,
)

SIZES_WH = [(64, 32), (32, 64), (64, 32), (32, 60), (64, 32)]
PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(640, 640),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="Normalize", mean=[127.5] * 3, std=[128.0] * 3, to_rgb=True),
            dict(type="Pad", size=(640, 640), pad_val=0),
        ],
    ),
]


class FakeAnchors:
    def grid(self, level_sizes_hw, device):
        return None


class FakeModel(nn.Module):
    """Remembers the batches it was given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.bbox_head = nn.Module()
        self.bbox_head.anchor_generator = FakeAnchors()
        self.shapes, self.was_training = [], []

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        self.was_training.append(self.training)
        nothing = torch.zeros(len(images), 1, 1, dtype=images.dtype)
        return Outputs(nothing, nothing.expand(-1, 1, 4), None, None, ((1, 1),))


def fake_postprocess(model, outputs, img_hw, scale_xy):
    """One face that fills the picture, and a second one of another class."""
    assert outputs.cls_logits.dtype == torch.float32
    found = []
    for (height, width), (sx, sy) in zip(img_hw, scale_xy, strict=True):
        bbox = torch.tensor([[0, 0, width / sx, height / sy]]).repeat(2, 1)
        found.append(Detections(bbox, torch.tensor([0.75, 0.5]), torch.tensor([0, 1]), None))
    return found


@pytest.fixture
def dataset_cfg(tmp_path):
    lines = []
    for i, (width, height) in enumerate(SIZES_WH):
        folder = tmp_path / "images" / f"{i % 2}--E"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{i}.png"), np.full((height, width, 3), 100, np.uint8))
        lines += [f"# {i % 2}--E/{i}.png {width} {height}", "1 2 11 12"]
    (tmp_path / "labelv2.txt").write_text("\n".join(lines) + "\n")
    return dict(
        type="RetinaFaceDataset",
        ann_file=str(tmp_path / "labelv2.txt"),
        img_prefix=str(tmp_path / "images"),
        pipeline=PIPELINE,
    )


def build(cfg, mode=64):
    return build_dataset(at_mode(cfg, mode), test_mode=True, path="data.test")


def predict(dataset, model=None, **kwargs):
    return predict_dataset(
        model or FakeModel(), dataset, fake_postprocess, torch.device("cpu"), show_progress=False, **kwargs
    )


def test_result_is_keyed_by_name_in_file_pixels(dataset_cfg):
    predictions = predict(build(dataset_cfg))
    assert sorted(predictions) == ["0--E/0.png", "0--E/2.png", "0--E/4.png", "1--E/1.png", "1--E/3.png"]
    for i, (width, height) in enumerate(SIZES_WH):
        rows = predictions[f"{i % 2}--E/{i}.png"]
        assert rows.dtype == np.float32
        want = [[0, 0, width, height, 0.75, 0], [0, 0, width, height, 0.5, 1]]
        np.testing.assert_allclose(rows, want, atol=1e-4)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_the_images(dataset_cfg, world_size):
    dataset = build(dataset_cfg)
    shares = [predict(dataset, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sum(len(share) for share in shares) == len(SIZES_WH)
    assert sorted(merge_predictions(shares)) == sorted(predict(dataset))


def test_batches_hold_one_input_size_only(dataset_cfg):
    assert group_by_input_size(build(dataset_cfg, mode=2), range(5), 2) == [[0, 2], [4], [1, 3]]
    assert group_by_input_size(build(dataset_cfg, mode=64), range(5), 4) == [[0, 1, 2, 3], [4]]
    assert group_by_input_size(build(dataset_cfg, mode=2), range(5), 1) == [[0], [1], [2], [3], [4]]


def test_model_sees_eval_mode_and_gets_its_own_mode_back(dataset_cfg):
    model = FakeModel().train()
    predict(build(dataset_cfg), model, batch_size=8)
    assert model.shapes == [(5, 3, 64, 64)] and model.was_training == [False]
    assert model.training


def test_half_leaves_the_model_alone(dataset_cfg):
    model = FakeModel()
    assert predict(build(dataset_cfg), model, half=True).keys() == {f"{i % 2}--E/{i}.png" for i in range(5)}
    assert model.weight.dtype == torch.float32 and model.shapes == []


def test_no_detections_give_an_empty_array():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), None)
    assert to_rows(nothing).shape == (0, 6)


@pytest.mark.parametrize(
    ("mode", "shape_hw"),
    [(0, (640, 640)), (1, (1100, 1650)), (2, (32, 64)), (96, (96, 96)), (-1, (640, 640))],
)
def test_modes(dataset_cfg, mode, shape_hw):
    assert build(dataset_cfg, mode)[0].image.shape[:2] == shape_hw
    assert dataset_cfg["pipeline"] is PIPELINE and PIPELINE[1]["img_scale"] == (640, 640)


@pytest.mark.parametrize("mode", [3, 30, -2])
def test_senseless_mode(dataset_cfg, mode):
    with pytest.raises(ConfigError, match=f"--mode {mode}: expected 0"):
        at_mode(dataset_cfg, mode)


def test_pipeline_without_a_frame_to_change():
    with pytest.raises(ConfigError, match="one MultiScaleFlipAug with one Pad"):
        at_mode({"pipeline": [dict(type="LoadImageFromFile")]}, 0)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_lanes_keep_the_order_and_divide_the_threads(three_threads):
    seen = []

    def square(number):
        time.sleep(0.02 * (number % 3 == 0))  # the first of each three ends last
        seen.append(torch.get_num_threads())
        return number * number

    assert list(map_on_lanes(square, range(7), three_threads)) == [0, 1, 4, 9, 16, 25, 36]
    assert seen == [1] * 7
    assert torch.get_num_threads() == 3


def test_lanes_take_few_items_ahead_and_pass_an_error_on(three_threads):
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_on_lanes(lambda number: 6 // (2 - number), items(), three_threads)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(taken) == 6  # the third result, and three lanes ahead of it
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_lanes_change_no_detection(dataset_cfg, three_threads, threads):
    expected = predict(build(dataset_cfg))
    torch.set_num_threads(threads)
    found = predict(build(dataset_cfg))
    assert found.keys() == expected.keys() and len(found) > 1
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
