"""RandomAffine and Mosaic: numbers by hand, a slow oracle, and samples that depend on their seed alone."""

import math

import cv2
import numpy as np
import pytest
import torch
from data_fixture import NORMALIZE, write_images

from mmdet.core.structures import Sample
from mmdet.datasets.build import build_dataset, build_pipeline
from mmdet.datasets.collate import Collate
from mmdet.datasets.device_augment import leave_colours_to_device
from mmdet.datasets.loader import build_loader
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.datasets.transforms.affine import RandomAffine, move_labels, warp
from mmdet.datasets.transforms.base import make_sample
from mmdet.datasets.transforms.mosaic import Mosaic, MosaicTile
from mmdet.errors import ConfigError

CROP = dict(
    type="RandomAffine", img_scale=(64, 48), crop_ratio_range=(0.4, 2.5), degrees=30.0, face_px=(4, 30)
)
STEPS = [
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="Normalize", **NORMALIZE),
]
MOSAIC = [dict(type="Mosaic", prob=0.5, transforms=[CROP]), *STEPS]


def sample_of(bboxes, kps=None, ignore=(), size_hw=(100, 200), labels=None):
    bboxes = np.array(bboxes, np.float32).reshape(-1, 4)
    kps = np.zeros((len(bboxes), 2, 3), np.float32) if kps is None else np.array(kps, np.float32)
    labels = np.zeros(len(bboxes), np.int64) if labels is None else np.array(labels)
    ignore = np.array(ignore, np.float32).reshape(-1, 4)
    rng = np.random.RandomState(0)
    image = cv2.resize(rng.randint(0, 256, (10, 20, 3)).astype(np.uint8), size_hw[::-1])
    return Sample(image, bboxes, labels, kps, ignore, "a.jpg", size_hw)


def test_half_the_size_and_moved_by_hand():
    sample = sample_of(
        [[20, 10, 60, 50], [150, 0, 190, 20]],
        [[[30, 20, 1], [70, 90, 1]], [[0, 0, 0], [0, 0, 0]]],
        [[10, 40, 30, 60]],
    )
    matrix = np.array([[0.5, 0, -5], [0, 0.5, 10]])
    moved = move_labels(sample, matrix, (50, 50), clip=False)
    assert moved["gt_bboxes"].tolist() == [[5, 15, 25, 35]]  # the other one's centre is at x = 80
    assert moved["gt_kps"].tolist() == [[[10, 20, 1], [30, 55, 1]]]  # outside the result, where it is
    assert moved["gt_bboxes_ignore"].tolist() == [[0, 30, 10, 40]]
    matrix[0, 2] = -15
    moved = move_labels(sample, matrix, (50, 50), clip=True)
    assert moved["gt_bboxes"].tolist() == [[0, 15, 15, 35]]


def test_a_quarter_turn_by_hand():
    matrix = np.array([[0.0, -1, 100], [1, 0, 0]])  # x' = 100 - y, y' = x
    moved = move_labels(
        sample_of([[20, 10, 60, 30]], [[[30, 20, 1], [20, 10, 0]]]), matrix, (100, 200), False
    )
    assert moved["gt_bboxes"].tolist() == [[70, 20, 90, 60]]
    assert moved["gt_kps"].tolist() == [[[80, 30, 1], [90, 20, 0]]]


def ellipse_by_points(bbox, matrix):
    x1, y1, x2, y2 = bbox
    angle = np.linspace(0, 2 * math.pi, 200_000)
    points = np.stack([(x1 + x2 + (x2 - x1) * np.cos(angle)) / 2, (y1 + y2 + (y2 - y1) * np.sin(angle)) / 2])
    moved = matrix[:, :2] @ points + matrix[:, 2:]
    return [*moved.min(1), *moved.max(1)]


def test_turned_boxes_are_those_of_the_turned_ellipse():
    rng = np.random.RandomState(1)
    crop = RandomAffine(img_scale=(64, 64), degrees=45.0)
    for _ in range(20):
        x, y, width, height = rng.uniform(20, 60, 4)
        sample = sample_of([[x, y, x + width, y + height]])
        matrix = crop.draw(rng, sample)
        got = move_labels(sample, matrix, (1e9, 1e9), clip=False)["gt_bboxes"]
        if len(got):
            np.testing.assert_allclose(
                got[0], ellipse_by_points(sample.gt_bboxes[0], matrix), rtol=1e-5, atol=1e-4
            )


def test_pixels_go_where_boxes_go():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = 255  # the face
    out = np.empty((80, 120, 3), np.uint8)
    warp(image, np.array([[2.0, 0, 4], [0, 2.0, -6]]), out)  # box 64 14 104 34
    rows, columns = np.flatnonzero(out.max((1, 2)) > 160), np.flatnonzero(out[20, :, 0] > 160)
    assert (rows[0], rows[-1] + 1) == (14, 34)
    assert (columns[0], columns[-1] + 1) == (64, 104)
    assert out[20, 0, 0] == 128  # outside the image


def test_without_zoom_the_image_is_copied():
    sample = sample_of([])
    out = np.empty((30, 50, 3), np.uint8)
    warp(sample.image, np.array([[1.0, 0, -20], [0, 1.0, -10]]), out)
    np.testing.assert_array_equal(out, sample.image[10:40, 20:70])


@pytest.mark.parametrize("face_px", [None, (10, 20)])
def test_some_face_is_always_kept(face_px):
    crop = RandomAffine(
        img_scale=(64, 64), crop_ratio_range=(0.1, 3.0), degrees=180.0, face_px=face_px, face_prob=1.0
    )
    sample = sample_of([[3, 3, 7, 7], [190, 90, 199, 99]], size_hw=(100, 200))
    sides = []
    for seed in range(200):
        bboxes = crop(sample, np.random.RandomState(seed)).gt_bboxes
        assert len(bboxes)
        sides.append((bboxes[:, 2:] - bboxes[:, :2]).max(1))
    if face_px:
        # The 4 px face can be magnified to 64 / (0.1 * 100) * 4 px; one of the two has a side in the range.
        assert all(((side > 9.9) & (side < 20 * math.sqrt(2))).any() for side in sides)


def test_the_patch_stays_inside_or_around_the_image():
    crop = RandomAffine(img_scale=(32, 32), crop_ratio_range=(0.5, 0.9))
    for seed in range(50):
        image = crop(make_sample(np.zeros((60, 90, 3), np.uint8)), np.random.RandomState(seed)).image
        assert image.max() == 0  # no fill


@pytest.mark.parametrize("num", [0, 1, 50])
def test_edges(num):
    boxes = [[10, 10, 10, 10]] * num  # zero area
    sample = sample_of(boxes, np.zeros((num, 3, 3)), [[0, 0, 200, 100]], labels=[2] * num)
    for seed in range(10):
        crop = RandomAffine(img_scale=(64, 64), face_px=(8, 8), degrees=90.0)
        moved = crop(sample, np.random.RandomState(seed))
        assert moved.image.shape == (64, 64, 3) and moved.image.dtype == np.uint8
        assert moved.gt_kps.shape == (len(moved.gt_bboxes), 3, 3) and (moved.gt_labels == 2).all()
        assert np.isfinite(moved.gt_bboxes).all()


def test_four_tiles_by_hand():
    first = sample_of([[0, 0, 20, 20]], [[[10, 10, 1], [4, 4, 1]]], size_hw=(100, 100))
    others = [
        sample_of([[40, 40, 60, 60]], ignore=[[0, 0, 10, 10]], size_hw=(100, 100), labels=[k])
        for k in (1, 2, 3)
    ]
    half = np.array([[0.5, 0, 0], [0, 0.5, 0]])
    rects = [(0, 0, 30, 20), (30, 0, 64, 20), (0, 20, 30, 64), (30, 20, 64, 64)]
    tiles = [MosaicTile(*rect, each, half) for rect, each in zip(rects, [first, *others], strict=True)]
    crop = RandomAffine(img_scale=(64, 64))
    made = Mosaic(transforms=[crop]).apply(first, tiles)
    assert made.gt_bboxes.tolist() == [[0, 0, 10, 10], [20, 40, 30, 50], [50, 40, 60, 50]]  # one is cut off
    assert made.gt_labels.tolist() == [0, 2, 3]
    assert made.gt_kps[0].tolist() == [[5, 5, 1], [2, 2, 1]]
    assert made.gt_bboxes_ignore.tolist() == [[30, 0, 35, 5], [0, 20, 5, 25], [30, 20, 35, 25]]
    want = np.empty((44, 34, 3), np.uint8)
    warp(others[2].image, half, want)
    np.testing.assert_array_equal(made.image[20:, 30:], want)


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "d", 9)
    return tmp_path / "d"


def dataset_of(root, **options):
    cfg = dict(type="FacesDataset", ann_file=str(root / "labelv2.txt"), img_prefix=str(root / "images"))
    return build_dataset({**cfg, "pipeline": MOSAIC, **options}, seed=3)


def batches_of(root, workers, start=0, rank=0, world_size=1, batch_size=4):
    dataset = dataset_of(root)
    sampler = GroupBatchSampler(dataset.group_flags, batch_size, world_size, rank)
    options = dict(workers=workers, collate=Collate((8, 32)), total_iters=6, start_iter=start)
    return list(build_loader(dataset, sampler, **options))


def same(a, b):
    names = ("images", "gt_bboxes", "gt_kps", "gt_valid")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def test_workers_resume_and_ranks_change_nothing(root):
    alone = batches_of(root, 0)
    assert any(batch.gt_valid.sum(1).max() > 2 for batch in alone)  # mosaics
    assert all(map(same, alone, batches_of(root, 2)))
    assert all(map(same, alone[4:], batches_of(root, 0, start=4)))
    for rank in range(2):
        half = batches_of(root, 0, rank=rank, world_size=2, batch_size=2)
        assert all(
            torch.equal(a.images[2 * rank : 2 * rank + 2], b.images) for a, b in zip(alone, half, strict=True)
        )


def test_the_last_epochs_are_closed(root):
    dataset = dataset_of(root, closing_pipeline=[CROP, *STEPS], closing_share=0.2)
    assert dataset.pipeline_of(9) is dataset.pipeline  # no run
    dataset.total_epochs = 10
    assert [dataset.pipeline_of(epoch) is dataset.closing_pipeline for epoch in (0, 7, 8, 9)] == [0, 0, 1, 1]
    assert all(len(dataset[(9, index)].gt_bboxes) <= 2 for index in range(9))


def test_a_missing_further_image_is_replaced_and_noted(root):
    (root / "images" / "4.png").unlink()
    dataset = dataset_of(root, pipeline=[{**MOSAIC[0], "prob": 1.0}, *STEPS])
    notes = [note for index in range(9) for note in dataset[(0, index)].notes]
    assert {note.name for note in notes} == {"4.png"} and len(notes) > 1


def test_colours_may_be_left_to_the_device(root):
    dataset = dataset_of(root, closing_pipeline=[CROP, *STEPS])
    leave_colours_to_device(dataset)
    for sample in (dataset.pipeline(dataset.load(0), np.random.RandomState(0)), dataset[(0, 0)]):
        assert (
            sample.image.dtype == np.uint8
            and sample.image.shape == (48, 64, 3)
            and len(sample.pixel_ops) == 9
        )
    other = [CROP, *STEPS[:3], dict(type="Normalize", mean=[0] * 3, std=[1] * 3)]
    with pytest.raises(ConfigError, match="different Normalize"):
        leave_colours_to_device(dataset_of(root, closing_pipeline=other))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({**CROP, "crop_ratio_range": (2, 1)}, "low <= high"),
        ({**CROP, "face_px": (0, 1)}, "low <= high"),
        ({**CROP, "face_prob": 2.0}, "0 to 1"),
        ({"type": "Mosaic", "transforms": []}, "exactly one, RandomAffine"),
        ({"type": "Mosaic", "transforms": [CROP], "prob": -0.5}, "0 to 1"),
        ({"type": "Mosaic", "transforms": [CROP], "center_range": (0.0, 1.0)}, "0.1 to 0.9"),
    ],
)
def test_arguments_are_checked(step, said):
    with pytest.raises(ConfigError, match=said):
        build_pipeline([step])


def test_the_share_is_checked(root):
    with pytest.raises(ConfigError, match="closing_share"):
        dataset_of(root, closing_share=0.0)
