"""MultiBoxAssigner against the rule written as loops over one image, and its edge cases."""

import pytest
import torch

from mmdet.core.anchors import AnchorGenerator, PriorGenerator
from mmdet.core.assigners import ATSSAssigner, MultiBoxAssigner
from mmdet.core.bbox import pairwise_overlaps
from mmdet.errors import ConfigError

GENERATOR = PriorGenerator(strides=(8, 16, 32), min_sizes=((16, 32), (64, 128), (256, 512)))


def grid_of(height, width, generator=GENERATOR):
    return generator.grid([(-(-height // s), -(-width // s)) for s in generator.strides])


def assign(faces, height=320, width=320, slots=None, assigner=None, grid=None, ignore=()):
    """Return the Assignment of one image with `faces` and ignore boxes, padded to `slots`."""
    count = len(faces) + len(ignore)
    bboxes = torch.full((1, slots or max(count, 1), 4), -5.0)
    bboxes[0, :count] = torch.tensor([*faces, *ignore], dtype=torch.float32).view(-1, 4)
    valid, is_ignore = torch.zeros(2, 1, bboxes.shape[1], dtype=torch.bool)
    valid[0, : len(faces)] = True
    is_ignore[0, len(faces) : count] = True
    grid = grid_of(height, width) if grid is None else grid
    valid_hw = torch.tensor([[height, width]])
    return (assigner or MultiBoxAssigner())(grid, bboxes, valid, is_ignore, valid_hw)


def by_loops(grid, faces):
    """Return (face of each anchor, is it positive) by the rule, face by face."""
    faces = torch.tensor(faces, dtype=torch.float32).view(-1, 4)
    iou = pairwise_overlaps(faces, grid.bboxes, eps=1e-12)
    best = [row.max().item() for row in iou]
    best_anchor = [int((row == row.max()).nonzero()[0, 0]) for row in iou]
    if not any(value >= 0.2 for value in best):
        return torch.zeros(grid.num_anchors, dtype=torch.int64), torch.zeros(grid.num_anchors, dtype=bool)
    overlap = iou.amax(0)
    owner = torch.stack([iou[:, a].argmax() for a in range(grid.num_anchors)])
    for face, anchor in enumerate(best_anchor):
        if best[face] >= 0.2:
            overlap[anchor] = 2.0
    for face, anchor in enumerate(best_anchor):
        if best[face] > 0:
            owner[anchor] = face
    return owner, overlap >= 0.35


def check_list(found):
    """The list holds the positives, and the counts are those of the masks."""
    is_real = found.exists > 0
    assert torch.equal(found.row[is_real], found.is_positive.flatten().nonzero()[:, 0])
    assert torch.equal(found.row % found.is_positive.shape[1], found.anchor)
    assert found.num_positives.tolist() == found.is_positive.sum(dim=1).tolist()
    assert found.num_free.tolist() == (~(found.is_positive | found.is_ignored)).sum(dim=1).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_same_as_the_rule_on_random_faces(seed):
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 9, (1,), generator=generator))
    side = torch.exp(torch.rand(count, 1, generator=generator) * 4.2 + 1.5)
    side = side * torch.exp(torch.randn(count, 2, generator=generator) * 0.25)
    center = torch.rand(count, 2, generator=generator) * 320
    if seed % 2:  # whole numbers: many ties
        side, center = side.round(), center.round()
    faces = torch.cat((center - side / 2, center + side / 2), dim=1).tolist()
    found = assign(faces)
    owner, is_positive = by_loops(grid_of(320, 320), faces)
    assert torch.equal(found.is_positive[0], is_positive)
    assert torch.equal(found.gt_index[0][is_positive], owner[is_positive])
    check_list(found)


def test_no_face_and_only_unreachable_faces_are_background():
    assert not assign([]).is_positive.any()
    assert not assign([(10, 10, 12, 12), (50, 50, 53, 52)]).is_positive.any()  # best IoU below 0.2


def test_a_face_without_area_or_outside_claims_nothing():
    at_anchor_0 = (-4, -4, 12, 12)  # anchor 0 exactly
    found = assign([at_anchor_0, (100, 100, 100, 140), (900, 900, 950, 950)])
    assert found.is_positive[0, 0]
    assert found.gt_index[0, 0] == 0


def test_a_small_face_takes_the_anchor_of_a_large_one_only_when_it_comes_later():
    large, small = (96, 96, 112, 112), (101, 101, 107, 107)
    anchor = assign([large]).is_positive[0].nonzero()[0, 0]
    assert assign([large, small]).gt_index[0, anchor] == 1
    assert assign([small, large]).gt_index[0, anchor] == 1


def test_padding_slots_do_not_change_the_result():
    faces = [(40, 40, 90, 100), (200, 180, 230, 220)]
    few, many = assign(faces, slots=2), assign(faces, slots=64)
    assert torch.equal(few.is_positive, many.is_positive)
    assert torch.equal(few.gt_index[few.is_positive], many.gt_index[many.is_positive])


def test_several_images_do_not_mix():
    grid, faces = grid_of(320, 320), [[(40, 40, 90, 100)], [(200, 180, 230, 220)]]
    bboxes = torch.tensor(faces, dtype=torch.float32)
    valid = torch.ones(2, 1, dtype=torch.bool)
    both = MultiBoxAssigner()(grid, bboxes, valid, ~valid, torch.tensor([[320, 320]] * 2))
    for image in range(2):
        alone = assign(faces[image])
        assert torch.equal(both.is_positive[image], alone.is_positive[0])


def test_anchors_beyond_the_sample_or_inside_an_ignore_box_take_no_part():
    grid = grid_of(320, 320)
    narrow = MultiBoxAssigner()(
        grid,
        torch.tensor([[[100.0, 100, 150, 150]]]),
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, 1, dtype=torch.bool),
        torch.tensor([[320, 120]]),
    )
    beyond = grid.centers[:, 0] >= 120
    assert torch.equal(narrow.is_ignored[0], beyond)
    assert not (narrow.is_positive[0] & beyond).any()
    found = assign(
        [(40, 40, 90, 100)], assigner=MultiBoxAssigner(ignore_iof_thr=0.5), ignore=[(0, 0, 320, 320)]
    )
    assert found.is_ignored.any()
    assert not (found.is_positive & found.is_ignored).any()


def test_the_list_is_filled_up_to_a_power_of_two():
    generator = torch.Generator().manual_seed(0)
    center = torch.rand(64, 2, generator=generator) * 640
    side = torch.exp(torch.rand(64, 1, generator=generator) * 3 + 3.5)
    found = assign(torch.cat((center - side / 2, center + side / 2), dim=1).tolist(), 640, 640)
    assert len(found.row) == 2048
    check_list(found)
    none = assign([])
    assert len(none.row) == 256
    assert none.exists.sum() == none.num_positives.sum() == 0
    assert none.num_free.tolist() == [grid_of(320, 320).num_anchors]


def test_the_list_counts_through_the_images():
    grid, slots = grid_of(64, 64), 3
    bboxes = torch.tensor([[[0.0, 0, 1, 1]] * slots, [[0.0, 0, 1, 1], [0, 0, 1, 1], [-4, -4, 12, 12]]])
    valid = torch.tensor([[False] * slots, [False, False, True]])
    found = MultiBoxAssigner()(grid, bboxes, valid, valid & False, torch.tensor([[64, 64]] * 2))
    num = int(found.num_positives[1])
    assert found.row[:num].tolist() == (grid.num_anchors + found.anchor[:num]).tolist()
    assert found.anchor[0] == 0  # exactly the face
    assert set(found.gt_row[:num].tolist()) == {slots + 2}
    check_list(found)


def test_corner_anchors_work_too_and_atss_refuses_centred_ones():
    corner = AnchorGenerator(strides=(8, 16), ratios=(1.0,), scales=(1, 2), base_sizes=(16, 64))
    grid = grid_of(128, 128, corner)
    face = (24.0, 24, 56, 56)
    found = assign([face], 128, 128, grid=grid)
    owner, is_positive = by_loops(grid, [face])
    assert torch.equal(found.is_positive[0], is_positive)
    with pytest.raises(ConfigError, match="corners of the cells"):
        assign([face], assigner=ATSSAssigner())


def test_refuses_impossible_settings():
    with pytest.raises(ConfigError, match=r"pos_iou_thr=0 must be"):
        MultiBoxAssigner(pos_iou_thr=0)
    with pytest.raises(ConfigError, match="one list for each"):
        PriorGenerator(strides=(8, 16), min_sizes=((16, 32),))
    with pytest.raises(ConfigError, match="same number"):
        PriorGenerator(strides=(8, 16), min_sizes=((16, 32), (64,)))
