"""ProfileHook against a trainer that only counts, and against torch's own profiler."""

import json
from types import SimpleNamespace

import pytest
import torch

from mmdet.engine.profile_hook import ProfileHook


def make_counter(work_dir, start, total):
    """Return a trainer that only counts."""
    return SimpleNamespace(
        iter=start,
        step=SimpleNamespace(device=torch.device("cpu")),
        facts=SimpleNamespace(total_iters=total, work_dir=work_dir),
        watch=RecordingWatch(),
    )


class RecordingWatch:
    def __init__(self):
        self.beats = []

    def beat(self, iter, place, allowed_s=0.0):
        self.beats.append((iter, place, allowed_s))


class RecordingProfiler:
    """Stands for a profiler: notes after which step it was started and stopped, and counts steps."""

    def __init__(self, trainer, writes=""):
        self.trainer, self.calls, self.num, self.writes = trainer, [], 0, writes

    def make(self, device, folder, first_step, last_step):
        self.calls.append(("make", str(device), folder.name, first_step, last_step))
        self.folder = folder
        return self

    def step(self):
        self.num += 1

    def start(self):
        self.calls.append(("start", self.trainer.iter))

    def stop(self):
        self.calls.append(("stop", self.trainer.iter, self.num))
        if self.writes:
            path = self.folder / self.writes
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")


def run(tmp_path, total, start=0, stop_at=None, writes=""):
    trainer = make_counter(tmp_path, start, total)
    profiler = RecordingProfiler(trainer, writes)
    hook = ProfileHook(profiler.make)
    hook.before_train(trainer)
    while trainer.iter < total:
        trainer.iter += 1
        hook.after_iter(trainer, {})
        if trainer.iter == stop_at:
            hook.on_stop(trainer)
            return profiler.calls
    hook.after_train(trainer)
    return profiler.calls


MADE = ("make", "cpu", "profile", 10, 15)


def test_steps_10_to_15_are_recorded(tmp_path):
    assert run(tmp_path, total=40) == [MADE, ("start", 0), ("stop", 15, 15)]


def test_writing_the_trace_is_no_hang(tmp_path):
    trainer = make_counter(tmp_path, 0, 40)
    hook = ProfileHook(RecordingProfiler(trainer).make)
    hook.before_train(trainer)
    for trainer.iter in range(1, 17):
        hook.after_iter(trainer, {})
    assert trainer.watch.beats == [(15, "writing the trace", 1800.0)]


def test_a_resumed_run_counts_its_own_steps(tmp_path):
    assert run(tmp_path, total=140, start=100) == [MADE, ("start", 100), ("stop", 115, 15)]


@pytest.mark.parametrize(("total", "last"), [(10, 10), (12, 12), (15, 15)])
def test_a_short_run_leaves_what_it_has(tmp_path, total, last):
    assert run(tmp_path, total) == [MADE, ("start", 0), ("stop", last, last)]


def test_a_signal_leaves_what_it_has(tmp_path):
    assert run(tmp_path, total=40, stop_at=11) == [MADE, ("start", 0), ("stop", 11, 11)]


@pytest.mark.parametrize("total", [1, 9])
def test_a_run_that_ends_before_step_10_says_so(tmp_path, total, caplog):
    assert run(tmp_path, total) == []
    assert f"begins at step 10 and the run has {total}" in caplog.text


@pytest.mark.parametrize(
    "name", ["rank0.17.pt.trace.json", "rank0_7_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json"]
)
def test_the_trace_that_was_written_is_named(tmp_path, name, caplog):
    caplog.set_level("INFO")
    run(tmp_path, total=40, writes=name)
    assert f"trace of steps 10 to 15: {tmp_path / 'profile' / name}" in caplog.text


@pytest.mark.parametrize("writes", ["", "rank0_7_ascend_pt/profiler_info.json"])
def test_no_trace_is_claimed_where_none_was_written(tmp_path, writes, caplog):
    caplog.set_level("INFO")
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "rank0.16.pt.trace.json").write_text("{}")  # of an earlier run
    run(tmp_path, total=40, writes=writes)
    assert f"no trace of steps 10 to 15 was written into {tmp_path / 'profile'}" in caplog.text
    assert "it slowed them down" not in caplog.text


def test_only_rank_0_records(tmp_path, monkeypatch):
    monkeypatch.setattr("mmdet.engine.profile_hook.is_main", lambda: False)
    assert run(tmp_path, total=40) == []


def test_torchs_own_profiler_leaves_a_trace_with_operators(tmp_path, caplog):
    caplog.set_level("INFO")
    trainer = make_counter(tmp_path, 0, 20)
    hook = ProfileHook()
    hook.before_train(trainer)
    for size in range(1, 21):
        torch.ones(size).relu()
        trainer.iter += 1
        hook.after_iter(trainer, {})
    hook.after_train(trainer)
    (trace,) = (tmp_path / "profile").glob("*.json")
    events = json.loads(trace.read_text())["traceEvents"]
    sizes = [event["args"]["Input Dims"][0] for event in events if event.get("name") == "aten::relu"]
    assert sizes == [[10], [11], [12], [13], [14], [15]]
    assert f"trace of steps 10 to 15: {trace}" in caplog.text
