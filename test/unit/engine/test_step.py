"""TrainStep apart from the loop; what its parts do is tested beside them."""

import pytest
import torch

from mmdet.config import load_config
from mmdet.engine.step import build_step
from mmdet.errors import TrainError
from mmdet.models.build import build_detector
from mmdet.testing.audit_step import draw_batch

CPU = torch.device("cpu")


@pytest.fixture
def make_step(repo):
    def make(**options):
        torch.manual_seed(0)
        cfg = load_config(repo / "configs/scrfd/scrfd_500m_bnkps.py", ["lr_config.warmup=None"])
        return build_step(build_detector(cfg.model, cfg.train_cfg), cfg, CPU, **options)

    return make


def test_a_step_needs_no_trainer(make_step):
    step = make_step()
    before = [parameter.detach().clone() for parameter in step.net.parameters()]
    losses = step.update(0, step.load(draw_batch(2, 64, 3, 8)))
    assert list(losses) == ["loss_cls", "loss_bbox", "loss_kps"]
    assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, step.net.parameters(), strict=True))


def test_load_finishes_the_batch(make_step):
    def halve(batch):
        batch.images = batch.images / 2
        return batch

    batch = draw_batch(1, 64, 3, 8)
    images = batch.images.clone()
    assert torch.equal(make_step(finish=halve).load(batch).images, images / 2)


def test_a_step_free_of_syncs_trains_alike_and_raises_only_when_asked(make_step):
    one, two = make_step(), make_step(sync_free=True)
    for iter in range(3):
        batch = draw_batch(2, 64, 3, 8, seed=iter)
        one.update(iter, batch)
        two.update(iter, batch)
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b)
    batch.images[0] = torch.nan
    with pytest.raises(TrainError, match="at iter 3"):
        one.update(3, batch)
    two.update(3, batch)
    with pytest.raises(TrainError, match="at iter 3"):
        two.guard.check()
