"""Task-aligned positives: a slow loop, choices by hand, edges, and what must not change them."""

from dataclasses import replace

import pytest
import torch
from atss_oracle import SCRFD, make_grid, random_faces

from mmdet.config import load_config
from mmdet.core.assigners import TaskAlignedAssigner, assign_ahead
from mmdet.core.bbox import pairwise_overlaps
from mmdet.errors import ConfigError
from mmdet.models.build import build_criterion, build_detector
from mmdet.testing.audit_step import draw_batch

SIZE_HW = (96, 128)
GRID = make_grid(SCRFD, *SIZE_HW)


def allow(faces, valid=None, valid_hw=SIZE_HW, **options):
    valid = torch.ones(faces.shape[:2], dtype=torch.bool) if valid is None else valid
    assigner = TaskAlignedAssigner(**options)
    return assigner, assigner(
        GRID, faces, valid, torch.zeros_like(valid), torch.tensor([valid_hw] * len(faces))
    )


def choose(faces, score, iou, **options):
    """Return the assignment for (A,) scores and (A, G) IoUs of one image, and what was allowed."""
    assigner, allowed = allow(faces, **options)
    anchor = allowed.candidate_anchor  # (M, 1, G)
    slot = torch.arange(faces.shape[1]).expand_as(anchor)
    return assigner.follow(allowed, score[anchor], iou[anchor, slot]), allowed


def is_inside(center, face):
    x1, y1, x2, y2 = face.tolist()
    margin = min(center[0] - x1, center[1] - y1, x2 - center[0], y2 - center[1])
    return margin / max((x2 - x1) * (y2 - y1), 1e-4) ** 0.5 > 0.001


def slow(faces, valid, score, iou, topk, min_face_px=4.0, prior=0.5, num_candidates=9):
    """Return gt_index of one image (-1: none) and the faces' nearest cells that are spared."""
    anchor_iou = pairwise_overlaps(GRID.bboxes, faces)
    lists, claims = [], {}
    for g, face in enumerate(faces):
        middle = torch.stack(((face[0] + face[2]) / 2, (face[1] + face[3]) / 2))
        distance = (GRID.centers - middle).square().sum(1).sqrt()
        found = []
        for level, size in zip(GRID.levels, GRID.level_sizes, strict=True):
            index = torch.arange(level.offset, level.offset + size)
            found += index[distance[index].sort(stable=True)[1][:num_candidates]].tolist()
        mine = [a for a in found if is_inside(GRID.centers[a].tolist(), face)] if valid[g] else []
        if valid[g] and not mine and (face[2:] - face[:2]).prod() >= min_face_px**2:
            mine = found[:1]
        lists.append((found, mine))
        for a in mine:
            claims.setdefault(a, []).append(g)
    owner = {a: max(sorted(of), key=lambda g: anchor_iou[a, g]) for a, of in claims.items()}  # noqa: B023
    gt_index = torch.full((GRID.num_anchors,), -1)
    spared = set()
    for g, (found, mine) in enumerate(lists):
        mine = [a for a in mine if owner[a] == g]
        fit = {a: float(score[a] * torch.maximum(iou[a, g], prior * anchor_iou[a, g]) ** 6) for a in mine}
        for a in sorted(mine, key=lambda a: -fit[a])[:topk]:  # noqa: B023
            gt_index[a] = g
        if valid[g] and not mine:
            spared |= set(found[:2])
    return gt_index, spared - set(owner)


@pytest.mark.parametrize("topk", [1, 3, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_the_slow_loop(topk, seed):
    faces = random_faces(seed, 14, 0, 96, (2, 60))
    valid = torch.arange(14) != 5
    random = torch.Generator().manual_seed(seed)
    score = torch.rand(GRID.num_anchors, generator=random)
    iou = torch.rand(GRID.num_anchors, 14, generator=random)
    got, allowed = choose(faces[None], score, iou, valid=valid[None], topk=topk)
    want, spared = slow(faces, valid, score, iou, topk)
    assert torch.equal(got.is_positive[0], want >= 0)
    assert torch.equal(got.gt_index[0][want >= 0], want[want >= 0])
    assert set(torch.nonzero(got.is_ignored[0])[:, 0].tolist()) == spared
    assert got.num_samples == max(int((want >= 0).sum()), 1)


def test_a_good_prediction_wins_and_anchors_decide_without_one():
    face = torch.tensor([[[20.0, 20, 60, 60]]])  # cells of stride 8 inside: 24 to 56
    nothing = torch.full((GRID.num_anchors,), 0.01), torch.zeros(GRID.num_anchors, 1)
    got, allowed = choose(face, *nothing, topk=1)
    (best,) = torch.nonzero(got.is_positive[0])[:, 0].tolist()
    overlaps = pairwise_overlaps(GRID.bboxes, face[0])[:, 0]
    assert overlaps[best] == overlaps[allowed.candidate_anchor[allowed.candidate_wins]].max()
    other = int(allowed.candidate_anchor[:, 0, 0][allowed.candidate_wins[:, 0, 0]][3])
    score, iou = (value.clone() for value in nothing)
    score[other], iou[other] = 0.9, 0.8
    got, _ = choose(face, score, iou, topk=1)
    assert torch.nonzero(got.is_positive[0])[:, 0].tolist() == [other]


def test_small_faces_learn_at_the_nearest_anchor_and_smaller_ones_are_spared():
    nowhere = torch.tensor([[[33.0, 33, 38, 38], [65, 33, 68, 36]]])  # 5 and 3 px between cells of 8
    got, _ = choose(nowhere, torch.ones(GRID.num_anchors), torch.ones(GRID.num_anchors, 2))
    cell = GRID.centers[got.is_positive[0]]
    assert cell.tolist() == [[32, 32]] and got.gt_index[0][got.is_positive[0]].tolist() == [0]
    assert GRID.centers[got.is_ignored[0]].tolist() == [[64, 32], [64, 32]]
    got, _ = choose(nowhere, torch.ones(GRID.num_anchors), torch.ones(GRID.num_anchors, 2), min_face_px=None,
                    ignore_unassigned=False)  # fmt: skip
    assert not got.is_positive.any() and not got.is_ignored.any()


@pytest.mark.parametrize("num_faces", [0, 1, 8])
def test_padding_and_the_place_of_assigning_change_nothing(repo, num_faces):
    cfg = load_config(repo / "configs/recipes/scrfd_500m_bnkps_aligned.py")
    torch.manual_seed(0)
    net, criterion = build_detector(cfg.model, cfg.train_cfg), build_criterion(cfg.model, cfg.train_cfg)
    batch = draw_batch(2, 64, num_faces, slots=8, seed=3)
    outputs = net(batch.images).float()
    losses = criterion(outputs, batch)
    ahead = replace(batch, assigned=assign_ahead(criterion)(batch)).map(torch.clone)
    empty = ~(batch.gt_valid | batch.gt_ignore)[..., None]
    filled = replace(batch, gt_bboxes=torch.where(empty, 3e38, batch.gt_bboxes))
    for other in (ahead, filled):
        assert {k: v.item() for k, v in criterion(outputs, other).items()} == {
            k: v.item() for k, v in losses.items()
        }
    sum(losses.values()).backward()
    grads = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert all(grad.isfinite().all() for grad in grads) and grads


def test_the_class_of_the_face_counts(repo):
    cfg = load_config(repo / "configs/recipes/scrfd_500m_bnkps_aligned.py", ["model.bbox_head.num_classes=3"])
    net, criterion = build_detector(cfg.model, cfg.train_cfg), build_criterion(cfg.model, cfg.train_cfg)
    batch = draw_batch(1, 64, 1, slots=2, seed=3)
    batch.gt_labels[:] = 2
    outputs = net(batch.images).float()
    seen = []
    criterion.assigner.follow = lambda allowed, score, iou: seen.append(score) or allowed
    criterion(outputs, batch)
    anchor = criterion.assigner(
        criterion.anchor_generator.grid(outputs.level_sizes_hw),
        batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw,
    ).candidate_anchor  # fmt: skip
    torch.testing.assert_close(seen[0][:, 0, 0], outputs.cls_logits[0, anchor[:, 0, 0], 2].sigmoid())


def test_boxes_without_area_and_beyond_the_image():
    faces = torch.tensor([[[30.0, 30, 30, 30], [-50, -50, -10, -10], [500, 500, 600, 600], [0, 0, 128, 96]]])
    got, _ = choose(faces, torch.ones(GRID.num_anchors), torch.ones(GRID.num_anchors, 4))
    assert got.candidate_wins[:, 0].sum(0)[3] == 9 and got.candidate_wins[:, 0, 0].sum() == 0


@pytest.mark.parametrize("options", [{"topk": 0}, {"num_candidates": 0}, {"prior": 0.0}, {"beta": -1.0}])
def test_arguments_are_checked(options):
    with pytest.raises(ConfigError, match="TaskAlignedAssigner"):
        TaskAlignedAssigner(**options)
