"""FiniteGuard: what it reports, and that nothing changes after the first bad loss."""

import logging

import pytest
import torch
from torch import nn

from mmdet.config.types import AmpConfig
from mmdet.engine import finite
from mmdet.engine.finite import FiniteGuard
from mmdet.errors import TrainError
from mmdet.precision import Precision

CPU = torch.device("cpu")


def note(guard, iter, losses, names=()):
    """Note one step's losses and return their sum, as the trainer does."""
    total = guard.watch(losses)
    guard.remember(iter, names)
    return total


def losses(loss_cls, loss_bbox):
    return {"loss_cls": torch.tensor(loss_cls), "loss_bbox": torch.tensor(loss_bbox)}


@pytest.fixture
def late_guard():
    """A guard that behaves as on an accelerator: it looks only when check() is called."""
    return FiniteGuard(CPU, describe=lambda: "Last checkpoint: iter_40.pth", sync_free=True)


def test_finite_losses_add_up_and_pass():
    guard = FiniteGuard(CPU)
    assert note(guard, 0, losses(0.25, 0.5)).item() == 0.75
    guard.check()


def test_a_bad_loss_stops_a_cpu_run_at_once():
    guard = FiniteGuard(CPU, describe=lambda: "Last checkpoint: iter_40.pth")
    note(guard, 41, losses(0.25, 0.5), names=("a.jpg",))
    message = r"^loss_bbox is nan at iter 42, rank 0 \(images: b.jpg, c.jpg\)\. Last checkpoint: iter_40.pth$"
    with pytest.raises(TrainError, match=message):
        note(guard, 42, losses(0.25, float("nan")), names=("b.jpg", "c.jpg"))


def test_inf_counts_and_long_lists_are_cut(caplog):
    guard = FiniteGuard(CPU)
    names = tuple(f"{i}.jpg" for i in range(10))
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(TrainError, match="loss_cls is inf .*7.jpg and 2 more"),
    ):
        note(guard, 7, losses(float("inf"), 1.0), names)
    assert "9.jpg" in caplog.text and "loss_bbox" in caplog.text


def test_the_first_bad_iteration_is_kept(late_guard):
    note(late_guard, 1, losses(1.0, 2.0), ("a.jpg",))
    note(late_guard, 2, losses(float("nan"), 2.0), ("b.jpg",))
    note(late_guard, 3, losses(1.0, float("inf")), ("c.jpg",))
    assert late_guard.seed.isnan()
    with pytest.raises(TrainError, match=r"^loss_cls is nan at iter 2, rank 0 \(images: b.jpg\)"):
        late_guard.check()


def test_a_bad_iteration_is_found_after_checks_and_a_gap_in_the_numbers(late_guard):
    for iter in (3, 4, 9):
        note(late_guard, iter, losses(1.0, 2.0))
        if iter == 4:
            late_guard.check()
    for iter in (10, 11):
        note(late_guard, iter, losses(1.0, float("-inf")), (f"{iter}.jpg",))
    with pytest.raises(TrainError, match=r"^loss_bbox is -inf at iter 10, rank 0 \(images: 10.jpg\)"):
        late_guard.check()


def test_a_sum_that_overflows_is_told(late_guard):
    note(late_guard, 5, losses(3e38, 3e38))
    with pytest.raises(TrainError, match="^the sum of losses is inf at iter 5, rank 0"):
        late_guard.check()


@pytest.mark.parametrize(
    "level,dtype", [("O0", "float16"), ("O1", "float16"), ("O2", "float16"), ("O2", "bfloat16")]
)
def test_no_weight_changes_from_the_bad_loss_on(late_guard, level, dtype):
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 1)
    precision = Precision(net, AmpConfig(level, dtype), CPU)
    optimizer = torch.optim.SGD(precision.optimizer_params(), lr=0.1, momentum=0.9, weight_decay=0.1)

    def step(iter, factor):
        precision.zero_grad()
        with precision.autocast():
            out = net(precision.cast_input(torch.ones(1, 3, 2, 2)))
        precision.backward(note(late_guard, iter, {"loss_cls": out.float().mean() * factor}), late_guard.seed)
        precision.step(optimizer)
        return precision.model_state_dict()

    good = step(0, 1.0)
    for iter, factor in ((1, float("inf")), (2, 1.0)):
        after = step(iter, factor)
        assert all(torch.equal(after[name], good[name]) for name in good)
    with pytest.raises(TrainError, match="at iter 1, rank 0"):
        late_guard.check()


class Skipped:
    """Stands for a Precision that skipped steps."""

    def __init__(self, is_scaled, total, in_a_row):
        self.is_scaled, self.scale = is_scaled, 128.0
        self.skipped_steps = lambda: (total, in_a_row)


def test_skipped_steps_are_reported_where_they_cannot_be_right():
    with pytest.raises(TrainError, match="gradients were not finite in 1 steps, although every loss was"):
        FiniteGuard(CPU, Skipped(False, 1, 0)).check()
    FiniteGuard(CPU, Skipped(True, 9, finite.MAX_SKIPS_IN_A_ROW - 1)).check()  # finding its scale
    with pytest.raises(TrainError, match=r"last 50 steps overflowed .*loss_scale 128.*amp.loss_scale lower"):
        FiniteGuard(CPU, Skipped(True, 50, 50)).check()
