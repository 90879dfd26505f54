"""tools/train.py as its own processes: exit codes, one-line errors, signals, two ranks."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from runs import CONFIG, EXPLODES, SMALL, assert_same_state

from mmdet.checkpoint import files as checkpoint

pytestmark = pytest.mark.slow


def command(repo, data, work_dir, *argv, ranks=1, options=()):
    launch = [sys.executable]
    if ranks > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    argv = [*argv, "--launcher", "pytorch" if ranks > 1 else "none"]
    arguments = ["--data-root", str(data), "--work-dir", str(work_dir), "--device", "cpu", *argv]
    return [
        *launch,
        str(repo / "tools/train.py"),
        str(repo / CONFIG),
        *arguments,
        "--cfg-options",
        *SMALL,
        *options,
    ]


def start(*args, **kwargs):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command(*args, **kwargs), env=env, stdout=pipe, stderr=pipe, text=True, cwd="/")


def run(*args, **kwargs):
    process = start(*args, **kwargs)
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def wait_for_training(process):
    """Read the output until the first log line."""
    for line in process.stdout:
        if "Epoch [1][" in line:
            return
    raise AssertionError(process.stderr.read())


def test_exit_codes_and_one_line_errors(repo, faces, tmp_path):
    code, _, err = run(repo, tmp_path / "nowhere", tmp_path / "a")
    assert code == 2 and err.startswith("DataError: ") and err.count("\n") == 1
    code, _, err = run(repo, faces, tmp_path / "b", "--no-validate", options=EXPLODES)
    assert code == 3 and err.splitlines()[-1].startswith("TrainError: loss_") and "Traceback" not in err
    code, _, err = run(repo, faces, tmp_path / "c", "--max-itres", "3")
    assert code == 2 and "unrecognized arguments: --max-itres" in err
    assert not (tmp_path / "a").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_saves_and_resuming_is_exact(repo, faces, tmp_path, ranks):
    long = ["total_epochs=12", "log_config.interval=1"]
    code, _, err = run(repo, faces, tmp_path / "whole", "--no-validate", ranks=ranks, options=long)
    assert code == 0, err

    process = start(repo, faces, tmp_path / "torn", "--no-validate", ranks=ranks, options=long)
    wait_for_training(process)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert "Interrupted: " in err and "SIGTERM at iter " in err
    assert process.returncode == (75 if ranks == 1 else process.returncode) != 0
    done = checkpoint.load(tmp_path / "torn/latest.pth")["position"]["iter"]
    total = checkpoint.load(tmp_path / "whole/latest.pth")["position"]["iter"]
    assert 0 < done < total

    code, _, err = run(
        repo, faces, tmp_path / "torn", "--no-validate", "--resume-from", "auto", ranks=ranks, options=long
    )
    assert code == 0, err
    assert_same_state(tmp_path / "whole/latest.pth", tmp_path / "torn/latest.pth")


def test_two_ranks_evaluate_together_and_report_once(repo, faces, tmp_path):
    code, out, err = run(repo, faces, tmp_path, ranks=2, options=["total_epochs=2", "ema.warm_up=10"])
    assert code == 0, err
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["world_size"] == 2 and figures["batch_size"] == 2 and figures["batch_size_all_ranks"] == 4
    assert figures["num_images"] == 3 and figures["AP_hard"] is not None
    assert figures["fps"] == pytest.approx(2 * figures["fps_per_rank"])
    assert out.count("Epoch(val) [2]") == 1
    assert len(checkpoint.load(tmp_path / "latest.pth")["rng"]) == 2
