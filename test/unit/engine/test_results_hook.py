"""ResultsHook and Painter against a trainer that only counts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmdet.engine import results_hook
from mmdet.engine.results_hook import Painter, ResultsHook
from mmdet.visualize.results import read_results


@pytest.fixture
def run(tmp_path):
    """Return a function that trains from one epoch to another, evaluating some, and returns the table."""

    def go(first, last, evaluated=(), stopped_after=None):
        trainer = SimpleNamespace(
            iter=first * 5,
            facts=SimpleNamespace(work_dir=tmp_path, iters_per_epoch=5),
            step=SimpleNamespace(optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}])),
            epoch_losses={},
        )
        hook = ResultsHook(None)
        hook.before_train(trainer)
        for epoch in range(first + 1, last + 1):
            trainer.iter, trainer.epoch_losses = epoch * 5, {"loss": 10.0 - epoch}
            if epoch in evaluated:
                hook.after_eval(trainer, {"AP": epoch / 10}, {})
            if stopped_after != epoch:  # killed between the evaluation and the row
                hook.after_epoch(trainer)
        if stopped_after is None:
            hook.after_train(trainer)
        return read_results(tmp_path / "results.csv")

    return go


def test_a_row_per_epoch_with_the_figures_of_its_evaluation(run):
    rows = run(0, 3, evaluated=(2, 3))
    assert [(row["iter"], row["loss"], row.get("AP")) for row in rows] == [
        (5, 9.0, None), (10, 8.0, 0.2), (15, 7.0, 0.3)]  # fmt: skip


def test_a_resumed_run_continues_without_repeated_rows(run):
    run(0, 3, evaluated=(1, 2, 3))  # ran on to epoch 3; the checkpoint is of epoch 2
    rows = run(2, 4, evaluated=(4,))
    assert [row["iter"] for row in rows] == [5, 10, 15, 20]
    assert [row.get("AP") for row in rows] == [0.1, 0.2, None, 0.4]
    times = [row["time_s"] for row in rows]
    assert times == sorted(times)


def test_a_new_run_starts_a_new_table(run):
    run(0, 3)
    assert [row["iter"] for row in run(0, 1)] == [5]


def test_an_evaluation_made_up_on_resuming_completes_its_row(run, tmp_path):
    run(0, 2)
    trainer = SimpleNamespace(
        iter=10,
        facts=SimpleNamespace(work_dir=tmp_path, iters_per_epoch=5),
        step=SimpleNamespace(optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}])),
        epoch_losses={"loss": 8.0},
    )
    hook = ResultsHook(None)
    hook.after_eval(trainer, {"AP": 0.7}, {})  # EvalHook stands before it
    hook.before_train(trainer)
    assert [(row["iter"], row.get("AP")) for row in read_results(tmp_path / "results.csv")] == [
        (5, None), (10, 0.7)]  # fmt: skip


def test_a_damaged_table_is_told_and_replaced(run, tmp_path, caplog):
    run(0, 2)
    (tmp_path / "results.csv").write_text("x\n1\n")
    assert [row["iter"] for row in run(2, 3)] == [15]
    assert "the table starts anew" in caplog.text


def test_a_drawing_that_fails_is_one_line_and_not_tried_again(caplog):
    painter, calls = Painter("a.png"), []

    def fail():
        calls.append(1)
        raise ZeroDivisionError("two\nlines")

    painter.draw(fail)
    painter.draw(fail, is_last=True)
    assert len(calls) == 1
    assert [r.getMessage() for r in caplog.records] == [
        "a.png cannot be written, and is not tried again: two lines"
    ]


def test_drawings_take_a_fiftieth_of_the_time_and_the_last_is_never_left_out(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(results_hook.time, "perf_counter", lambda: clock.now)
    painter, drawn = Painter("a.png"), []

    def draw():
        drawn.append(clock.now)
        clock.now += 2.0

    for now in (0.0, 50.0, 101.0, 103.0):  # due again 100 s after the first ended
        clock.now = now
        painter.draw(draw)
    clock.now = 110.0
    painter.draw(draw, is_last=True)
    assert drawn == [0.0, 103.0, 110.0]


def test_a_full_disk_does_not_end_a_run(run, monkeypatch, caplog, tmp_path):
    run(0, 1)
    monkeypatch.setattr(results_hook, "write_results", lambda *args: Path("/proc/x").write_text(""))
    run(1, 2)
    assert "results.csv cannot be written" in caplog.text
