import json
import math

import pytest
import torch

from mmdet.config.types import LrConfig
from mmdet.engine.schedule import SCHEDULES, Schedule, shorten_warmup
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


@pytest.mark.parametrize(
    ("iters_per_epoch", "epochs", "warmup_iters"),
    [
        (403, 640, 1209),  # WIDER FACE: three epochs
        (900, 640, 1500),  # at most 1,500
        (10, 100, 50),  # at least 50
        (48, 7, 50),  # 15 % of 336
        (48, 10, 72),  # 15 % of 480; three epochs would be 144
    ],
)
def test_an_automatic_warmup_fits(iters_per_epoch, epochs, warmup_iters, caplog):
    schedule = make(policy="auto", iters_per_epoch=iters_per_epoch, total_epochs=epochs)
    total = iters_per_epoch * epochs
    assert schedule.warmup_iters == warmup_iters and schedule.misfit(total) == "" and not caplog.records
    assert schedule.lr_at(0) == pytest.approx(0.01)
    assert schedule.lr_at(total) == pytest.approx(0.001)


def test_an_automatic_schedule_by_hand():
    schedule = make(policy="auto", iters_per_epoch=50, total_epochs=10, base_lr=1.0)  # warm-up: 75 of 500
    middle = 0.01 + 0.99 * (1 + math.cos(math.pi * 0.5)) / 2
    early = 0.01 + 0.99 * (1 + math.cos(math.pi * 30 / 500)) / 2
    assert schedule.lr_at(250) == pytest.approx(middle)
    assert schedule.lr_at(30) == pytest.approx(early * (1 - 0.6 * 0.9))
    assert make(policy="auto", min_lr=0.05).lr_at(80) == pytest.approx(0.05)


@pytest.mark.parametrize(("epochs", "used"), [(20, 30), (4, 6), (1, 1)])
def test_a_run_too_short_for_a_warmup_says_what_was_used(epochs, used, caplog):
    schedule = make(policy="auto", iters_per_epoch=10, total_epochs=epochs)
    assert schedule.warmup_iters == used
    assert caplog.messages == [
        f"lr_config.policy auto: {10 * epochs} iters are too few for a warm-up of 50; used {used}"
    ]


def test_a_run_of_few_iters_has_no_warmup():
    schedule = make(policy="auto", iters_per_epoch=3, total_epochs=1)
    assert schedule.cfg.warmup is None and schedule.lr_at(0) == pytest.approx(0.1)


def test_a_fraction_of_an_epoch_ends_at_the_lowest_rate():
    schedule = Schedule(LrConfig(policy="auto"), 0.1, 400, 2.5)
    assert (schedule.total, schedule.warmup_iters) == (1000, 150)
    assert schedule.lr_at(1000) == pytest.approx(0.001)
    assert schedule.lr_at(500) == pytest.approx(0.001 + 0.099 / 2)


def test_what_lies_beyond_the_end_is_named():
    recipe = dict(step=(440, 544), warmup="linear", warmup_iters=1500, warmup_ratio=0.001)
    assert make(iters_per_epoch=403, total_epochs=640, **recipe).misfit(403 * 640) == ""
    assert make(iters_per_epoch=48, total_epochs=7, **recipe).misfit(336) == (
        "the warm-up ends at iter 1500 and the rate first falls at iter 21120"
    )
    assert make(iters_per_epoch=48, step=(7,)).misfit(336) == "the rate first falls at iter 336"
    assert make(iters_per_epoch=48, step=(330,), by_epoch=False).misfit(336) == ""
    assert make(iters_per_epoch=48, policy="cosine").misfit(336) == ""


def test_a_warmup_is_shortened_only_where_it_takes_too_much(caplog):
    cfg = LrConfig(step=(5,), warmup="exp", warmup_iters=1500, warmup_ratio=0.001)
    assert shorten_warmup(cfg, 1000, 10) == cfg and not caplog.records
    short = shorten_warmup(cfg, 48, 7)
    assert (short.warmup, short.warmup_iters, short.warmup_ratio, short.step) == ("exp", 50, 0.001, (5,))
    assert caplog.messages == ["lr_config: the warm-up of 1500 iters is shortened to 50, to fit the run"]
    by_epoch = shorten_warmup(LrConfig(warmup="linear", warmup_iters=3, warmup_by_epoch=True), 48, 7)
    assert (by_epoch.warmup_iters, by_epoch.warmup_by_epoch) == (50, False)
    assert shorten_warmup(cfg, 1, 3).warmup is None
