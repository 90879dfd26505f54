"""The levels on a real SCRFD with its criterion: three steps on two small drawn batches."""

from pathlib import Path

import pytest
import torch

from mmdet.config import load_config
from mmdet.config.types import AmpConfig
from mmdet.core.structures import Batch
from mmdet.models.build import build_criterion, build_detector
from mmdet.precision import Precision

REPO = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def two_images(size=64):
    """One image with two faces, one without any."""
    bboxes = torch.zeros(2, 32, 4)
    bboxes[0, :2] = torch.tensor([[4.0, 6, 24, 30], [20, 20, 60, 62]])
    valid = bboxes[..., 2] > 0
    kps = torch.ones(2, 32, 5, 3) * (bboxes[..., None, :1] + 8)
    kps[..., 2] = valid[..., None]
    return Batch(
        images=torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)),
        gt_bboxes=bboxes,
        gt_labels=torch.zeros(2, 32, dtype=torch.int64),
        gt_kps=kps,
        gt_valid=valid,
        gt_ignore=torch.zeros_like(valid),
        valid_hw=torch.full((2, 2), size),
    )


def train(level, dtype, steps=3):
    """Return the total loss of each step and the gradient norm of the first."""
    cfg = load_config(str(REPO / "configs/scrfd/scrfd_500m_bnkps.py"))
    torch.manual_seed(0)
    net = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).train()
    criterion = build_criterion(cfg.model, cfg.train_cfg)
    precision = Precision(net, AmpConfig(level, dtype), CPU)
    optimizer = torch.optim.SGD(precision.optimizer_params(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batch, totals, norms = two_images(), [], []
    for _ in range(steps):
        precision.zero_grad()
        with precision.autocast():
            outputs = net(precision.cast_input(batch.images))
        total = sum(criterion(outputs.float(), batch).values())
        precision.backward(total)
        precision.step(optimizer)
        totals.append(total.item())
        norms.append(precision.grad_norm.item())
    assert precision.skipped_steps() == (0, 0)
    return totals, norms[0]


@pytest.mark.parametrize("level,dtype", [("O1", "bfloat16"), ("O2", "bfloat16"), ("O2", "float16")])
def test_a_real_model_trains_at_every_level_as_in_fp32(level, dtype):
    """Tolerances: 3 % on losses, 15 % on the gradient norm.

    The untrained backbone normalises its last maps by 2 x 2 x 2 values: rounding turns many a ReLU
    there, in fp16 at any loss scale alike (so it is not underflow).
    """
    totals, norm = train("O0", "float16")
    half_totals, half_norm = train(level, dtype)
    assert half_totals == pytest.approx(totals, rel=0.03)
    assert half_norm == pytest.approx(norm, rel=0.15)
