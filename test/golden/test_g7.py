"""The training data pipeline against the reference's golden numbers (G7)."""

import hashlib
import json
import lzma

import numpy as np
import pytest

from mmdet.core.structures import Sample
from mmdet.datasets.labels import read_labels
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.datasets.transforms import make_sample
from mmdet.datasets.transforms.color import Normalize, PhotoMetricDistortion
from mmdet.datasets.transforms.crop import RandomSquareCrop
from mmdet.datasets.transforms.geometric import Pad, RandomFlip, Resize

SCALES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "g7_pipeline.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden):
    return np.load(golden / "g7_pipeline.npz")


def sample_of(expected, arrays, size):
    faces = expected[f"input_{size}"]
    image = arrays[f"input_{size}"]
    return make_sample(image).replace(
        gt_bboxes=np.array(faces["boxes"], np.float32),
        gt_labels=np.zeros(len(faces["boxes"]), np.int64),
        gt_kps=np.array(faces["kps"], np.float32),
        gt_bboxes_ignore=np.array(faces["ignore"], np.float32),
    )


def sha(image):
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


def check_step(sample: Sample, want: dict, subsample=None, step=37):
    assert list(sample.image.shape) == want["shape"]
    np.testing.assert_array_equal(sample.gt_bboxes.reshape(-1, 4), np.reshape(want["boxes"], (-1, 4)))
    np.testing.assert_array_equal(sample.gt_bboxes_ignore.reshape(-1, 4), np.reshape(want["ignore"], (-1, 4)))
    np.testing.assert_array_equal(sample.gt_kps.reshape(-1, 15), np.reshape(want["kps"], (-1, 15)))
    assert len(sample.gt_labels) == want["labels_n"]
    image = sample.image.astype(np.float32)
    np.testing.assert_allclose(image.mean((0, 1), dtype=np.float64), want["mean"], rtol=0, atol=1e-5)
    if subsample is not None:
        np.testing.assert_allclose(image[::step, ::step], subsample, rtol=0, atol=1e-4)
    assert sha(image) == want["sha256_16"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", ["480x640", "900x600", "300x300"])
@pytest.mark.parametrize("clip", [False, True])
def test_chain(expected, arrays, clip, size, seed):
    name = f"clip{clip}_{size}_seed{seed}"
    want = expected["chain"][name]
    rng = np.random.RandomState(seed)
    subsample = {k: arrays[k] for k in arrays.files if k.startswith(name)}

    sample = sample_of(expected, arrays, size)
    crop = RandomSquareCrop(crop_choice=SCALES, bbox_clip_border=clip)
    patch = crop.draw(rng, sample)
    assert [patch.left, patch.top, patch.left + patch.side, patch.top + patch.side] == want["crop"]["_patch"]
    sample = crop.apply(sample, patch)
    check_step(sample, want["crop"], subsample.get(f"{name}_crop_s29"), step=29)

    sample = sample.replace(image=sample.image.astype(np.float32))
    steps = [
        ("resize", Resize(img_scale=(640, 640), keep_ratio=False, bbox_clip_border=clip)),
        ("flip", RandomFlip(flip_ratio=0.5)),
        ("photo", PhotoMetricDistortion()),
        ("normalize", Normalize(mean=(127.5,) * 3, std=(128.0,) * 3, to_rgb=True)),
    ]
    for key, transform in steps:
        sample = transform(sample, rng)
        stored = subsample.get(f"{name}_{'norm' if key == 'normalize' else key}_s37")
        check_step(sample, want[key], stored)


class ForcedRandom:
    """Answers with given numbers instead of random ones."""

    def __init__(self, ints, uniforms, perm):
        self.ints, self.uniforms, self.perm = list(ints), list(uniforms), perm

    def randint(self, high):
        return self.ints.pop(0)

    def uniform(self, low, high):
        return self.uniforms.pop(0)

    def permutation(self, n):
        return np.array(self.perm)


def test_photometric_forced(expected, arrays):
    transform = PhotoMetricDistortion()
    image = arrays["input_300x300"].astype(np.float32)
    for case in expected["photometric_forced"]:
        rng = ForcedRandom(case["rng_ints"], case["rng_uniforms"], case["perm"])
        result = transform(make_sample(image), rng).image
        np.testing.assert_allclose(
            result[::13, ::13], arrays[f"photo_{case['name']}_s13"], rtol=0, atol=1e-4, err_msg=case["name"]
        )
        np.testing.assert_allclose(result.mean((0, 1), dtype=np.float64), case["mean"], rtol=0, atol=1e-5)
        assert sha(result) == case["sha"], case["name"]


@pytest.mark.parametrize("size", ["480x640", "900x600", "300x300"])
def test_crop_statistics(expected, arrays, size):
    want = expected["crop_stats"][size]
    sample = sample_of(expected, arrays, size)
    crop = RandomSquareCrop(crop_choice=SCALES)
    rng = np.random.RandomState(12345)
    short = min(sample.image.shape[:2])
    scales, kept = [], []
    for _ in range(1500):
        patch = crop.draw(rng, sample)
        scales.append(patch.side / short)
        centers = (sample.gt_bboxes[:, :2] + sample.gt_bboxes[:, 2:]) / 2
        inside = (centers > patch[:2]) & (centers < np.array(patch[:2]) + patch.side)
        kept.append(inside.all(1).mean())
    # 4 standard errors of the mean of 1500 draws
    assert np.mean(scales) == pytest.approx(
        want["crop_over_short_side_mean"], abs=4 * np.std(scales) / 1500**0.5 + 0.03
    )
    assert np.mean(kept) == pytest.approx(
        want["frac_boxes_kept_mean"], abs=4 * np.std(kept) / 1500**0.5 + 0.015
    )
    for scale, row in want["per_scale"].items():
        assert int(float(scale) * short) == row["cw"]


@pytest.mark.slow
def test_a_single_corner_face_favours_large_crops(expected):
    want = expected["crop_stats"]["single_corner_face_480x640"]["scale_hist"]
    sample = make_sample(np.zeros((480, 640, 3), np.uint8)).replace(
        gt_bboxes=np.array([[2, 2, 8, 9]], np.float32),
        gt_labels=np.zeros(1, np.int64),
        gt_kps=np.zeros((1, 5, 3), np.float32),
    )
    crop = RandomSquareCrop(crop_choice=SCALES)
    rng = np.random.RandomState(1)
    small = sum(crop.draw(rng, sample).side < 480 * 0.9 for _ in range(600)) / 600
    assert small == pytest.approx((want["0.3"] + want["0.45"] + want["0.6"] + want["0.8"]) / 1000, abs=0.04)


PARSER_CASES = {
    # name: (text below "# ev/a.png 160 120", train, min_size); the reference asserts where we raise DataError
    "19_values_visible": ("5 6 30 40 10 11 0 20 11 0 15 15 0 11 20 0 19 20 0", True, None),
    "19_values_missing": ("5 6 30 40" + " -1" * 15, True, None),
    "19_values_partial": ("5 6 30 40 10 11 1 20 11 0 15 15 0" + " -1" * 6, True, None),
    "20_values_extra_blur_score": ("5 6 30 40 10 11 1 20 11 1 15 15 1 11 20 1 19 20 1 0.86", True, None),
    "4_values_test": ("5 6 30 40", False, None),
    "5_values_ignore0": ("5 6 30 40 0", True, None),
    "5_values_ignore1": ("5 6 30 40 1\n50 50 60 60 0", True, None),
}


@pytest.mark.parametrize("case", PARSER_CASES)
def test_parser(expected, tmp_path, case):
    text, train, min_size = PARSER_CASES[case]
    path = tmp_path / "label.txt"
    path.write_text(f"# ev/a.png 160 120\n{text}\n")
    [record] = read_labels(path, train=train, min_size=min_size)
    [want] = expected["parser"][case]
    assert record.name == want["filename"]
    assert list(record.size_hw[::-1]) == want["wh"]
    np.testing.assert_array_equal(record.bboxes, np.reshape(want["bboxes"], (-1, 4)))
    np.testing.assert_array_equal(record.kps, np.reshape(want["keypointss"], (-1, 5, 3)))
    np.testing.assert_array_equal(record.bboxes_ignore, np.reshape(want["bboxes_ignore"], (-1, 4)))


def test_min_size_of_the_reference(expected, tmp_path):
    points = " 10 11 0 20 11 0 15 15 0 11 20 0 19 20 0"
    path = tmp_path / "label.txt"
    boxes = ["5 6 15 16", "5 6 14 40", "5 6 14.99 30"]
    path.write_text("\n".join(["# ev/a.png 160 120", *(box + points for box in boxes)]))
    [record] = read_labels(path, train=True, min_size=10)
    [want] = expected["parser"]["min_size_10"]
    np.testing.assert_array_equal(record.bboxes, want["bboxes"])
    np.testing.assert_array_equal(record.bboxes_ignore, np.float32(want["bboxes_ignore"]))


@pytest.fixture(scope="module")
def real_file(shared, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labelv2.txt"
    path.write_bytes(lzma.open(shared / "data/wider_labels/labelv2_train.txt.xz").read())
    return path


def test_real_train_file(golden, real_file):
    want = json.loads((golden / "g7_real_labelv2_train.json").read_text())
    labels = read_labels(real_file, train=True)
    counts = np.diff(labels.offsets)
    with_all = (labels.kps[..., 2] == 1).all(1)
    flags = labels.sizes_hw[:, 1] / labels.sizes_hw[:, 0] > 1
    assert len(labels) == want["images"]
    assert len(labels.bboxes) == want["faces"]
    assert with_all.sum() == want["faces_all5"]
    assert (labels.kps[..., 2] == 0).all(1).sum() == want["faces_no_landmarks"]
    assert labels.is_ignored.sum() == want["ignored"]
    assert counts.max() == want["max_faces_per_image"]
    assert labels.bboxes.sum(dtype=np.float64) == want["box_coordinate_sum"]
    assert labels.kps[..., 2].sum() == want["keypoint_weight_sum"]
    assert [(~flags).sum(), flags.sum()] == want["group_flag_counts"]
    assert [(counts > n).sum() for n in (32, 128, 1024)] == [want[f"images_gt{n}"] for n in (32, 128, 1024)]
    for batch_size, world in ((8, 1), (32, 1), (8, 4), (32, 4), (8, 8), (32, 8)):
        sampler = GroupBatchSampler(flags, batch_size, world_size=world)
        assert sampler.iters_per_epoch == want[f"iters_per_epoch_bs{batch_size}_{world}gpu"]


@pytest.mark.parametrize("min_size", [4, 8, 10])
def test_real_train_file_with_min_size(golden, real_file, min_size):
    want = json.loads((golden / "g7_real_labelv2_train.json").read_text())[f"min_size_{min_size}"]
    labels = read_labels(real_file, train=True, min_size=min_size)
    assert len(labels) == want["images"]
    assert (~labels.is_ignored).sum() == want["kept_faces"]
    faces_per_image = np.add.reduceat(~labels.is_ignored, labels.offsets[:-1])
    assert (faces_per_image == 0).sum() == want["images_with_only_ignored"]


SIZES = ["480x640", "900x600", "333x517", "120x160", "1024x1365"]
MODES = {
    "mode0_640": (Resize(img_scale=(640, 640)), Pad(size=(640, 640))),
    "mode1_1100x1650": (Resize(img_scale=(1100, 1650)), Pad(size=(1100, 1650))),
    "mode2_original": (Resize(scale_factor=1.0), Pad(size_divisor=32)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_test_pipeline_shapes(expected, size, mode):
    want = expected["test_pipeline"][f"{size}_{mode}"]
    height, width = map(int, size.split("x"))
    resize, pad = MODES[mode]
    sample = resize.apply(make_sample(np.zeros((height, width, 3), np.uint8)))
    assert list(sample.image.shape) == want["img_shape"]
    np.testing.assert_array_equal(np.float32(sample.scale_xy), np.float32(want["scale_factor"][:2]))
    padded = pad.apply(sample)
    assert list(padded.image.shape) == want["pad_shape"]
    assert list(padded.size_hw) == want["ori_shape"][:2]
