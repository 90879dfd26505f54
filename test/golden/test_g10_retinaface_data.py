"""RetinaFace's labels and pixels against the numbers of the original project (golden G10)."""

import hashlib
import json
import random

import numpy as np
import pytest

from mmdet.datasets.labels.retinaface_json import read_ternaus_json
from mmdet.datasets.labels.retinaface_txt import read_retinaface_txt
from mmdet.datasets.transforms.albumentations import HueSaturationValue, RandomBrightnessContrast, RandomGamma
from mmdet.datasets.transforms.base import make_sample
from mmdet.datasets.transforms.geometric import RandomFlip
from mmdet.datasets.transforms.retina import ClipLabels, PadToSquare, RandomRotate90, RetinaFaceCrop
from mmdet.evaluation.retinaface_map import average_precision

ATOL = 1e-5


class PythonRandom:
    """Python's random numbers behind the two calls RetinaFaceCrop makes."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def choice(self, values):
        return self._random.choice(values)

    def randint(self, high):
        return self._random.randrange(high)


def pattern(height, width):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((3 * x + 7 * y + 50 * c) % 256).astype(np.uint8)


def sample_of(image, rows):
    """Return a sample of rows of 15: box, landmarks, label."""
    rows = np.array(rows, np.float32).reshape(-1, 15)
    weight = np.repeat(rows[:, 14:] == 1, 5, axis=1)[..., None]
    kps = np.concatenate([rows[:, 4:14].reshape(-1, 5, 2), weight], axis=-1)
    return make_sample(image).replace(
        gt_bboxes=rows[:, :4], gt_kps=kps.astype(np.float32), gt_labels=np.zeros(len(rows), np.int64)
    )


def test_crop_and_mirror(g10):
    rows: list = []
    for case in g10.json["crop"]["cases"]:
        rows = rows if case["targets"] == "as seed 0" else case["targets"]
        sample = sample_of(pattern(*case["image_hw"]), rows)
        rng = PythonRandom(case["seed"])
        crop = RetinaFaceCrop()
        params = crop.draw(rng, sample)
        assert rng.randint(2) == int(case["flipped"])  # as many numbers were drawn
        sample = PadToSquare().apply(crop.apply(sample, params))
        sample = RandomFlip(flip_ratio=0.5).apply(sample, case["flipped"])
        image = np.ascontiguousarray(sample.image)
        assert list(image.shape[:2]) == case["result_hw"]
        assert hashlib.sha256(image.tobytes()).hexdigest() == case["result_sha256"]
        expected = np.array(case["result"]).reshape(-1, 15)
        side = np.float32(image.shape[0])
        np.testing.assert_allclose(sample.gt_bboxes / side, expected[:, :4], atol=ATOL)
        with_kps = expected[:, 14] == 1
        np.testing.assert_array_equal(sample.gt_kps[..., 2].all(1), with_kps)
        kps = sample.gt_kps[with_kps, :, :2] / side
        np.testing.assert_allclose(kps, expected[with_kps, 4:14].reshape(-1, 5, 2), atol=ATOL)


def test_rotation(g10):
    rows = np.trunc(g10.json["rotate90"]["input"])  # the original cuts coordinates to integers
    for case in g10.json["rotate90"]["cases"]:
        sample = sample_of(np.zeros((90, 120, 3), np.uint8), rows)
        sample = RandomRotate90().apply(sample, sum(case["turns_counterclockwise"]))
        expected = np.array(case["annotations"])
        assert list(sample.image.shape) == case["shape"]
        np.testing.assert_allclose(sample.gt_bboxes, expected[:, :4], atol=ATOL)
        with_kps = expected[:, 14] == 1
        moved = sample.gt_kps[with_kps, :, :2].reshape(-1, 10) - expected[with_kps, 4:14]
        # It turns keypoints about W - 1, one pixel beside the boxes; here both turn about W.
        assert set(np.unique(moved)) <= {0.0, 1.0}


@pytest.mark.parametrize("part", ["brightness_contrast", "hue_sat_val", "gamma"])
def test_colours(part, g10):
    palette = np.array(g10.json["aug"]["palette"], np.uint8)[..., ::-1]  # to BGR
    changes = {
        "brightness_contrast": lambda c: RandomBrightnessContrast().change(
            palette, c["beta"], c["alpha"] - 1
        ),
        "hue_sat_val": lambda c: HueSaturationValue().change(palette, c["hue"], c["sat"], c["val"]),
        "gamma": lambda c: RandomGamma().change(palette, c["gamma"]),
    }
    for case in g10.json["aug"][part]:
        found = changes[part](case)[..., ::-1].astype(int)
        assert np.abs(found - np.array(case["out"])).max() <= 1, case  # OpenCV versions round HSV differently


def rows_of(rows, width):
    """Return image name -> (n, width) from rows that begin with the name."""
    found = {}
    for name, *values in rows:
        found.setdefault(name, []).append(values)
    return {name: np.array(values, float).reshape(-1, width) for name, values in found.items()}


def test_average_precision(g10):
    for name, case in g10.json["ap"].items():
        gt, predictions = rows_of(case["gt"], 4), rows_of(case["predictions"], 5)
        for iou_thr in (0.5, 0.3):
            expected = case[f"iou{iou_thr}"]
            curve = average_precision(gt, predictions, iou_thr)
            if name != "no_gt":  # the original's recalls are nan there
                np.testing.assert_array_equal(curve.recalls, expected["recalls"], err_msg=name)
            np.testing.assert_array_equal(curve.precisions, expected["precisions"], err_msg=name)
            np.testing.assert_allclose(curve.ap, expected["ap"], rtol=1e-12, err_msg=name)


def test_labels(g10, tmp_path):
    expected = g10.json["labels"]
    (tmp_path / "label.json").write_text(json.dumps(expected["json"]))
    width, height = expected["image_wh"]
    for record in read_ternaus_json(tmp_path / "label.json", train=True):
        if record.name not in expected["annotations"]:
            continue  # a missing file: dropped there without a word, reported by our data set
        rows = np.array(expected["annotations"][record.name]).reshape(-1, 15)
        sample = make_sample(np.zeros((height, width, 3), np.uint8))
        sample = ClipLabels().apply(sample.replace(gt_bboxes=record.bboxes))
        np.testing.assert_allclose(sample.gt_bboxes, rows[:, :4], rtol=1e-6)
        with_kps = rows[:, 14] == 1
        np.testing.assert_array_equal(record.kps[..., 2].all(1), with_kps)
        np.testing.assert_allclose(record.kps[with_kps, :, :2], rows[with_kps, 4:14].reshape(-1, 5, 2))


def test_text_labels(g10, tmp_path):
    expected = g10.json["labels_biubug6"]
    (tmp_path / "label.txt").write_text(expected["text"])
    for record, rows in zip(
        read_retinaface_txt(tmp_path / "label.txt", train=True), expected["annotations"], strict=True
    ):
        rows = np.array(rows)
        np.testing.assert_array_equal(record.bboxes, rows[:, :4])
        np.testing.assert_array_equal(record.kps[..., 2].all(1), rows[:, 14] == 1)
        known = rows[:, 14] == 1
        np.testing.assert_array_equal(record.kps[known, :, :2], rows[known, 4:14].reshape(-1, 5, 2))
