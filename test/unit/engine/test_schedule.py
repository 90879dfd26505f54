import json
import math

import pytest
import torch

from mmdet.config.types import LrConfig
from mmdet.engine.schedule import SCHEDULES, Schedule
from mmdet.errors import ConfigError


def make(iters_per_epoch=10, total_epochs=8, base_lr=0.1, **cfg):
    return Schedule(LrConfig(**cfg), base_lr, iters_per_epoch, total_epochs)


def test_step_policy_by_epoch():
    schedule = make(step=(2, 5))
    rates = [schedule.lr_at(i) for i in (0, 19, 20, 49, 50, 79)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_step_policy_by_iter_and_lower_bound():
    schedule = make(step=(3, 5), by_epoch=False, min_lr=0.004)
    assert [schedule.lr_at(i) for i in (2, 3, 4, 5)] == pytest.approx([0.1, 0.01, 0.01, 0.004])


def test_no_steps_is_a_constant_rate():
    assert make().lr_at(0) == make().lr_at(10**9) == 0.1


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [("linear", [0.01, 0.055, 0.1]), ("constant", [0.01, 0.01, 0.1]), ("exp", [0.01, 0.0316227766, 0.1])],
)
def test_warmup(warmup, expected):
    schedule = make(warmup=warmup, warmup_iters=4, warmup_ratio=0.1)
    assert [schedule.lr_at(i) for i in (0, 2, 4)] == pytest.approx(expected)


def test_warmup_in_epochs_and_over_a_step():
    schedule = make(warmup="linear", warmup_iters=2, warmup_ratio=0.5, warmup_by_epoch=True, step=(1,))
    assert schedule.lr_at(0) == pytest.approx(0.05)
    assert schedule.lr_at(10) == pytest.approx(0.01 * 0.75)  # half of the warm-up, after the first step
    assert schedule.lr_at(20) == pytest.approx(0.01)


def test_cosine_goes_to_the_lower_bound():
    schedule = make(policy="cosine", min_lr=0.02)
    assert schedule.lr_at(0) == pytest.approx(0.1)
    assert schedule.lr_at(40) == pytest.approx(0.06)
    assert schedule.lr_at(79) == pytest.approx(0.02 + 0.04 * (1 + math.cos(math.pi * 7 / 8)))
    assert schedule.lr_at(1000) == pytest.approx(0.02)
    by_iter = make(policy="cosine", by_epoch=False)
    assert by_iter.lr_at(60) == pytest.approx(0.05 * (1 + math.cos(math.pi * 0.75)))


def test_cosine_with_restarts_of_typed_lengths():
    schedule = make(policy="CosineRestarts", T_0=2, T_mult=2, min_lr=0.02, iters_per_epoch=10)
    rates = [schedule.lr_at(10 * epoch) for epoch in range(7)]
    # periods of 2, 4, ... epochs: cos(0), cos(pi/2) | cos(0), cos(pi/4), cos(pi/2), cos(3pi/4) | cos(0)
    assert rates == pytest.approx([0.1, 0.06, 0.1, 0.0882842712, 0.06, 0.0317157288, 0.1])
    assert schedule.lr_at(19) == schedule.lr_at(10)  # the rate of the whole epoch


@pytest.mark.parametrize(("first", "factor"), [(1, 1), (10, 1), (3, 2), (2, 3)])
def test_cosine_with_restarts_is_torchs(first, factor):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    expected = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, factor, eta_min=1e-3)
    schedule = make(policy="CosineRestarts", T_0=first, T_mult=factor, min_lr=1e-3, iters_per_epoch=1)
    for epoch in range(60):
        assert schedule.lr_at(epoch) == pytest.approx(expected.get_last_lr()[0], rel=1e-12), epoch
        optimizer.step()
        expected.step()


def test_restarts_keep_the_warm_up():
    schedule = make(policy="CosineRestarts", T_0=1, warmup="linear", warmup_iters=20, warmup_ratio=0.5)
    assert [schedule.lr_at(i) for i in (0, 10, 20)] == pytest.approx([0.05, 0.075, 0.1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "CosineRestart"}, "'CosineRestart' is unknown; did you mean 'CosineRestarts'"),
        ({"policy": "stp"}, "lr_config.policy = 'stp' is unknown; did you mean 'step'"),
        ({"policy": "CosineRestarts"}, "needs T_0 >= 1 .* not 0 and 1"),
        ({"policy": "CosineRestarts", "T_0": 3, "T_mult": 0}, "not 3 and 0"),
    ],
)  # fmt: skip
def test_wrong_policies_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)


def test_a_policy_of_ones_own(monkeypatch):
    monkeypatch.setitem(SCHEDULES, "halving", lambda cfg, base_lr, progress, total: base_lr / 2**progress)
    assert [make(policy="halving").lr_at(i) for i in (0, 10, 25)] == [0.1, 0.05, 0.025]


def test_reference_schedules(golden):
    cases = json.loads((golden / "g8_lr_schedule.json").read_text())
    assert len(cases) == 3
    for name, expected in cases.items():
        lr, iters, *_ = name.removeprefix("lr").split("_")
        cfg = LrConfig(step=(440, 544), warmup="linear", warmup_iters=1500, warmup_ratio=0.001)
        schedule = Schedule(cfg, float(lr), int(iters.removesuffix("it")), 640)
        for key, value in expected.items():
            iter_ = int(key.split("_iter")[1])
            assert schedule.lr_at(iter_) == pytest.approx(value, rel=1e-12), (name, key)


def test_apply_sets_every_group():
    class Optimizer:
        param_groups = [{"lr": 1.0}, {"lr": 2.0}]

    make(step=(1,)).apply(Optimizer(), 15)
    assert [group["lr"] for group in Optimizer.param_groups] == pytest.approx([0.01, 0.01])
