"""The launchers: arguments, what they run, and the lines a harness reads."""

import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmdet.errors import ConfigError, DataError, TrainError
from mmdet.launch import args as launch_args
from mmdet.launch import jobs, report
from mmdet.launch import run as launch

LAUNCHERS = (
    "train_full_1p", "train_full_8p", "train_full_multi", "train_performance_1p", "train_performance_8p"
)  # fmt: skip


def make_data(root: Path, without: str = "") -> Path:
    """Make the files and folders a data set must have, all empty."""
    files = ["train/labelv2.txt", "val/labelv2.txt", *(f"val/gt/{name}" for name in launch_args.GT_FILES)]
    for folder in ("train/images", "val/images", "val/gt"):
        (root / folder).mkdir(parents=True)
    for name in files:
        (root / name).touch()
    if without.endswith("/"):
        (root / without).rmdir()
    elif without:
        (root / without).unlink()
    return root


def parse(data: Path, *argv: str) -> launch_args.Job:
    return launch_args.parse_args([f"--data_path={data}", *argv])


def run_script(repo: Path, name: str, *argv: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHON": sys.executable, "etp_running_flag": "true", **env}
    command = ["bash", str(repo / f"test/{name}.sh"), *argv]
    return subprocess.run(command, env=env, cwd="/", text=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_help_lists_the_model_zoo_arguments(repo, name):
    done = run_script(repo, name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: {name}.sh" in done.stdout
    for argument in ("data_path", "batch_size", "precision_mode", "device_id", "epochs", "learning_rate"):
        assert f"--{argument}" in done.stdout


def test_missing_data_path_prints_the_model_zoo_line_and_ends_with_2(repo):
    done = run_script(repo, "train_full_1p")
    assert done.stdout == '[Error] para "data_path" must be confing\n'
    assert done.stderr.startswith("ConfigError: --data_path is missing") and done.returncode == 2


def test_unknown_argument_is_refused_with_its_name(repo, tmp_path):
    done = run_script(repo, "train_full_8p", f"--data_path={tmp_path}", "--data_dump_flag=1")
    assert done.returncode == 2 and "--data_dump_flag=1" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "is_on"),
    [
        ("--profiling=True", True), ("--profiling", True), ("--profiling=GE", True),
        ("--profiling=CANN", True),
        ("--profiling=false", False), ("--profiling=False", False),
        ("--profiling=0", False), ("--seed=1", False),
    ],
)  # fmt: skip
def test_profiling_reaches_the_training_command(tmp_path, given, is_on):
    job = parse(make_data(tmp_path), "--config=setup.py", given)
    assert ("--profiling" in launch.command_to_train(job, tmp_path)) == is_on


def test_profiling_refuses_what_it_does_not_know(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(make_data(tmp_path), "--config=setup.py", "--profiling=maybe")
    assert "'maybe' is none of True, False, GE, CANN" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["train/images/", "train/labelv2.txt", "val/images/", "val/labelv2.txt", "val/gt/wider_hard_val.mat"],
)
def test_what_the_data_set_lacks_is_named(tmp_path, name):
    make_data(tmp_path / "ok")
    launch_args.check_data(tmp_path / "ok", with_val=True)
    data = make_data(tmp_path / "broken", without=name)
    with pytest.raises(DataError, match=f"{data} lacks {name};"):
        launch_args.check_data(data, with_val=True)


def test_a_set_without_a_gt_folder_is_evaluated_by_its_labels(tmp_path):
    data = make_data(tmp_path)
    shutil.rmtree(data / "val/gt")
    launch_args.check_data(data, with_val=True)


def test_a_set_whose_validation_is_split_off_needs_no_val(tmp_path):
    data = make_data(tmp_path, without="val/labelv2.txt")
    assert "data.val_split=0.1" in parse(data, "--cfg_options=data.val_split=0.1").options
    with pytest.raises(DataError, match="lacks val/labelv2.txt"):
        parse(data)


def test_speed_runs_need_no_validation_data(tmp_path):
    data = make_data(tmp_path, without="val/labelv2.txt")
    assert not parse(data, "--mode=performance").is_full
    with pytest.raises(DataError, match="not a folder"):
        launch_args.check_data(tmp_path / "absent", with_val=False)


def test_every_argument_reaches_the_training_command(tmp_path):
    weights = tmp_path / "w.pth"
    weights.touch()
    job = parse(
        make_data(tmp_path / "data"), "--batch_size=4", "--epochs=3", "--learning_rate=0.02", "--device=cpu",
        "--precision_mode=allow_fp32_to_fp16", "--device_id=2", "--seed=7", f"--work_dir={tmp_path}/w",
        f"--load_from={weights}", "--resume_from=auto", "--max_iters=9", "--mode=performance",
        "--config=setup.py", "--cfg_options=a=1 b='x y'",
    )  # fmt: skip
    text = " ".join(launch.command_to_train(job, job.work_dir))
    for part in (
        f"data_root={tmp_path}/data", "data.samples_per_gpu=4", "total_epochs=3", "optimizer.lr=0.02",
        "amp.level=O2", "--seed 7", f"--load-from {weights}", "--resume-from auto", "--max-iters 9", "--perf",
        "--device cpu", "--launcher none", f"--work-dir {tmp_path}/w", "/setup.py", "a=1 b=x y",
    ):  # fmt: skip
        assert part in text, part
    assert job.output_dir == jobs.REPO / "test/output/2"


def test_eight_ranks_go_through_torchrun(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "29511")
    job = parse(make_data(tmp_path), "--ranks=8", "--config=setup.py")
    text = " ".join(launch.command_to_train(job, tmp_path))
    assert "torch.distributed.run --nproc_per_node 8 --master_addr 127.0.0.1 --master_port 29511" in text
    assert "--launcher pytorch" in text and "--perf" not in text


def test_machines_come_from_the_environment(tmp_path, monkeypatch):
    for name, value in {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    job = parse(make_data(tmp_path), "--ranks=4", "--config=setup.py")
    text = " ".join(launch.command_to_train(job, tmp_path))
    assert "--nproc_per_node 4 --nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 29500" in text


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"NNODES": "2"}, "NNODES=2, NODE_RANK=: give each machine its number, 0 to NNODES - 1"),
        ({"NNODES": "2", "NODE_RANK": "2"}, "NNODES=2, NODE_RANK=2: give each machine"),
        ({"NNODES": "two", "NODE_RANK": "0"}, "NNODES=two, NODE_RANK=0: give each machine"),
        ({"NNODES": "2", "NODE_RANK": "0"}, "NNODES=2 needs MASTER_ADDR: the address of machine 0"),
    ],
)
def test_machines_that_are_not_described_are_refused(environ, message):
    with pytest.raises(ConfigError, match=message):
        jobs.read_nodes(environ)


@pytest.mark.parametrize(
    "device_id, visible, chosen",
    [(0, None, "0"), (3, None, "3"), (3, "3", "3"), (7, "4, 7", "7"), (1, "4,5", "5"), (0, "", "")],
)
def test_one_rank_sees_one_card(device_id, visible, chosen):
    environ = {} if visible is None else {"ASCEND_RT_VISIBLE_DEVICES": visible}
    assert jobs.child_env(environ, device_id)["ASCEND_RT_VISIBLE_DEVICES"] == chosen


def test_eight_ranks_see_every_card_and_a_missing_card_is_named():
    assert not set(jobs.child_env({})) & set(jobs.VISIBLE_CARDS)
    with pytest.raises(ConfigError, match="3 is not among ASCEND_RT_VISIBLE_DEVICES=4,5"):
        jobs.child_env({"ASCEND_RT_VISIBLE_DEVICES": "4,5"}, 3)


def test_device_id_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_DEVICE_ID", "5")
    assert parse(make_data(tmp_path), "--config=setup.py").output_dir.name == "5"


def test_final_block_and_case_log_are_what_a_harness_parses():
    case = report.Case(num_ranks=8, batch_size=32, is_full=True)
    assert report.final_block(256.0, "[0.9458, 0.9338, 0.8152]", 61.4) == (
        "------------------ Final result ------------------\n"
        "Final Performance images/sec : 256.00\n"
        "Final Train Accuracy : [0.9458, 0.9338, 0.8152]\n"
        "E2E Training Duration sec : 61"
    )
    assert report.case_log(case, 256.0, 0.5, "[0.9458, 0.9338, 0.8152]", 61.4) == (
        "Network = SCRFD_for_PyTorch\nRankSize = 8\nBatchSize = 32\n"
        f"DeviceType = {platform.machine()}\nCaseName = SCRFD_for_PyTorch_bs32_8p_acc\n"
        "ActualFPS = 256.00\nTrainingTime = 1.000000\nTrainAccuracy = [0.9458, 0.9338, 0.8152]\n"
        "ActualLoss = 0.5000\nE2ETrainingTime = 61\n"
    )


def test_performance_case_says_perf_and_has_no_accuracy():
    case = report.Case(num_ranks=1, batch_size=16, is_full=False)
    assert case.name == "SCRFD_for_PyTorch_bs16_1p_perf"
    assert "Accuracy" not in report.final_block(2.0, None, 1) + report.case_log(case, 2.0, 1.0, None, 1)
    assert "ActualFPS = nan\n" in report.case_log(case, math.nan, 1.0, None, 1)


def test_a_setting_without_faces_reads_nan():
    assert report.format_aps({"AP_easy": 0.123456, "AP_medium": None, "AP_hard": 1}) == "[0.1235, nan, 1]"


def test_losses_come_from_the_newest_training_log(tmp_path):
    old, new = tmp_path / "a.log.json", tmp_path / "b.log.json"
    old.write_text('{"mode": "train", "loss": 9.0}\n')
    lines = [{"mode": "train", "loss": 2.5}, {"mode": "val", "AP_easy": 0.5}, {"mode": "train", "loss": 1.25}]
    new.write_text("\n".join(map(json.dumps, lines)) + "\n")
    os.utime(old, (1, 1))
    assert report.read_losses(tmp_path) == [2.5, 1.25]
    assert report.read_losses(tmp_path / "none") == []


def test_missing_figures_are_an_error(tmp_path):
    with pytest.raises(TrainError, match="metrics.json"):
        report.read_metrics(tmp_path)


def fake_steps(monkeypatch, tmp_path: Path, train: str, evaluate: str = "") -> launch_args.Job:
    """Return a full job whose two commands are the given Python snippets."""
    config = SimpleNamespace(data=SimpleNamespace(samples_per_gpu=4))
    monkeypatch.setitem(sys.modules, "mmdet.config", SimpleNamespace(load_config=lambda *_: config))
    monkeypatch.setenv("LAUNCHER_OUTPUT", str(tmp_path / "out"))
    head = "import json, pathlib, sys; w = pathlib.Path(sys.argv[1]); "
    command = [sys.executable, "-c"]
    monkeypatch.setattr(launch, "command_to_train", lambda _, work: [*command, head + train, str(work)])
    monkeypatch.setattr(
        launch, "command_to_evaluate", lambda _, __, out: [*command, head + evaluate, str(out)]
    )
    return parse(make_data(tmp_path / "data"), "--config=setup.py")


def test_a_full_run_leaves_every_file(monkeypatch, tmp_path, capsysbinary):
    job = fake_steps(
        monkeypatch, tmp_path,
        "print('FPS@all 8.0'); (w/'metrics.json').write_text(json.dumps(dict(fps=8.0, loss=1.5)));"
        "(w/'1.log.json').write_text('{\"mode\": \"train\", \"loss\": 1.5}')",
        "w.mkdir(); (w/'metrics.json').write_text(json.dumps(dict(AP_easy=.9, AP_medium=.8, AP_hard=.7)))",
    )  # fmt: skip
    assert launch.launch(job) == 0
    out = tmp_path / "out/0"
    assert b"FPS@all 8.0" in (out / "train_0.log").read_bytes() and (out / "eval_0.log").exists()
    assert (out / "train_SCRFD_for_PyTorch_bs4_1p_acc_loss.txt").read_text() == "1.5000\n"
    assert "TrainAccuracy = [0.9, 0.8, 0.7]\n" in (out / "SCRFD_for_PyTorch_bs4_1p_acc.log").read_text()
    assert b"Final Train Accuracy : [0.9, 0.8, 0.7]\n" in capsysbinary.readouterr().out


def test_a_failed_training_ends_with_its_code_and_no_figures(monkeypatch, tmp_path, capsysbinary):
    job = fake_steps(monkeypatch, tmp_path, "print('boom'); sys.exit(3)")
    assert launch.launch(job) == 3
    assert [path.name for path in sorted((tmp_path / "out/0").glob("*.log"))] == ["train_0.log"]
    assert b"Final" not in capsysbinary.readouterr().out


def test_a_signal_is_passed_to_the_training_once(tmp_path):
    child = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); print('ready', flush=True);"
        "time.sleep(30)"
    )
    parent = (
        f"import os, sys; from pathlib import Path; from mmdet.launch.jobs import run_logged;"
        f"log = Path({str(tmp_path / 'log')!r});"
        f"sys.exit(run_logged([sys.executable, '-c', {child!r}], log, os.environ))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=jobs.REPO, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 75


def test_env_npu_does_nothing_without_cann_and_respects_what_is_set(repo, tmp_path):
    names = ("TASK_QUEUE_ENABLE", "HCCL_CONNECT_TIMEOUT", "CPU_AFFINITY_CONF", "PYTORCH_NPU_ALLOC_CONF")
    shown = " ".join(f"${{{name}:-unset}}" for name in names)
    script = f"source {repo}/test/env_npu.sh; echo {shown}"

    def run(**env: str) -> str:
        env = {"PATH": os.environ["PATH"], "PYTHON": "false", **env}  # a python without torch
        done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    assert run(ASCEND_INSTALL_PATH=str(tmp_path)) == "unset unset unset unset"
    (tmp_path / "ascend-toolkit").mkdir()
    (tmp_path / "ascend-toolkit/set_env.sh").write_text("export HCCL_CONNECT_TIMEOUT=77\n")
    assert run(ASCEND_INSTALL_PATH=str(tmp_path)) == "2 77 2 expandable_segments:True"
    given = {
        "TASK_QUEUE_ENABLE": "1",
        "CPU_AFFINITY_CONF": "0",
        "PYTORCH_NPU_ALLOC_CONF": "max_split_size_mb:64",
    }
    assert run(ASCEND_INSTALL_PATH=str(tmp_path), **given) == "1 77 0 max_split_size_mb:64"
    both_would_abort = run(ASCEND_INSTALL_PATH=str(tmp_path), PYTORCH_ALLOC_CONF="expandable_segments:True")
    assert both_would_abort == "2 77 2 unset"


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("2.9.1+cpu", "PYTORCH_NPU_ALLOC_CONF"),
        ("2.10.0", "PYTORCH_ALLOC_CONF"),
        ("", "PYTORCH_NPU_ALLOC_CONF"),
    ],
)
def test_env_npu_names_the_allocators_variable_by_torchs_release(release, name, repo, tmp_path):
    (tmp_path / "ascend-toolkit").mkdir()
    (tmp_path / "ascend-toolkit/set_env.sh").touch()
    site = tmp_path / f"torch-{release}.dist-info"
    if release:
        site.mkdir()
        (site / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {release}\n")
    script = f"source {repo}/test/env_npu.sh; echo ${{PYTORCH_ALLOC_CONF:-}}/${{PYTORCH_NPU_ALLOC_CONF:-}}"
    env = {"PATH": os.environ["PATH"], "ASCEND_INSTALL_PATH": str(tmp_path)}
    env |= {"PYTHON": sys.executable if release else "/bin/false", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True, check=True)
    value = "expandable_segments:True"
    assert done.stdout.strip() == (f"{value}/" if name == "PYTORCH_ALLOC_CONF" else f"/{value}")


@pytest.mark.parametrize("name", [*LAUNCHERS, "common", "env_npu"])
def test_shell_files_are_thin_and_leave_the_machine_alone(repo, name):
    text = (repo / f"test/{name}.sh").read_text()
    code = [line.split("#")[0] for line in text.splitlines()]
    assert len(code) < 50
    for word in ("chmod", "rm ", "awk", "grep", "msnpureport", "taskset"):
        assert not any(word in line for line in code), word


def test_every_variable_of_env_npu_is_explained(repo):
    set_there = re.findall(r'export "?([A-Z_]+)=', (repo / "test/env_npu.sh").read_text())
    explained = (repo / "docs/ascend.md").read_text()
    assert len(set_there) >= 9
    assert [name for name in [*set_there, "PYTORCH_ALLOC_CONF"] if f"`{name}`" not in explained] == []
