"""An interrupted and resumed run ends exactly as an uninterrupted one, whatever interrupted it."""

import errno
import logging
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from runs import assert_same_state, make_options, train

from mmdet import files
from mmdet.checkpoint import files as checkpoint
from mmdet.engine import assemble
from mmdet.engine.trainer import Hook
from mmdet.errors import CheckpointError, Interrupted

RUN = ["total_epochs=4", "checkpoint_config.interval_iters=2"]
KINDS = {
    "plain": [],
    "EMA and AdamW": [
        "ema.warm_up=10",
        "optimizer._delete_=True",
        "optimizer.type=AdamW",
        "optimizer.lr=0.001",
    ],
    "O2 with a dynamic scale": ["amp.level=O2", "amp.loss_scale=dynamic"],
    "O2 bf16 and EMA": ["amp.level=O2", "amp.dtype=bfloat16", "ema.warm_up=10"],
}


class AtIter(Hook):
    """Does something once, after an iteration."""

    name = "at iter"

    def __init__(self, iter, act):
        self.iter, self.act = iter, act

    def after_iter(self, trainer, losses):
        if trainer.iter == self.iter:
            self.act()


@pytest.fixture
def with_hook(monkeypatch):
    """Return a function that adds a hook to runs started in this test; None removes it."""
    build = assemble.build_trainer
    import mmdet.engine.run as run

    def use(hook):
        def build_with_hook(*args):
            trainer = build(*args)
            trainer.hooks.extend([hook] if hook else [])
            return trainer

        monkeypatch.setattr(run, "build_trainer", build_with_hook)

    return use


def crash():
    raise RuntimeError("power cut")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if "O2" in kind else []) for kind in KINDS]
)
def test_resuming_is_exact(repo, faces, tmp_path, with_hook, kind):
    settings = [*RUN, *KINDS[kind]]
    train(make_options(repo, faces, tmp_path / "whole", *settings, validate=False))

    torn = make_options(repo, faces, tmp_path / "torn", *settings, validate=False, resume_from="auto")
    for iter_ in (3, 11):  # inside the first epoch, inside a later one
        with_hook(AtIter(iter_, crash))
        with pytest.raises(RuntimeError, match="power cut"):
            train(torn)
    with_hook(None)
    train(torn)
    assert_same_state(tmp_path / "whole/latest.pth", tmp_path / "torn/latest.pth")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_resuming_is_exact(repo, faces, tmp_path, with_hook, number):
    before = signal.getsignal(number)
    train(make_options(repo, faces, tmp_path / "whole", "total_epochs=2", validate=False))

    torn = make_options(repo, faces, tmp_path / "torn", "total_epochs=2", validate=False, resume_from="auto")
    with_hook(AtIter(3, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(
        Interrupted, match=rf"{number.name} at iter 3\. Last checkpoint: latest.pth \(iter 3\)"
    ) as error:
        train(torn)
    assert error.value.exit_code == 75 and signal.getsignal(number) is before
    assert checkpoint.load(tmp_path / "torn/latest.pth")["position"]["iter"] == 3
    with_hook(None)
    train(torn)
    assert_same_state(tmp_path / "whole/latest.pth", tmp_path / "torn/latest.pth")


def kill_until_done(options, moments):
    """Train in child processes, killing each at a random moment; the last one finishes."""
    context = multiprocessing.get_context("fork")
    choose = random.Random(0)
    for _ in range(moments):
        child = context.Process(target=train, args=(options,))
        child.start()
        wait_for_saves(child, Path(options.work_dir) / "latest.pth", choose.randint(1, 4))
        time.sleep(choose.uniform(0, 0.1))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it ended before the kill: lengthen the run"
    child = context.Process(target=train, args=(options,))
    child.start()
    child.join()
    assert child.exitcode == 0


def wait_for_saves(child, path, count):
    """Wait until a file was replaced `count` times, at least."""
    seen = {stat(path)}
    while child.is_alive() and len(seen) <= count:
        time.sleep(0.005)
        seen.add(stat(path))


def stat(path):
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def check_kills(repo, faces, tmp_path, moments, *settings):
    settings = ["checkpoint_config.interval_iters=1", *settings]
    train(make_options(repo, faces, tmp_path / "whole", *settings, validate=False))
    torn = make_options(repo, faces, tmp_path / "torn", *settings, validate=False, resume_from="auto")
    kill_until_done(torn, moments)
    assert_same_state(tmp_path / "whole/latest.pth", tmp_path / "torn/latest.pth")


def test_kill_9_twice(repo, faces, tmp_path):
    check_kills(repo, faces, tmp_path, 2, "total_epochs=3")


@pytest.mark.slow
def test_kill_9_at_ten_moments_with_workers(repo, faces, tmp_path):
    check_kills(repo, faces, tmp_path, 10, "total_epochs=12", "data.workers_per_gpu=2")


def test_auto_starts_from_scratch_where_there_is_nothing(repo, faces, tmp_path, caplog):
    options = make_options(repo, faces, tmp_path, resume_from="auto", max_iters=1, validate=False)
    assert train(options)["iters"] == 1


def test_auto_passes_over_a_damaged_checkpoint(repo, faces, tmp_path, capsys):
    options = make_options(repo, faces, tmp_path, "total_epochs=2", validate=False)
    train(options)
    (tmp_path / "latest.pth").unlink()  # another name of epoch_2.pth
    (tmp_path / "latest.pth").write_bytes(b"PK half a file")
    (tmp_path / "epoch_2.pth").write_bytes(b"")
    again = make_options(repo, faces, tmp_path, "total_epochs=3", validate=False, resume_from="auto")
    train(again)
    printed = capsys.readouterr().out
    assert "passing over" in printed and "resuming from" in printed and "epoch_1.pth" in printed
    assert checkpoint.load(tmp_path / "latest.pth")["meta"]["epoch"] == 3


def test_auto_with_only_damaged_checkpoints_stops(repo, faces, tmp_path):
    (tmp_path / "latest.pth").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        train(make_options(repo, faces, tmp_path, resume_from="auto"))


def test_weights_alone_are_not_a_state(repo, faces, tmp_path):
    checkpoint.save(tmp_path / "weights.pth", {"state_dict": {}})
    with pytest.raises(CheckpointError, match="holds no training state .*--load-from"):
        train(make_options(repo, faces, tmp_path, resume_from=str(tmp_path / "weights.pth")))


def test_another_batch_size_continues_at_the_epoch_and_says_so(repo, faces, tmp_path, capsys):
    train(make_options(repo, faces, tmp_path, "total_epochs=2", max_iters=3, validate=False))
    train(
        make_options(
            repo,
            faces,
            tmp_path,
            "total_epochs=2",
            "data.samples_per_gpu=4",
            validate=False,
            resume_from="auto",
        )
    )
    assert "batch_size 2 -> 4; continuing at the start of epoch 1, not exactly" in capsys.readouterr().out


def test_another_precision_is_refused(repo, faces, tmp_path):
    train(make_options(repo, faces, tmp_path, max_iters=1, validate=False))
    with pytest.raises(CheckpointError, match="amp.level"):
        train(make_options(repo, faces, tmp_path, amp="O2", resume_from="auto", validate=False))


def test_a_full_disk_leaves_the_last_good_checkpoint(repo, faces, tmp_path, monkeypatch):
    sync = files._sync

    def full(path):
        if "epoch_2" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(CheckpointError, match=r"epoch_2.pth cannot be written: No space left .*resume"):
        train(make_options(repo, faces, tmp_path, "total_epochs=3", validate=False))
    assert checkpoint.load(tmp_path / "latest.pth")["meta"]["epoch"] == 1
    assert not list(tmp_path.glob(".*tmp*"))


def test_the_best_checkpoint_survives_resuming(repo, faces, tmp_path, with_hook, monkeypatch):
    from mmdet.engine.eval_hook import EvalData

    scores = {1: 0.5, 2: 0.7, 3: 0.6, 4: 0.9}
    asked = []

    def figures(self, predictions):
        asked.append(len(asked) + 1)
        return {"AP_hard": scores[len(asked)]}

    monkeypatch.setattr(EvalData, "figures", figures)
    options = make_options(repo, faces, tmp_path, "total_epochs=4", resume_from="auto")

    class CrashInEpoch4(Hook):
        def after_iter(self, trainer, losses):
            if trainer.epoch == 3 and trainer.iter % trainer.facts.iters_per_epoch:
                crash()

    with_hook(CrashInEpoch4())
    with pytest.raises(RuntimeError):
        train(options)
    assert [path.name for path in tmp_path.glob("best_*")] == ["best_AP_hard_epoch_2.pth"]
    best = checkpoint.load(tmp_path / "best_AP_hard_epoch_2.pth")["hooks"]["evaluation"]
    assert best == {"metric": "AP_hard", "value": 0.7, "file": "best_AP_hard_epoch_2.pth"}
    with_hook(None)
    asked[:] = [1, 2]  # the evaluation of epoch 3 is repeated
    assert train(options)["AP_hard"] == 0.9
    assert [path.name for path in tmp_path.glob("best_*")] == ["best_AP_hard_epoch_4.pth"]


def test_logging_is_left_as_it_was(repo, faces, tmp_path):
    root = logging.getLogger("mmdet")
    before = (root.propagate, root.level, list(root.handlers))
    train(make_options(repo, faces, tmp_path, "total_epochs=1", validate=False))
    assert (root.propagate, root.level, list(root.handlers)) == before
