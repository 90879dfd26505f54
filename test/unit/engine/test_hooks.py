"""CheckpointHook against a trainer that only counts."""

import os
from types import SimpleNamespace

import pytest

from mmdet.checkpoint import files as checkpoint
from mmdet.config.types import CheckpointConfig
from mmdet.engine import hooks
from mmdet.engine.hooks import CheckpointHook, give_second_name
from mmdet.engine.resume import find_checkpoints
from mmdet.errors import CheckpointError


class Counter(SimpleNamespace):
    def __init__(self, iter, guard=None, **facts):
        super().__init__(iter=iter, step=SimpleNamespace(guard=guard), facts=SimpleNamespace(**facts))

    @property
    def epoch(self):
        return self.iter // self.facts.iters_per_epoch


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs iterations and returns {file name: iter it holds}."""
    monkeypatch.setattr(hooks, "make_checkpoint", lambda trainer: {"iter": trainer.iter})
    checks = []
    guard = SimpleNamespace(check=lambda: checks.append(1))

    def go(cfg, total_iters, iters_per_epoch=3, start=0):
        trainer = Counter(
            iter=start,
            iters_per_epoch=iters_per_epoch,
            total_iters=total_iters,
            work_dir=tmp_path,
            guard=guard,
        )
        hook = CheckpointHook(cfg)
        hook.before_train(trainer)
        while trainer.iter < total_iters:
            trainer.iter += 1
            hook.after_iter(trainer, {})
            if trainer.iter % iters_per_epoch == 0:
                hook.after_epoch(trainer)
        hook.after_train(trainer)
        assert checks, "the losses were looked at before saving"
        return {path.name: checkpoint.load(path)["iter"] for path in tmp_path.iterdir()}

    return go


def test_every_epoch(run):
    assert run(CheckpointConfig(), 9) == {
        "epoch_1.pth": 3,
        "epoch_2.pth": 6,
        "epoch_3.pth": 9,
        "latest.pth": 9,
    }


def test_interval_and_always_the_last_epoch(run):
    assert run(CheckpointConfig(interval=2), 9) == {"epoch_2.pth": 6, "epoch_3.pth": 9, "latest.pth": 9}


def test_only_the_newest_are_kept(run):
    assert run(CheckpointConfig(max_keep=2), 12) == {"epoch_3.pth": 9, "epoch_4.pth": 12, "latest.pth": 12}


def test_a_run_in_a_used_folder_removes_only_what_is_behind_it(run, tmp_path):
    for epoch in (1, 9):
        checkpoint.save(tmp_path / f"epoch_{epoch}.pth", {"iter": -1})
    assert run(CheckpointConfig(max_keep=1), 6) == {"epoch_2.pth": 6, "epoch_9.pth": -1, "latest.pth": 6}


def test_in_the_middle_of_an_epoch(run):
    cfg = CheckpointConfig(interval=100, interval_iters=2)
    assert run(cfg, 5, iters_per_epoch=10) == {"latest.pth": 5}  # 2, 4, and at the end
    assert run(CheckpointConfig(interval=100, interval_iters=3), 7)["latest.pth"] == 7


def test_nothing_new_is_not_saved_again(run, tmp_path):
    hook = CheckpointHook(CheckpointConfig())
    trainer = Counter(iter=3, iters_per_epoch=3, total_iters=3, work_dir=tmp_path)
    hook.before_train(trainer)
    hook.after_train(trainer)
    assert list(tmp_path.iterdir()) == []
    assert hook.describe() == (
        "Last checkpoint: the one resumed (iter 3); --resume-from auto continues there"
    )


def test_describe_names_the_last_checkpoint():
    assert CheckpointHook(CheckpointConfig()).describe() == "No checkpoint was saved"


def test_second_name_shares_the_bytes_and_survives_the_first(tmp_path):
    one, two = tmp_path / "epoch_1.pth", tmp_path / "latest.pth"
    one.write_text("new")
    two.write_text("old")
    give_second_name(one, two)
    assert one.stat().st_ino == two.stat().st_ino
    one.unlink()
    assert two.read_text() == "new"


def test_second_name_is_a_copy_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("not supported")

    monkeypatch.setattr(hooks.os, "link", refuse)
    one, two = tmp_path / "epoch_1.pth", tmp_path / "latest.pth"
    one.write_text("new")
    give_second_name(one, two)
    assert two.read_text() == "new" and {p.name for p in tmp_path.iterdir()} == {"epoch_1.pth", "latest.pth"}


def test_a_pipe_in_the_place_of_the_second_name_is_named(tmp_path):
    one, two = tmp_path / "epoch_1.pth", tmp_path / "latest.pth"
    one.write_text("new")
    os.mkfifo(two)
    with pytest.raises(CheckpointError, match=r"latest.pth` is a named pipe; .*epoch_1.pth is complete"):
        give_second_name(one, two)


def test_the_newest_checkpoint_is_looked_at_first(tmp_path):
    for name in ("epoch_2.pth", "epoch_10.pth", "epoch_x.pth", "best_AP_hard_epoch_11.pth", "latest.pth"):
        (tmp_path / name).touch()
    assert [p.name for p in find_checkpoints(tmp_path)] == ["latest.pth", "epoch_10.pth", "epoch_2.pth"]
    assert find_checkpoints(tmp_path / "nowhere") == []
