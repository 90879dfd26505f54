"""The window of cells against a dense anchors x faces oracle, and the rules for ties, padding and borders."""

import pytest
import torch
from atss_oracle import SCRFD, make_grid, oracle, random_faces

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.assigners import ATSSAssigner
from mmdet.core.assigners.atss import (
    _keep_true,
    _mean_plus_std,
    _most_positives,
    nearest_allowed_anchors,
    nearest_anchors,
)
from mmdet.core.bbox import pairwise_overlaps
from mmdet.errors import ConfigError

ONE_PER_CELL = AnchorGenerator(strides=[8, 16, 32, 64, 128], scales=[3], ratios=[2.0])
THREE_PER_CELL = AnchorGenerator(strides=[8, 32], scales=[1, 2, 4], ratios=[1.0])


def check(generator, size_hw, faces, valid=None, valid_hw=None, topk=9):
    """Compare with the oracle, image by image; faces (B, G, 4)."""
    grid = make_grid(generator, *size_hw)
    valid = torch.ones(faces.shape[:2], dtype=torch.bool) if valid is None else valid
    valid_hw = torch.tensor([size_hw] * len(faces)) if valid_hw is None else torch.tensor(valid_hw)
    got = ATSSAssigner(topk=topk)(grid, faces, valid, torch.zeros_like(valid), valid_hw)
    for image in range(len(faces)):
        expected = oracle(grid, faces[image], valid[image], valid_hw[image], topk)
        gt_index = torch.where(got.is_positive, got.gt_index, -1)[image]
        assert torch.equal(gt_index, expected)
    check_winners(got)
    return got


def check_winners(got):
    """Winning candidates and the dense fields must say the same."""
    for image in range(len(got.gt_index)):
        m, slot = got.candidate_wins[:, image].nonzero().unbind(1)
        anchor = got.candidate_anchor[m, image, slot]
        assert anchor.unique().numel() == anchor.numel() == got.is_positive[image].sum()
        assert torch.equal(got.gt_index[image, anchor], slot)
        assert got.is_positive[image, anchor].all() and not got.is_ignored[image, anchor].any()


@pytest.mark.parametrize("generator", [SCRFD, ONE_PER_CELL, THREE_PER_CELL])
@pytest.mark.parametrize("size_hw", [(256, 256), (96, 320), (250, 130), (32, 32), (64, 8)])
def test_random_faces_equal_the_oracle(generator, size_hw):
    inside = random_faces(1, 20, 0, min(size_hw), (3, 200))
    around = random_faces(2, 20, -150, 400, (3, 600))
    check(generator, size_hw, torch.stack((inside, around)))


@pytest.mark.parametrize("generator", [SCRFD, ONE_PER_CELL])
@pytest.mark.parametrize("topk", [1, 2, 4, 9, 15])
def test_any_topk_equals_the_oracle(generator, topk):
    check(generator, (160, 96), random_faces(3, 25, -20, 170, (4, 120))[None], topk=topk)


@pytest.mark.parametrize("generator", [SCRFD, ONE_PER_CELL])
def test_candidates_are_the_nearest_anchors_even_far_outside(generator):
    # Centres on cells, half way between them, on borders and up to 3000 px outside: all combinations.
    grid = make_grid(generator, 96, 160)
    x = torch.tensor([-3000.0, -100, -4, -0.5, 0, 4, 8, 60, 76, 80, 100.25, 152, 156, 159, 160, 500, 3000])
    center = torch.cartesian_prod(x, x)
    faces = torch.cat((center - 5, center + 5), dim=1)[None]
    found = nearest_anchors(grid, faces, torch.tensor([[96, 160]]), 9)
    candidate, exists = found.anchor[:, 0], found.exists[:, 0]  # (27, faces)
    bboxes, centers = grid.bboxes[candidate], grid.centers[candidate]
    assert torch.equal(torch.stack(found.sides, dim=-1)[:, 0][exists], bboxes[exists])
    assert torch.equal(torch.stack((found.x, found.y), dim=-1)[:, 0][exists], centers[exists])
    distance = (grid.centers[:, None] - center).square().sum(-1).sqrt()
    for index, level in enumerate(grid.levels):
        size = grid.level_sizes[index]
        k = min(9, size)
        expected = distance[level.offset : level.offset + size].sort(dim=0, stable=True)[1][:k] + level.offset
        here = slice(9 * index, 9 * index + 9)
        assert torch.equal(candidate[here][:k], expected)
        assert exists[here].sum(dim=0).eq(k).all()


def test_looking_at_all_anchors_finds_the_same():
    faces = torch.stack((random_faces(4, 21, -50, 200, (4, 90)), random_faces(5, 21, 0, 64, (1, 9))))
    for generator in (SCRFD, ONE_PER_CELL):
        grid = make_grid(generator, 96, 160)
        valid_hw = torch.tensor([[96, 160], [50, 70]])
        beyond = (grid.centers[:, 1] >= valid_hw[:, :1]) | (grid.centers[:, 0] >= valid_hw[:, 1:])
        near = nearest_anchors(grid, faces, valid_hw, 9)
        allowed = nearest_allowed_anchors(grid, faces, beyond, 9)
        exists = near.exists
        assert torch.equal(exists, allowed.exists)
        for name in ("anchor", "x", "y"):
            assert torch.equal(getattr(near, name)[exists], getattr(allowed, name)[exists])
        for one, other in zip(near.sides, allowed.sides, strict=True):
            assert torch.equal(one[exists], other[exists])


def test_degenerate_faces():
    faces = torch.tensor(
        [
            [64.0, 64, 64, 64],  # zero size on a cell
            [50, 50, 50, 80],  # zero width
            [90, 90, 60, 60],  # inverted
            [0, 0, 128, 128],  # the whole image
            [-900, -900, 900, 900],  # far larger than it
            [63.9, 63.9, 64.1, 64.1],  # tiny, around a cell
            [65, 65, 71, 71],  # tiny, between cells: no anchor
            [0, 0, 128, 128],  # a duplicate: the lower slot wins
        ]
    )
    got = check(SCRFD, (128, 128), faces[None])
    learned = [int((got.is_positive[0] & (got.gt_index[0] == slot)).sum()) for slot in range(8)]
    assert [n > 0 for n in learned] == [False, False, False, True, True, True, False, False]


def test_anchors_beyond_the_valid_part_are_neither_candidates_nor_trained():
    faces = torch.stack([random_faces(6, 15, 0, 128, (4, 100))] * 2)
    got = check(SCRFD, (128, 128), faces, valid_hw=[(128, 128), (61, 100)])
    assert not got.is_ignored[0].any()
    # ceil(61 / s) * ceil(100 / s) cells with two anchors each stay, at strides 8, 16 and 32
    assert (~got.is_ignored[1]).sum() == 2 * (8 * 13 + 4 * 7 + 2 * 4)


def test_no_face():
    grid = make_grid(SCRFD, 64, 64)
    none = torch.zeros(2, 3, dtype=torch.bool)
    got = ATSSAssigner()(grid, torch.zeros(2, 3, 4), none, none, torch.tensor([[64, 64]] * 2))
    assert not got.is_positive.any() and not got.candidate_wins.any() and not got.is_ignored.any()


@pytest.mark.parametrize("nonsense", [0.0, -7.5, 1e6, 3e38])
def test_padding_slots_do_not_change_the_result(nonsense):
    faces = random_faces(7, 6, 0, 128, (4, 60))
    few = check(SCRFD, (128, 128), faces[None])
    padded = torch.full((1, 50, 4), nonsense)
    slots = torch.arange(3, 45, 7)  # the faces stand anywhere between
    padded[0, slots] = faces
    valid = torch.zeros(1, 50, dtype=torch.bool)
    valid[0, slots] = True
    grid = make_grid(SCRFD, 128, 128)
    many = ATSSAssigner()(grid, padded, valid, torch.zeros_like(valid), torch.tensor([[128, 128]]))
    assert torch.equal(few.is_positive, many.is_positive)
    assert torch.equal(slots[few.gt_index[few.is_positive]], many.gt_index[many.is_positive])
    check_winners(many)


def test_images_of_a_batch_do_not_influence_each_other():
    faces = torch.stack([random_faces(seed, 10, 0, 96, (4, 90)) for seed in range(4)])
    together = check(SCRFD, (96, 96), faces)
    alone = check(SCRFD, (96, 96), faces[2:3])
    assert torch.equal(together.is_positive[2], alone.is_positive[0])


def ignore_case(iof_thr):
    faces = torch.cat(
        (random_faces(8, 12, 0, 128, (6, 60)), torch.tensor([[0.0, 0, 70, 128], [90, 90, 99, 99]]))
    )
    ignore = torch.tensor([[False] * 12 + [True] * 2])
    grid = make_grid(SCRFD, 128, 128)
    assigner = ATSSAssigner(ignore_iof_thr=iof_thr)
    return grid, faces, assigner(grid, faces[None], ~ignore, ignore, torch.tensor([[128, 128]]))


def test_ignore_boxes_have_no_effect_by_default():
    _, faces, got = ignore_case(-1)
    expected = check(SCRFD, (128, 128), faces[None, :12])
    assert torch.equal(got.is_positive, expected.is_positive)
    assert not got.is_ignored.any()


def test_ignored_anchors_are_replaced_by_the_next_nearest():
    grid, faces, got = ignore_case(0.5)
    ignored = (pairwise_overlaps(grid.bboxes, faces[12:], "iof") > 0.5).any(dim=1)
    assert torch.equal(got.is_ignored[0], ignored) and ignored.any()
    expected = oracle(grid, faces[:12], [True] * 12, (128, 128), 9, ignored)
    assert torch.equal(torch.where(got.is_positive, got.gt_index, -1)[0], expected)
    check_winners(got)


def test_ignore_boxes_count_without_a_face():
    grid = make_grid(SCRFD, 64, 64)
    ignore = torch.tensor([[True]])
    got = ATSSAssigner(ignore_iof_thr=0.5)(
        grid, torch.tensor([[[0.0, 0, 64, 64]]]), ~ignore, ignore, torch.tensor([[64, 64]])
    )
    assert got.is_ignored.any() and not got.is_positive.any()


def test_other_modes_are_refused():
    with pytest.raises(ConfigError, match="mode=2 is not implemented"):
        ATSSAssigner(mode=2)
    with pytest.raises(ConfigError, match="topk=0"):
        ATSSAssigner(topk=0)


def test_less_than_half_of_the_candidates_can_reach_mean_plus_std():
    # The hardest case: m equal values above n - m equal ones, and random ones.
    grid = make_grid(SCRFD, 64, 64)
    most = _most_positives(grid, topk=9)
    assert most == 13
    ramps = torch.stack([(torch.arange(27) < m).float() for m in range(1, 27)])  # (26, 27)
    values = torch.cat([ramps, ramps * 0.1 + 0.3, torch.rand(2000, 27) ** 8])
    reached = (values.T >= _mean_plus_std(values.T, torch.ones_like(values.T, dtype=torch.bool))).sum(dim=0)
    assert reached.max() == 13
    assert reached[:26].tolist() == [*range(1, 14), *[0] * 13]


def test_with_one_size_of_anchors_all_candidates_may_win():
    # All anchors inside the face overlap it equally: the standard deviation is 0 and all 9 reach the mean.
    generator = AnchorGenerator(strides=[8], scales=[1], ratios=[1.0])
    got = check(generator, (64, 64), torch.tensor([[[0.0, 0.0, 64.0, 64.0]]]))
    assert got.is_positive.sum() == got.candidate_wins.sum() == 9


def test_the_sizes_that_count_are_those_of_candidates():
    # topk=1 takes the first anchor of a cell only: 16 and 64 px, which a face of 32 px overlaps by a quarter.
    generator = AnchorGenerator(strides=[8, 16], base_sizes=[16, 64], scales=[1, 2], ratios=[1.0])
    got = check(generator, (64, 64), torch.tensor([[[16.0, 16.0, 48.0, 48.0]]]), topk=1)
    assert got.candidate_wins.sum() == 2


def test_true_entries_come_first_and_in_their_order():
    mask = torch.tensor([[False, False], [True, False], [False, False], [False, False], [True, False]])
    kept, is_true = _keep_true(mask, 2)
    assert kept[:, 0].tolist() == [1, 4]
    assert is_true.tolist() == [[True, False], [True, False]]
    kept, is_true = _keep_true(mask, 1)  # more than asked for: no index out of range
    assert (kept[0, 0], is_true.tolist()) == (1, [[True, False]])
