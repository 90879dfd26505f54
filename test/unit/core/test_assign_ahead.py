"""Assigning where the batch is made: the same assignment and the same losses as on the device."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mmdet.config import load_config
from mmdet.core.assigners import AssignAhead, assign_ahead, assignment_of
from mmdet.core.structures import Assignment
from mmdet.errors import ConfigError
from mmdet.models.build import build_criterion, build_detector
from mmdet.testing.audit_step import draw_batch

CONFIGS = ["scrfd/scrfd_500m_bnkps.py", "scrfd/scrfd_1g.py", "retinaface/mobilenet0.25.py"]


@pytest.fixture(params=CONFIGS)
def built(request, repo):
    cfg = load_config(repo / "configs" / request.param)
    torch.manual_seed(0)
    return build_detector(cfg.model, cfg.train_cfg), build_criterion(cfg.model, cfg.train_cfg)


@pytest.mark.parametrize("num_faces", [0, 1, 8])
@pytest.mark.parametrize("size", [64, 80])  # 80: the last level has 3 cells where 2.5 fit
def test_losses_are_the_same_bits(built, num_faces, size):
    net, criterion = built
    batch = draw_batch(2, size, num_faces, slots=8, seed=3)
    outputs = net(batch.images).float()
    ahead = assign_ahead(criterion)
    at_once, before = criterion(outputs, batch), criterion(outputs, replace(batch, assigned=ahead(batch)))
    assert {name: loss.item() for name, loss in before.items()} == {
        name: loss.item() for name, loss in at_once.items()
    }


@pytest.mark.parametrize("ignored_slot", [None, 5])
def test_slots_behind_the_last_face_are_not_looked_at(repo, ignored_slot):
    cfg = load_config(repo / "configs" / CONFIGS[0])
    ahead = assign_ahead(build_criterion(cfg.model, cfg.train_cfg))
    batch = draw_batch(2, 64, 3, slots=16)
    if ignored_slot is not None:
        batch.gt_ignore[1, ignored_slot] = True
    widths = []

    class Spy(type(ahead.assigner)):
        def __call__(self, grid, gt_bboxes, *others):
            widths.append(gt_bboxes.shape[1])
            return super().__call__(grid, gt_bboxes, *others)

    found = replace(ahead, assigner=Spy())(batch)
    full = ahead.assigner(ahead.grid(batch), batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
    assert widths == [3 if ignored_slot is None else 6]
    assert found.candidate_wins.shape == full.candidate_wins.shape
    assert torch.equal(found.candidate_wins, full.candidate_wins)
    assert torch.equal(found.is_positive, full.is_positive) and found.num_samples == full.num_samples
    assert torch.equal(found.gt_index[found.is_positive], full.gt_index[full.is_positive])
    assert found.candidate_row.max() < 2 * full.is_ignored.shape[1]


def test_every_tensor_of_an_assignment_travels(built):
    batch = draw_batch(2, 64, 3, slots=8)
    batch = replace(batch, assigned=assign_ahead(built[1])(batch))
    moved = batch.map(torch.clone)
    assert len(moved.tensors()) == len(batch.tensors()) >= 10
    for mine, given in zip(moved.tensors(), batch.tensors(), strict=True):
        assert torch.equal(mine, given) and mine.data_ptr() != given.data_ptr()
    assert torch.equal(moved.assigned.gt_index, batch.assigned.gt_index)
    assert torch.equal(moved.assigned.is_positive, batch.assigned.is_positive)


def test_an_assigner_that_needs_predictions_stays_on_the_device():
    generator = SimpleNamespace(strides=(8,))
    assert assign_ahead(SimpleNamespace()) is None
    needs = SimpleNamespace(needs_predictions=True)
    assert assign_ahead(SimpleNamespace(assigner=needs, anchor_generator=generator)) is None
    free = SimpleNamespace(needs_predictions=False)
    found = assign_ahead(SimpleNamespace(assigner=free, anchor_generator=generator))
    assert found == AssignAhead(generator, free)


def test_feature_maps_of_other_sizes_are_refused():
    batch = draw_batch(1, 64, 1, slots=2)
    none = torch.zeros(1, 10, dtype=torch.bool)
    batch = replace(batch, assigned=Assignment(none.long(), none, none))
    with pytest.raises(ConfigError, match="assigned to 10 anchors, the network has 12: .*data.assign_ahead"):
        assignment_of(batch, SimpleNamespace(num_anchors=12), None)
