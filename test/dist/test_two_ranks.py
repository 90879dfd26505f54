"""Two gloo processes, started by torchrun, against one process on the joint batch."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import worker  # noqa: E402

EVERYTHING = slice(0, 4)


def launch(task, out_dir, timeout=120):
    """Run a task of worker.py on two ranks; return the finished torchrun process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(HERE / "worker.py"), task, str(out_dir)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
    )


def results(task, out_dir):
    done = launch(task, out_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out_dir / f"rank{rank}.pth") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "task,level,dtype,tolerance",
    [
        ("small", "O0", "float16", 1e-6),
        ("small_O1", "O1", "bfloat16", 2e-2),
        ("small_O2", "O2", "bfloat16", 2e-2),
        ("small_O2_fp16", "O2", "float16", 2e-3),
    ],
)
def test_two_ranks_train_like_one_on_the_joint_batch(task, level, dtype, tolerance, tmp_path):
    """Rank 1 has no positives at all, and other initial weights, which rank 0's replace."""
    first, second = results(task, tmp_path)
    joint = worker.small_step(EVERYTHING, level, dtype)
    for a, b, c in zip(first["grads"], second["grads"], joint["grads"], strict=True):
        assert torch.equal(a, b)
        assert torch.allclose(a.float(), c.float(), rtol=tolerance, atol=tolerance * c.float().abs().max())
    for name, value in joint["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        assert torch.allclose(first["weights"][name], value, atol=tolerance)


@pytest.mark.slow
def test_the_real_criterion_gives_the_joint_batchs_gradients(tmp_path):
    first, second = results("scrfd", tmp_path)
    joint = worker.scrfd_step(EVERYTHING)
    for key, value in joint["losses"].items():  # DDP's mean of the ranks' losses is the joint loss
        assert (first["losses"][key] + second["losses"][key]) / 2 == pytest.approx(value, rel=1e-5)
    for name, grad in joint["grads"].items():
        assert torch.equal(first["grads"][name], second["grads"][name])
        assert (first["grads"][name] - grad).norm() <= 1e-4 * grad.norm() + 1e-9, name


@pytest.mark.slow
def test_a_rank_without_any_face_works(tmp_path):
    first, second = results("scrfd_no_face", tmp_path)
    assert second["losses"]["loss_bbox"] == 0 and second["losses"]["loss_kps"] == 0
    assert all(torch.isfinite(grad).all() for grad in first["grads"].values())
    assert first["losses"]["loss_bbox"] > 0


@pytest.mark.slow
def test_a_bad_loss_ends_all_ranks_naming_the_one(tmp_path):
    done = launch("bad_loss", tmp_path)
    assert done.returncode != 0 and not list(tmp_path.iterdir())
    text = "loss_cls is nan at iter 3, rank 1 (images: image3_1.jpg). No checkpoint yet."
    assert done.stderr.count(f"TrainError: {text}") >= 2


@pytest.mark.slow
def test_a_bad_loss_found_late_changed_no_weights_on_any_rank(tmp_path):
    for result in results("late_bad_loss", tmp_path):
        assert "loss_cls is nan at iter 1, rank 1" in result["message"]
        good, *later = result["states"]
        assert all(torch.equal(state[name], good[name]) for state in later for name in good)


@pytest.mark.slow
def test_a_dead_rank_ends_the_job_with_its_name_and_traceback(tmp_path):
    started = time.monotonic()
    done = launch("dead_rank", tmp_path)
    assert done.returncode != 0 and time.monotonic() - started < 60
    assert "rank 1 failed: RuntimeError: out of memory, say" in done.stderr
    root_cause = done.stderr[done.stderr.index("Root Cause") :]
    assert "rank      : 1" in root_cause and "in dead_rank" in root_cause


@pytest.mark.slow
def test_collectives(tmp_path):
    first, second = results("collectives", tmp_path)
    assert first["mean"] == second["mean"] == [1.0, 6.0] and not first["requires_grad"]
    assert first["gathered"] == [{"rank": 0}, {"rank": 1}] and second["gathered"] is None
    assert first["all"] == second["all"] == [0, 1]
    assert first["any"] == second["any"] == [True, False]
    assert (first["main"], second["main"]) == (True, False)
