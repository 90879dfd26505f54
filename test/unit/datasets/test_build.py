import subprocess
import sys

import numpy as np
import pytest
from data_fixture import write_images

from mmdet.datasets.build import build_dataset, build_pipeline
from mmdet.datasets.transforms.crop import RandomSquareCrop
from mmdet.datasets.transforms.formatting import LoadImageFromFile
from mmdet.errors import ConfigError

NORMALIZE = dict(type="Normalize", mean=[127.5] * 3, std=[128.0] * 3, to_rgb=True)
TRAIN = [
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
    dict(type="RandomSquareCrop", crop_choice=[0.5, 1.0, 2.0]),
    dict(type="Resize", img_scale=(64, 64), keep_ratio=False),
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(
        type="PhotoMetricDistortion",
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=18,
    ),
    NORMALIZE,
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_keypointss"]),
]
TEST = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(64, 64),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip", flip_ratio=0.0),
            NORMALIZE,
            dict(type="Pad", size=(64, 64), pad_val=0),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]


def data_cfg(root, pipeline, **more):
    paths = dict(ann_file=str(root / "labelv2.txt"), img_prefix=str(root / "images/"))
    return dict(type="RetinaFaceDataset", pipeline=pipeline, **paths, **more)


def test_published_pipelines_build_and_run(tmp_path):
    write_images(tmp_path / "d", 4)
    train = build_dataset(data_cfg(tmp_path / "d", TRAIN), seed=3)
    assert train.seed == 3 and not train.test_mode
    assert train[(1, 2)].image.shape == (64, 64, 3) and train[(1, 2)].image.dtype == np.float32
    test = build_dataset(data_cfg(tmp_path / "d", TEST), test_mode=True)
    assert test.test_mode and test[1].image.shape == (64, 64, 3)


def test_the_config_is_not_changed(tmp_path):
    write_images(tmp_path / "d", 2)
    cfg = data_cfg(tmp_path / "d", TEST)
    build_dataset(cfg, test_mode=True)
    assert cfg["pipeline"] is TEST and TEST[1]["transforms"][0] == dict(type="Resize", keep_ratio=True)


def test_pixels_become_float_after_the_crop_with_the_same_result(tmp_path):
    write_images(tmp_path / "d", 3)
    dataset = build_dataset(data_cfg(tmp_path / "d", TRAIN))
    kinds = [type(step) for step in dataset.pipeline.transforms]
    assert kinds.index(RandomSquareCrop) < kinds.index(LoadImageFromFile)
    plain = [t for t in dataset.pipeline.transforms if not isinstance(t, LoadImageFromFile)]
    sample = dataset.load(1)
    sample = sample.replace(image=sample.image.astype(np.float32))
    rng = np.random.RandomState([0, 5, 1])
    for transform in plain:
        sample = transform(sample, rng)
    np.testing.assert_array_equal(sample.image, dataset[(5, 1)].image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(type="RandomSquareCorp", crop_choice=[1]),
            r"pipeline\[2\].type.*did you mean 'RandomSquareCrop'",
        ),
        (dict(type="RandomSquareCrop", crop_choise=[1]), r"pipeline\[2\].*crop_choise"),
        (dict(type="Resize", img_scale=[(1, 1), (2, 2)]), r"pipeline\[2\].*img_scale"),
        (dict(type="Normalize"), r"pipeline\[2\].*mean"),
    ],
)
def test_wrong_steps_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        build_pipeline([*TRAIN[:2], change, *TRAIN[3:]], "pipeline")


def test_wrong_inner_steps_are_named():
    wrong = [dict(type="MultiScaleFlipAug", img_scale=(64, 64), transforms=[dict(type="Pda", size=(1, 1))])]
    with pytest.raises(ConfigError, match=r"data.val.pipeline\[0\].transforms\[0\].type = 'Pda'"):
        build_pipeline(wrong, "data.val.pipeline")


def test_photometric_without_float_is_refused_when_building():
    with pytest.raises(ConfigError, match="to_float32=True"):
        build_pipeline([dict(type="LoadImageFromFile"), *TRAIN[1:]])


def test_unknown_data_set_arguments_are_named(tmp_path):
    write_images(tmp_path / "d", 2)
    with pytest.raises(ConfigError, match="data.train.*min_sise"):
        build_dataset(data_cfg(tmp_path / "d", TRAIN, min_sise=3))
    with pytest.raises(ConfigError, match="data.val.pipeline is missing"):
        build_dataset(dict(type="RetinaFaceDataset"), path="data.val")
    with pytest.raises(ConfigError, match=r"data.train.img_prefix = 3 must be of type str or path or list"):
        build_dataset({**data_cfg(tmp_path / "d", TRAIN), "img_prefix": 3})


@pytest.mark.parametrize("steps", [None, [], 5, "LoadImageFromFile"])
def test_a_pipeline_is_a_list_of_transforms(steps, tmp_path):
    with pytest.raises(ConfigError, match=r"data.train.pipeline = .* must be a list of transforms"):
        build_dataset(data_cfg(tmp_path, steps))
    if steps is not None:  # there may be no closing one
        with pytest.raises(ConfigError, match=r"data.train.closing_pipeline = .* must be a list of"):
            build_dataset({**data_cfg(tmp_path, TRAIN), "closing_pipeline": steps})


@pytest.mark.slow
def test_names_of_mmdet_users_and_no_model_behind_them():
    code = """
import sys
import mmdet.datasets
assert "torch" not in sys.modules
from mmdet.datasets import build_dataset
assert not [name for name in sys.modules if name.startswith("mmdet.models")]
from mmdet.models import build_criterion, build_detector
from mmdet.apis import inference_detector, init_detector
"""
    subprocess.run([sys.executable, "-c", code], check=True)
