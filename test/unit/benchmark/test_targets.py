"""The reference's algorithm, written plainly, and the batched product give the same numbers."""

import pytest
import torch

from benchmark import baseline_targets as baseline
from benchmark import targets
from mmdet.core.assigners import ATSSAssigner

EXACT = baseline.nearest_lowest_index


@pytest.mark.parametrize(("num_faces", "slots"), [(0, 4), (1, 4), (7, 7), (60, 64)])
def test_losses_and_gradients_agree(num_faces, slots):
    scene = targets.make_scene(2, num_faces, slots, size=320)
    got = targets.make_criterion()(scene.outputs(), scene.batch)
    want = targets.baseline_losses(scene, EXACT)
    if num_faces == 0:  # the reference divides 0 by 0 where ours gives 0
        assert got["loss_bbox"] == got["loss_kps"] == 0
        got, want = {"loss_cls": got["loss_cls"]}, {"loss_cls": want["loss_cls"]}
    for name, value in want.items():
        assert got[name].item() == pytest.approx(value.item(), rel=1e-5), name

    leaves = [values for level in scene.maps for values in level]
    mine = torch.autograd.grad(sum(got.values()), leaves, allow_unused=True)
    theirs = torch.autograd.grad(sum(want.values()), leaves, allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert a is not None or b is None
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_positives_agree():
    scene = targets.make_scene(3, 40, 64, size=320)
    grid = targets.ANCHORS.grid([(40, 40), (20, 20), (10, 10)])
    batch = scene.batch
    got = ATSSAssigner()(grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
    for image, face in enumerate(scene.faces):
        gt_index, _ = baseline.assign(grid, face.bboxes, nearest=EXACT)
        assert torch.equal(torch.where(got.is_positive, got.gt_index + 1, 0)[image], gt_index)
        assert gt_index.any()


def test_one_anchor_by_hand():
    # A 16 px face on the centre of cell (5, 5) of stride 8: of the 27 candidates only the two anchors of that
    # cell overlap well, and only the 16 px one (index 2 * (5 * 8 + 5)) reaches mean + std.
    grid = targets.ANCHORS.grid([(8, 8), (4, 4), (2, 2)])
    gt_index, overlap = baseline.assign(grid, torch.tensor([[32.0, 32.0, 48.0, 48.0]]), nearest=EXACT)
    assert gt_index.nonzero().flatten().tolist() == [90]
    assert overlap[90] == 1
