"""Faces without an anchor: a slow loop, faces placed by hand, and what must not change."""

import pytest
import torch
from atss_oracle import SCRFD, make_grid, oracle, random_faces

from mmdet.core.assigners import ATSSAssigner
from mmdet.errors import ConfigError

SIZE_HW = (128, 160)


def assign(faces, valid=None, valid_hw=SIZE_HW, **options):
    """Assign one batch of faces (B, G, 4)."""
    grid = make_grid(SCRFD, *SIZE_HW)
    valid = torch.ones(faces.shape[:2], dtype=torch.bool) if valid is None else valid
    sizes = torch.tensor([valid_hw] * len(faces))
    return ATSSAssigner(**options)(grid, faces, valid, torch.zeros_like(valid), sizes)


def slow(grid, faces, valid, valid_hw, min_face_px, ignore):
    """Return gt_index (-1: none) and is_ignored of one image, face by face on top of the ATSS oracle."""
    gt_index = oracle(grid, faces, valid, torch.tensor(valid_hw), 9)
    usable = (grid.centers[:, 1] < valid_hw[0]) & (grid.centers[:, 0] < valid_hw[1])
    ignored = ~usable
    # Who claims an anchor in ATSS, whether or not it is won: the oracle of that face alone.
    alone = [
        oracle(grid, faces[g : g + 1], valid[g : g + 1], torch.tensor(valid_hw), 9) for g in range(len(faces))
    ]
    fine = torch.arange(grid.level_sizes[0])
    nearest = []
    for x1, y1, x2, y2 in faces:
        distance = (grid.centers[fine] - torch.stack(((x1 + x2) / 2, (y1 + y2) / 2))).square().sum(1).sqrt()
        distance[~usable[fine]] = torch.inf
        nearest.append(distance.sort(stable=True)[1][:2].tolist())
    claims = {}
    for g, (x1, y1, x2, y2) in enumerate(faces):
        if valid[g] and (alone[g] < 0).all() and min_face_px and (x2 - x1) * (y2 - y1) >= min_face_px**2:
            claims.setdefault(nearest[g][0], []).append(g)
    for anchor, claimants in claims.items():
        holder = [int(gt_index[anchor])] if gt_index[anchor] >= 0 else []
        left, top, right, bottom = grid.bboxes[anchor]

        def iou(g):
            x1, y1, x2, y2 = faces[g]
            w, h = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)  # noqa: B023
            inter = max(w, 0) * max(h, 0)
            return float(inter / ((x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - inter))  # noqa: B023

        gt_index[anchor] = max(sorted(holder + claimants), key=iou)
    for g in range(len(faces)):
        if ignore and valid[g] and not (gt_index == g).any():
            for anchor in nearest[g]:
                ignored[anchor] |= bool(gt_index[anchor] < 0) and bool(usable[anchor])
    return gt_index, ignored


@pytest.mark.parametrize("min_face_px", [None, 2.0, 5.0])
@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("valid_hw", [SIZE_HW, (100, 90)])
def test_random_small_faces_equal_the_slow_loop(min_face_px, ignore, valid_hw):
    faces = torch.stack([random_faces(seed, 30, 2, 120, (1.5, 24)) for seed in (1, 2)])
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[1, 20:] = False
    got = assign(faces, valid, valid_hw, min_face_px=min_face_px, ignore_unassigned=ignore)
    grid = make_grid(SCRFD, *SIZE_HW)
    for image in range(2):
        gt_index, ignored = slow(grid, faces[image], valid[image], valid_hw, min_face_px, ignore)
        assert torch.equal(torch.where(got.is_positive, got.gt_index, -1)[image], gt_index)
        assert torch.equal(got.is_ignored[image], ignored)
    assert not (got.is_ignored & got.is_positive).any()


# A face of 4 px in the middle between four cell centres: ATSS finds no centre inside.
BETWEEN = [50.0, 50.0, 54.0, 54.0]
CELL = 2 * (6 * 20 + 6)  # row 6, column 6 of 20: the lowest of four equally near


def test_one_face_by_hand():
    faces = torch.tensor([[BETWEEN]])
    plain = assign(faces)
    assert not plain.is_positive.any() and not plain.is_ignored.any()
    forced = assign(faces, min_face_px=4.0)
    assert forced.is_positive.nonzero().tolist() == [[0, CELL]] and not forced.is_ignored.any()
    below = assign(faces, min_face_px=4.01, ignore_unassigned=True)
    assert not below.is_positive.any() and below.is_ignored.nonzero().tolist() == [[0, CELL], [0, CELL + 1]]
    ignored = assign(faces, ignore_unassigned=True)
    assert torch.equal(ignored.is_ignored, below.is_ignored)


def test_the_larger_of_two_faces_in_one_cell_wins_and_the_other_spares_the_rest():
    faces = torch.tensor([[[51.0, 51.0, 54.0, 54.0], BETWEEN]])
    got = assign(faces, min_face_px=3.0, ignore_unassigned=True)
    near = [2 * (6 * 20 + 7), 2 * (7 * 20 + 6)]
    assert got.is_positive[0].nonzero().flatten().tolist()[0] == CELL and got.gt_index[0, CELL] == 1
    assert not got.is_ignored[0, near].any()


def test_no_face_padding_and_zero_area():
    none = torch.zeros(1, 4, dtype=torch.bool)
    options = dict(min_face_px=4.0, ignore_unassigned=True)
    got = assign(torch.full((1, 4, 4), 50.0), none, **options)
    assert not got.is_positive.any() and not got.is_ignored.any()
    flat = assign(torch.tensor([[[50.0, 50.0, 50.0, 54.0]]]), **options)
    assert not flat.is_positive.any() and flat.is_ignored.sum() == 2


@pytest.mark.parametrize("options", [dict(min_face_px=3.0), dict(min_face_px=3.0, ignore_unassigned=True)])
def test_padding_slots_do_not_change_the_result(options):
    few = random_faces(5, 12, 2, 120, (1.5, 24))[None]
    many = torch.cat((few, torch.full((1, 20, 4), 7.0)), dim=1)
    valid = torch.arange(32)[None] < 12
    one, other = assign(few, **options), assign(many, valid, **options)
    assert torch.equal(one.is_positive, other.is_positive) and torch.equal(one.is_ignored, other.is_ignored)
    assert torch.equal(one.gt_index[one.is_positive], other.gt_index[one.is_positive])


def test_faces_that_have_anchors_keep_them():
    faces = random_faces(6, 20, 10, 110, (12, 60))[None]
    one, other = assign(faces), assign(faces, min_face_px=1.0)
    assert torch.equal(one.is_positive & ~other.is_positive, torch.zeros_like(one.is_positive))
    assert torch.equal(one.gt_index[one.is_positive], other.gt_index[one.is_positive])


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="min_face_px=0 must be above 0"):
        ATSSAssigner(min_face_px=0)
