import math

import pytest
import torch

from mmdet.errors import ConfigError
from mmdet.models.losses import (
    CIoULoss,
    DIoULoss,
    DistributionFocalLoss,
    GIoULoss,
    IoULoss,
    QualityFocalLoss,
    SmoothL1Loss,
)

BBOX_LOSSES = [IoULoss, GIoULoss, DIoULoss, CIoULoss]
TARGET = [0.0, 0, 4, 4]


@pytest.mark.parametrize(
    "loss,pred,expected",
    [
        (IoULoss, [0, 0, 4, 2], -math.log(0.5)),
        (GIoULoss, [4, 0, 8, 4], 1.0),  # touching: IoU 0, hull = union
        (GIoULoss, [6, 0, 10, 4], 1 + 8 / 40),
        (DIoULoss, [0, 0, 4, 4], 0.0),
        (DIoULoss, [0, 0, 4, 2], 1 - 0.5 + 1 / 32),  # centres 1 apart, diagonal of the hull sqrt(32)
        (DIoULoss, [6, 0, 10, 4], 1 + 36 / 116),
        (CIoULoss, [1, 1, 3, 3], 1 - 0.25),  # same centre, same shape
    ],
)
def test_bbox_loss_by_hand(loss, pred, expected):
    got = loss()(torch.tensor(pred, dtype=torch.float32), torch.tensor(TARGET))
    assert got.item() == pytest.approx(expected, abs=1e-5)


def test_ciou_adds_a_term_for_the_shape():
    pred, target = torch.tensor([0.0, 1, 4, 3]), torch.tensor(TARGET)
    v = 4 / math.pi**2 * (math.atan(1) - math.atan(2)) ** 2
    assert CIoULoss()(pred, target).item() == pytest.approx(0.5 + v * v / (0.5 + v), abs=1e-5)


@pytest.mark.parametrize("loss", BBOX_LOSSES)
def test_weight_multiplies_and_shape_stays(loss):
    pred, target = torch.rand(2, 3, 4).cumsum(-1), torch.rand(2, 3, 4).cumsum(-1)
    got = loss(loss_weight=2.5)(pred, target)
    assert got.shape == (2, 3)
    torch.testing.assert_close(got, 2.5 * loss()(pred, target))


@pytest.mark.parametrize("loss", BBOX_LOSSES)
def test_gradients_are_finite_for_every_kind_of_box(loss):
    kinds = torch.tensor(
        [
            TARGET,
            [2, 2, 2, 2],
            [0, 0, 0, 4],
            [0, 2, 4, 2],
            [4, 4, 0, 0],
            [4, 0, 0, 4],
            [9, 9, 9, 9],
            [-1e6, 0, 1e6, 3],
        ]
    )
    pred = kinds[:, None].repeat(1, len(kinds), 1).requires_grad_()
    loss()(pred, kinds[None].expand(len(kinds), -1, -1)).sum().backward()
    assert pred.grad.isfinite().all()


def test_diou_of_an_inverted_box_whose_union_is_exactly_zero():
    # Areas -16 and 16 and eps: without protection 0 / 0.
    pred = torch.tensor([4.0, 0, 0, 4], requires_grad=True)
    loss = DIoULoss(eps=0.0 + 1e-6)(pred, torch.tensor(TARGET))
    loss.backward()
    assert loss.item() == pytest.approx(1.0, abs=1e-5) and pred.grad.isfinite().all()


@pytest.mark.parametrize(
    "logit,quality,expected",
    [
        (0.0, 0.0, math.log(2) * 0.25),
        (0.0, 0.5, 0.0),
        (2.0, 1.0, math.log1p(math.exp(-2)) * (1 - 1 / (1 + math.exp(-2))) ** 2),
        (100.0, 0.0, 100.0),
        (-100.0, 0.0, 0.0),
    ],
)
def test_quality_focal_loss(logit, quality, expected):
    got = QualityFocalLoss()(torch.tensor([logit]), torch.tensor([quality]))
    assert got.item() == pytest.approx(expected, abs=1e-6)


def test_quality_focal_loss_with_another_beta():
    logits, quality = torch.randn(50), torch.rand(50)
    focus = (quality - logits.sigmoid()).abs()
    expected = (
        torch.nn.functional.binary_cross_entropy_with_logits(logits, quality, reduction="none") * focus**1.5
    )
    torch.testing.assert_close(QualityFocalLoss(beta=1.5)(logits, quality), expected)


def test_quality_focal_loss_needs_a_sigmoid():
    with pytest.raises(ConfigError, match="use_sigmoid"):
        QualityFocalLoss(use_sigmoid=False)


def test_smooth_l1_loss():
    pred = torch.tensor([0.0, 0.1, 0.5, -3.0])
    got = SmoothL1Loss(beta=0.5, loss_weight=2.0)(pred, torch.zeros(4))
    assert got.tolist() == pytest.approx([0, 0.02, 0.5, 5.5])


def test_distribution_focal_loss():
    logits = torch.zeros(3, 9)
    logits[:, 4] = 2.0
    other = math.log(8 + math.exp(2))
    got = DistributionFocalLoss()(logits, torch.tensor([4.0, 4.25, 1.5]))
    assert got.tolist() == pytest.approx([other - 2, other - 0.75 * 2, other])
