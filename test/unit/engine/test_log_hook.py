"""LogHook on a clock that the test turns."""

from types import SimpleNamespace

import pytest
import torch

from mmdet.engine import log_hook
from mmdet.engine.log_hook import LogHook


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(log_hook, "time", clock)
    return clock


def run(clock, interval, iters_per_epoch, total_iters, seconds, pause=1000.0, start=0):
    """Train `total_iters` iterations of seconds(iter); after each epoch others take `pause`."""
    records = []
    step = SimpleNamespace(
        device=torch.device("cpu"),
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}]),
        guard=SimpleNamespace(check=lambda: None),
        precision=SimpleNamespace(grad_norm=torch.tensor(3.0), scale=128.0, skipped_steps=lambda: (2, 0)),
    )
    trainer = SimpleNamespace(
        step=step,
        facts=SimpleNamespace(
            iters_per_epoch=iters_per_epoch, total_iters=total_iters, batch_size_total=8, world_size=2
        ),
        log=SimpleNamespace(write=lambda record, step: records.append({**record, "step": step})),
        loader=SimpleNamespace(notes=SimpleNamespace(summary=dict)),
        metrics={},
        iter=start,
        data_time_s=0.25,
    )
    hook = LogHook(interval)
    hook.before_train(trainer)
    while trainer.iter < total_iters:
        trainer.iter_start_s = clock.now
        clock.now += seconds(trainer.iter)
        trainer.iter += 1
        hook.after_iter(
            trainer, {"loss_cls": torch.tensor(float(trainer.iter)), "loss_bbox": torch.tensor(1.0)}
        )
        if trainer.iter % iters_per_epoch == 0:
            hook.after_epoch(trainer)
            clock.now += pause
    hook.after_train(trainer)
    return records, trainer.metrics


def test_lines_hold_means_since_the_last_line(clock):
    records, metrics = run(clock, 2, 5, 10, lambda i: 0.5)
    assert [(r["epoch"], r["iter"], r["step"]) for r in records] == [
        (1, 2, 2), (1, 4, 4), (1, 5, 5), (2, 2, 7), (2, 4, 9), (2, 5, 10)]  # fmt: skip
    assert [r["loss_cls"] for r in records] == [1.5, 3.5, 5.0, 6.5, 8.5, 10.0]
    assert [r["loss"] for r in records] == [2.5, 4.5, 6.0, 7.5, 9.5, 11.0]
    assert all(r["time"] == 0.5 and r["img_s"] == 16 and r["data_time"] == 0.25 for r in records)
    assert all(r["grad_norm"] == 3.0 and r["scale"] == 128.0 for r in records)
    assert metrics["loss"] == 11.0 and metrics["skipped_steps"] == 2


def test_speed_leaves_out_the_warm_up_and_what_happens_between_epochs(clock):
    slow_start = [10.0] * 5 + [0.5] * 15
    _, metrics = run(clock, 100, 10, 20, slow_start.__getitem__)
    assert metrics["fps"] == pytest.approx(16) and metrics["fps_per_rank"] == pytest.approx(8)
    assert metrics["fps_iters"] == 15


def test_a_warm_up_longer_than_an_epoch(clock):
    _, metrics = run(clock, 100, 3, 9, lambda i: 10.0 if i < 5 else 0.5)
    assert metrics["fps"] == pytest.approx(16) and metrics["fps_iters"] == 4


def test_a_warm_up_that_is_an_epoch(clock):
    _, metrics = run(clock, 100, 5, 10, lambda i: 10.0 if i < 5 else 0.5)
    assert metrics["fps"] == pytest.approx(16) and metrics["fps_iters"] == 5


def test_the_estimate_settles_and_counts_pauses(clock, monkeypatch):
    lines = []
    monkeypatch.setattr(log_hook, "train_line", lambda record, iters, eta_s: lines.append(eta_s))
    noisy = [10.0] * 5 + [0.4, 0.6] * 20
    run(clock, 5, 10, 40, noisy.__getitem__, pause=7.0)
    # After 10 iterations 30 are left at .5 s; then pauses are known: 7 s after each of 1 more epoch, ...
    assert lines[1:] == pytest.approx([15, 12.5 + 14, 10 + 14, 7.5 + 7, 5 + 7, 2.5, 0], abs=0.7)


def test_a_run_that_ends_inside_an_epoch(clock):
    records, metrics = run(clock, 100, 10, 17, lambda i: 0.5)
    assert [r["step"] for r in records] == [10, 17]
    assert metrics["fps_iters"] == 12 and metrics["fps"] == pytest.approx(16)


@pytest.mark.parametrize(("iters", "counted"), [(1, 1), (2, 1), (6, 1), (7, 2)])
def test_the_shortest_runs_still_have_a_speed(clock, iters, counted):
    _, metrics = run(clock, 100, 100, iters, lambda i: 0.5)
    assert metrics["fps_iters"] == counted and metrics["fps"] == pytest.approx(16)


def test_nothing_left_to_train(clock):
    records, metrics = run(clock, 100, 10, 20, lambda i: 0.5, start=20)
    assert records == [] and metrics["fps"] is None


def test_a_resumed_run_warms_up_again(clock):
    _, metrics = run(clock, 100, 10, 20, lambda i: 10.0 if i < 13 else 0.5, start=8)
    assert metrics["fps_iters"] == 7 and metrics["fps"] == pytest.approx(16)


def test_notes_of_the_loader_are_told_once(clock, capsys, caplog):
    hook = LogHook(1)
    summary = {"too many faces": {"images": 1, "count": 12}}
    trainer = SimpleNamespace(
        loader=SimpleNamespace(notes=SimpleNamespace(summary=lambda: summary)), metrics={}
    )
    for _ in range(2):
        hook._write_notes(trainer)
    assert trainer.metrics["image_notes"] == {"too many faces": 12}
    assert [r.getMessage() for r in caplog.records] == ["so far: too many faces: 12"]
