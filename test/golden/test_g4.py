"""ATSS assignment against the reference's arrays (golden G4), equal element by element."""

import importlib.util

import numpy as np
import pytest
import torch

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.assigners import ATSSAssigner
from mmdet.core.bbox import pairwise_overlaps

GENERATORS = {
    "scrfd": AnchorGenerator(strides=[8, 16, 32], base_sizes=[16, 64, 256], scales=[1, 2], ratios=[1.0]),
    "crowdhuman": AnchorGenerator(
        strides=[8, 16, 32, 64, 128], base_sizes=[8, 16, 32, 64, 128], scales=[3], ratios=[2.0]
    ),
}
SETS = {
    "scrfd": "00_n1 01_n2 02_n5 03_n17 06_n300 07_duplicates 09_zero_and_inverted 10_grid_aligned_ties "
    "11_tiny_crowd 12_empty".split(),
    "crowdhuman": "03_n17 07_duplicates 09_zero_and_inverted".split(),
}
CASES = [(tag, name) for tag, names in SETS.items() for name in names]


@pytest.fixture(scope="module")
def arrays(golden):
    return np.load(golden / "g4_atss.npz")


def assign(generator, bboxes, slots, ignores=(), **options):
    """Assign the anchors of one 640 x 640 image; slots without a face hold nonsense."""
    grid = generator.grid([(640 // s, 640 // s) for s in generator.strides])
    n, m = len(bboxes), len(ignores)
    faces = torch.full((1, slots, 4), 12345.0)
    faces[0, :n] = torch.as_tensor(bboxes)
    faces[0, n : n + m] = torch.as_tensor(ignores, dtype=torch.float32).reshape(m, 4)
    slot = torch.arange(slots)[None]
    ignore = (slot >= n) & (slot < n + m)
    return grid, ATSSAssigner(**options)(grid, faces, slot < n, ignore, torch.tensor([[640, 640]]))


def test_all_stored_sets_are_tested(arrays):
    assert {tuple(key.split("/")[:2]) for key in arrays.files} == set(CASES)


@pytest.mark.parametrize("padding", [1, 40])
@pytest.mark.parametrize("tag,name", CASES)
def test_assignment_with_lowest_index_ties(tag, name, padding, arrays):
    bboxes = arrays[f"{tag}/{name}/boxes"]
    grid, got = assign(GENERATORS[tag], bboxes, len(bboxes) + padding)
    gt_inds = torch.where(got.is_positive, got.gt_index + 1, 0)[0].numpy()
    np.testing.assert_array_equal(gt_inds, arrays[f"{tag}/{name}/gt_inds_lowidx"])
    assert not got.is_ignored.any()

    if len(bboxes):
        iou = pairwise_overlaps(grid.bboxes, torch.tensor(bboxes)).gather(1, got.gt_index[0, :, None])[:, 0]
        overlaps = torch.where(got.is_positive[0], iou, -1e8).numpy()
        np.testing.assert_allclose(overlaps, arrays[f"{tag}/{name}/max_overlaps_lowidx"], rtol=1e-6)


def test_ignore_region_as_in_the_reference(golden):
    # 64 faces; the top left quarter of the image is an ignore box. The reference counted 215 positive and
    # 3821 ignored anchors with torch.topk's ties; the dense oracle below reproduces both, and ours equals
    # the oracle once it breaks ties by the lowest index.
    spec = importlib.util.spec_from_file_location("g4_sets", golden / "g4_sets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bboxes, ignore = module.sets()["04_n64"], [[0.0, 0.0, 320.0, 320.0]]
    grid, got = assign(GENERATORS["scrfd"], bboxes, 70, ignores=ignore, ignore_iof_thr=0.5)

    gt_inds = dense_gt_inds(
        grid, torch.tensor(bboxes), torch.tensor(ignore), lambda d: d.topk(9, 0, False)[1]
    )
    assert ((gt_inds > 0).sum(), (gt_inds < 0).sum(), (gt_inds == 0).sum()) == (215, 3821, 12764)

    gt_inds = dense_gt_inds(
        grid, torch.tensor(bboxes), torch.tensor(ignore), lambda d: d.sort(dim=0, stable=True)[1][:9]
    )
    assert torch.equal(torch.where(got.is_positive, got.gt_index + 1, 0)[0], gt_inds.clamp(min=0))
    assert torch.equal(got.is_ignored[0], gt_inds < 0)


def dense_gt_inds(grid, bboxes, ignores, choose):
    """Assign with the A x G matrix; -1 ignored, 0 background, k = face k - 1."""
    iou = pairwise_overlaps(grid.bboxes, bboxes)  # (A, G)
    ignored = (pairwise_overlaps(grid.bboxes, ignores, "iof") > 0.5).any(dim=1)
    center = (bboxes[:, :2] + bboxes[:, 2:]) / 2
    distance = (grid.centers[:, None] - center).square().sum(-1).sqrt()
    distance[ignored] = 1e8
    levels = distance.split(grid.level_sizes)
    index = torch.cat([choose(d) + level.offset for d, level in zip(levels, grid.levels, strict=True)])
    candidate_iou = iou.gather(0, index)
    ltrb = torch.cat((grid.centers[index] - bboxes[:, :2], bboxes[:, 2:] - grid.centers[index]), dim=-1)
    size = (bboxes[:, 2:] - bboxes[:, :2]).prod(dim=1).clamp(min=1e-4).sqrt()
    positive = candidate_iou >= candidate_iou.mean(0) + candidate_iou.std(0)
    positive &= ltrb.amin(-1) / size > 0.001
    claimed = torch.full_like(iou, -1).scatter(0, index, torch.where(positive, candidate_iou, -1))
    best, face = claimed.max(dim=1)
    return torch.where(best >= 0, face + 1, torch.where(ignored, -1, 0))
