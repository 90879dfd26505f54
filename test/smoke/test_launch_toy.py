"""The launchers as a user starts them: drawn data, real training and evaluation, figures at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toy(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a drawn data set of 16 + 4 images."""
    root = tmp_path_factory.mktemp("toy") / "data"
    command = [
        sys.executable,
        str(repo / "tools/make_toy_faces.py"),
        "--out",
        str(root),
        "--train",
        "16",
        "--val",
        "4",
    ]
    subprocess.run(command, check=True, timeout=120)
    return root


def launch(repo: Path, out: Path, script: str, *argv: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHON": sys.executable, "LAUNCHER_OUTPUT": str(out), "OMP_NUM_THREADS": "1"}
    command = [
        "bash",
        str(repo / "test" / script),
        "--config=configs/toy/scrfd_500m_bnkps_toy.py",
        "--device=cpu",
        *argv,
    ]
    return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=300)


def test_full_run_on_one_device_ends_with_ap_and_fps(repo, toy, tmp_path):
    short = ("--batch_size=4", "--epochs=3", "--cfg_options=log_config.interval=2 data.workers_per_gpu=0")
    done = launch(repo, tmp_path, "train_full_1p.sh", f"--data_path={toy}", *short)
    assert done.returncode == 0, done.stdout + done.stderr
    block = done.stdout.splitlines()[-4:]
    assert block[0] == "------------------ Final result ------------------"
    assert block[1].startswith("Final Performance images/sec : ") and float(block[1].split(" : ")[1]) > 0
    assert block[2].startswith("Final Train Accuracy : [") and block[3].startswith(
        "E2E Training Duration sec : "
    )
    case = "SCRFD_for_PyTorch_bs4_1p_acc"
    names = {path.name for path in (tmp_path / "0").iterdir()}
    assert names == {"train_0.log", "eval_0.log", f"{case}.log", f"train_{case}_loss.txt", case}
    log = (tmp_path / "0/train_0.log").read_text()
    assert "* FPS@all " in log and ", time: " in log and ", loss: " in log  # what older harnesses look for
    assert "APS: [" in (tmp_path / "0/eval_0.log").read_text()
    assert (tmp_path / "0" / case / "latest.pth").is_file()


def test_speed_run_on_eight_ranks_ends_with_fps(repo, toy, tmp_path):
    short = ("--batch_size=1", "--max_iters=8", "--cfg_options=data.workers_per_gpu=0")
    done = launch(repo, tmp_path, "train_performance_8p.sh", f"--data_path={toy}", *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Final Performance images/sec : " in done.stdout and "Accuracy" not in done.stdout
    metrics = json.loads((tmp_path / "0/SCRFD_for_PyTorch_bs1_8p_perf/metrics.json").read_text())
    assert metrics["world_size"] == 8 and metrics["fps"] > 0


def test_a_training_that_fails_gives_its_exit_code_and_one_line(repo, toy, tmp_path):
    done = launch(
        repo, tmp_path, "train_full_1p.sh", f"--data_path={toy}", "--cfg_options=model.neck.type=PAFNP"
    )
    assert done.returncode == 2 and "Final" not in done.stdout
    assert "PAFPN" in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
