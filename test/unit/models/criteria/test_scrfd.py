"""The criterion against a slow loop over positives, and its behaviour at the edges."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.assigners import ATSSAssigner
from mmdet.core.bbox import bbox_overlaps
from mmdet.core.coders import DistanceCoder
from mmdet.core.structures import Batch, Outputs
from mmdet.models.criteria.scrfd import SCRFDCriterion
from mmdet.models.losses import DIoULoss, DistributionFocalLoss, QualityFocalLoss, SmoothL1Loss

GENERATOR = AnchorGenerator(strides=[8, 16, 32], base_sizes=[16, 64, 256], scales=[1, 2], ratios=[1.0])
SIZE = 96
LEVELS = ((12, 12), (6, 6), (3, 3))
NUM_ANCHORS = 378
REG_MAX = 8


def make_criterion(*, use_kps=True, use_dfl=False, num_classes=1, ignore_iof_thr=-1, **options):
    return SCRFDCriterion(
        anchor_generator=GENERATOR,
        coder=DistanceCoder(),
        assigner=ATSSAssigner(ignore_iof_thr=ignore_iof_thr),
        loss_cls=QualityFocalLoss(),
        loss_bbox=DIoULoss(loss_weight=2.0),
        loss_kps=SmoothL1Loss(beta=1 / 9, loss_weight=0.1) if use_kps else None,
        loss_dfl=DistributionFocalLoss(loss_weight=0.25) if use_dfl else None,
        num_classes=num_classes,
        **options,
    )


def make_outputs(batch_size=2, *, num_classes=1, use_dfl=False, seed=0):
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(batch_size, NUM_ANCHORS, *shape, generator=random)  # noqa: E731
    cls, ltrb, kps, dfl = draw(num_classes) - 1, draw(4).abs() + 0.5, draw(10), draw(4, REG_MAX + 1)
    dfl = dfl.requires_grad_() if use_dfl else None
    return Outputs(cls.requires_grad_(), ltrb.requires_grad_(), kps.requires_grad_(), dfl, LEVELS)


def make_batch(batch_size=2, slots=8, faces=5, seed=0, num_classes=1):
    """Draw faces; the last slots are padding, filled with nonsense."""
    random = torch.Generator().manual_seed(seed)
    center = torch.rand(batch_size, slots, 2, generator=random) * SIZE
    half = torch.rand(batch_size, slots, 2, generator=random) * 20 + 2
    points = torch.rand(batch_size, slots, 5, 2, generator=random) * SIZE
    shown = torch.rand(batch_size, slots, 5, 1, generator=random) > 0.3
    batch = Batch(
        images=torch.zeros(batch_size, 3, SIZE, SIZE),
        gt_bboxes=torch.cat((center - half, center + half), dim=-1),
        gt_labels=torch.randint(0, num_classes, (batch_size, slots), generator=random),
        gt_kps=torch.cat((points, shown.float()), dim=-1),
        gt_valid=(torch.arange(slots) < faces).expand(batch_size, slots).clone(),
        gt_ignore=torch.zeros(batch_size, slots, dtype=torch.bool),
        valid_hw=torch.full((batch_size, 2), SIZE),
    )
    return with_padding(batch, 3e38, label=77)


def with_padding(batch, value, label=0):
    """Return the batch with all slots that hold nothing set to a value."""
    empty = ~(batch.gt_valid | batch.gt_ignore)
    return dataclasses.replace(
        batch,
        gt_bboxes=torch.where(empty[..., None], value, batch.gt_bboxes),
        gt_kps=torch.where(empty[..., None, None], value, batch.gt_kps),
        gt_labels=torch.where(empty, label, batch.gt_labels),
    )


def slow_losses(criterion, outputs, batch):
    """Follow the words of the reference, one positive at a time."""
    grid = GENERATOR.grid(LEVELS)
    got = criterion.assigner(grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
    num_samples, weight_sum = 0.0, 0.0
    sums = {"loss_cls": 0.0, "loss_bbox": 0.0, "loss_kps": 0.0, "loss_dfl": 0.0}
    for image in range(len(batch.gt_bboxes)):
        quality = torch.zeros_like(outputs.cls_logits[image])
        for a in got.is_positive[image].nonzero()[:, 0].tolist():
            g = got.gt_index[image, a]
            center, stride = grid.centers[a] / grid.strides[a], grid.strides[a]
            lt, rb = outputs.bbox_pred[image, a].split(2)
            pred = torch.cat((center - lt, center + rb))
            target = batch.gt_bboxes[image, g] / stride
            quality[a, batch.gt_labels[image, g]] = bbox_overlaps(pred.detach(), target)
            weight = outputs.cls_logits[image, a].detach().sigmoid().max()
            weight_sum += weight
            sums["loss_bbox"] += weight * DIoULoss(loss_weight=2.0)(pred, target)
            offsets = (batch.gt_kps[image, g, :, :2] / stride - center).flatten()
            kps = F.smooth_l1_loss(outputs.kps_pred[image, a], offsets, beta=1 / 9, reduction="sum")
            sums["loss_kps"] += 0.1 * weight * batch.gt_kps[image, g, :, 2].mean() * kps
            if outputs.bbox_dfl_logits is not None:
                sides = torch.cat((center - target[:2], target[2:] - center)).clamp(0, REG_MAX - 0.1)
                for side, logits in zip(sides, outputs.bbox_dfl_logits[image, a], strict=True):
                    left = int(side)
                    log_prob = logits.log_softmax(0)
                    nll = (left + 1 - side) * log_prob[left] + (side - left) * log_prob[left + 1]
                    sums["loss_dfl"] -= 0.25 * weight * nll / 4
        qfl = F.binary_cross_entropy_with_logits(outputs.cls_logits[image], quality, reduction="none")
        qfl = qfl * (quality - outputs.cls_logits[image].sigmoid()).square()
        sums["loss_cls"] += qfl[~got.is_ignored[image]].sum()
        num_samples += max(int(got.is_positive[image].sum()), 1)
    return {k: v / (num_samples if k == "loss_cls" else weight_sum) for k, v in sums.items()}


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("use_dfl", [False, True])
def test_losses_and_gradients_equal_the_slow_loop(num_classes, use_dfl):
    criterion = make_criterion(num_classes=num_classes, use_dfl=use_dfl, ignore_iof_thr=0.5)
    batch = make_batch(num_classes=num_classes)
    batch.gt_valid[1, 2], batch.gt_ignore[1, 2] = False, True
    batch.valid_hw[0] = torch.tensor([70, SIZE])
    outputs, copy = (make_outputs(num_classes=num_classes, use_dfl=use_dfl) for _ in range(2))
    losses, expected = criterion(outputs, batch), slow_losses(criterion, copy, batch)
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_kps"} | ({"loss_dfl"} if use_dfl else set())
    for key in losses:
        torch.testing.assert_close(losses[key], expected[key])
    sum(losses.values()).backward()
    sum(expected[key] for key in losses).backward()
    for name in ("cls_logits", "bbox_pred", "kps_pred", "bbox_dfl_logits"):
        if getattr(outputs, name) is not None:
            torch.testing.assert_close(getattr(outputs, name).grad, getattr(copy, name).grad)


def run(batch, outputs=None, **options):
    """Return losses and gradients of the three heads."""
    outputs = make_outputs(len(batch.gt_bboxes)) if outputs is None else outputs
    losses = make_criterion(**options)(outputs, batch)
    sum(losses.values()).backward()
    return losses, (outputs.cls_logits.grad, outputs.bbox_pred.grad, outputs.kps_pred.grad)


@pytest.mark.parametrize("slots,value", [(5, 0.0), (8, 0.0), (8, -1e9), (64, 3e38)])
def test_padding_changes_nothing(slots, value):
    batch = make_batch()
    losses, gradients = run(batch)
    padded = Batch(**{f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)})
    for name in ("gt_bboxes", "gt_labels", "gt_kps", "gt_valid", "gt_ignore"):
        old = getattr(batch, name)[:, :5]
        new = old.new_zeros(2, slots, *old.shape[2:])
        new[:, :5] = old
        setattr(padded, name, new)
    other_losses, other_gradients = run(with_padding(padded, value))
    for key in losses:
        torch.testing.assert_close(losses[key], other_losses[key], rtol=1e-6, atol=0)
    for one, other in zip(gradients, other_gradients, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_no_face_in_the_batch():
    losses, gradients = run(make_batch(faces=0))
    assert losses["loss_bbox"] == 0 and losses["loss_kps"] == 0 and losses["loss_cls"] > 0
    # All heads get a gradient, so that DDP sees every parameter.
    assert gradients[0].ne(0).any() and gradients[1].eq(0).all() and gradients[2].eq(0).all()


def test_an_empty_image_counts_as_one_sample():
    batch = make_batch()
    batch.gt_valid[1] = False
    outputs = make_outputs()
    outputs.cls_logits.data[1] = -100  # no loss from the empty image itself
    both = make_criterion()(outputs, batch)["loss_cls"]
    first = Outputs(outputs.cls_logits[:1], outputs.bbox_pred[:1], outputs.kps_pred[:1], None, LEVELS)
    half = Batch(
        **{f.name: getattr(batch, f.name)[:1] for f in dataclasses.fields(batch) if f.name in _TENSORS}
    )
    alone = make_criterion()(first, half)["loss_cls"]
    assigned = make_criterion().assigner(
        GENERATOR.grid(LEVELS), half.gt_bboxes, half.gt_valid, half.gt_ignore, half.valid_hw
    )
    n = int(assigned.is_positive.sum())
    assert (both * (n + 1)).item() == pytest.approx((alone * n).item(), rel=1e-5)


_TENSORS = ("images", "gt_bboxes", "gt_labels", "gt_kps", "gt_valid", "gt_ignore", "valid_hw")


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_saturated_scores(logit):
    outputs = make_outputs()
    outputs.cls_logits.data.fill_(logit)
    losses, gradients = run(make_batch(), outputs)
    assert all(value.isfinite() for value in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients)
    if logit < 0:  # sigmoid is exactly 0: nothing has a weight
        assert losses["loss_bbox"] == 0 and losses["loss_kps"] == 0


def test_zero_size_and_inverted_predictions_and_faces():
    batch, outputs = make_batch(), make_outputs()
    batch.gt_bboxes[0, 0, 2:] = batch.gt_bboxes[0, 0, :2]
    batch.gt_bboxes[0, 1] = batch.gt_bboxes[0, 1, [2, 3, 0, 1]]
    outputs.bbox_pred.data[0] = 0
    outputs.bbox_pred.data[1] = -3
    losses, gradients = run(batch, outputs)
    assert all(value.isfinite() for value in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_the_head_says_at_losing_anchors_does_not_matter():
    batch = make_batch()
    losses, gradients = run(batch)
    outputs = make_outputs()
    loses = gradients[1].eq(0).all(-1)
    outputs.bbox_pred.data[loses] = torch.inf
    outputs.kps_pred.data[loses] = torch.nan
    other_losses, other_gradients = run(batch, outputs)
    for key in losses:
        assert torch.equal(losses[key], other_losses[key])
    assert all(torch.equal(one, other) for one, other in zip(gradients, other_gradients, strict=True))


def test_faces_without_keypoints():
    batch = make_batch()
    batch.gt_kps[..., :2], batch.gt_kps[..., 2] = -1, 0
    losses, gradients = run(batch)
    assert losses["loss_kps"] == 0 and gradients[2].eq(0).all()


def test_normalisers_are_averaged_over_ranks_in_one_call():
    calls = []

    def double(tensor):
        calls.append(tensor.shape)
        return tensor * 2

    batch = make_batch()
    one, two = (
        make_criterion()(make_outputs(), batch),
        make_criterion(mean_across_ranks=double)(make_outputs(), batch),
    )
    assert calls == [(2,)]
    for key in one:
        torch.testing.assert_close(two[key], one[key] / 2)


def test_model_without_keypoints():
    outputs = dataclasses.replace(make_outputs(), kps_pred=None)
    assert set(make_criterion(use_kps=False)(outputs, make_batch())) == {"loss_cls", "loss_bbox"}
