"""Training on simulated cards: the CPU's numbers, whatever the ranks, and one line where it goes wrong."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
CONFIG = "test/ascend/tiny.py"

pytestmark = pytest.mark.slow


def train(simulator, data, work_dir, device, *args, ranks=1, wait=True, options=(), config=CONFIG, **env):
    """Run tools/train.py on simulated cards (device npu) or on the CPU, in the same Python."""
    command = [simulator.python]
    if ranks > 1:
        port = {"npu": "29741", "cpu": "29743"}[device]
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--master_port", port]
    command += ["tools/train.py", config, "--work-dir", str(work_dir), "--data-root", str(data)]
    command += ["--device", device, "--no-validate", *(["--launcher", "pytorch"] if ranks > 1 else []), *args]
    if wait:
        return simulator.run(*command, devices=8, timeout_s=900, options=options, **env)
    return subprocess.Popen(
        simulator.command(*command, devices=8),
        env=simulator.environment(**env),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def weights_after(simulator, data, work_dir, device, *args, **kwargs):
    done = train(simulator, data, work_dir, device, *args, **kwargs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return torch.load(work_dir / "latest.pth", weights_only=True, map_location="cpu")["state_dict"]


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def losses_of(work_dir):
    """Return the losses of every iteration, to the 5 decimals of the run's JSON lines."""
    (log,) = work_dir.glob("*.log.json")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        {key: value for key, value in record.items() if "loss" in key}
        for record in records
        if record.get("mode") == "train"
    ]


@pytest.fixture(scope="module")
def on_host(simulator, data, tmp_path_factory):
    """Return a function that trains 20 steps on the CPU, once per level and config; it gives the work_dir."""
    runs = {}

    def run(level, config):
        if (level, config) not in runs:
            runs[level, config] = tmp_path_factory.mktemp("cpu")
            twenty_steps(simulator, data, runs[level, config], "cpu", level, config)
        return runs[level, config]

    return run


def twenty_steps(simulator, data, work_dir, device, level, config, *args, **kwargs):
    args = (
        *args,
        "--hang-timeout",
        "0",
        "--max-iters",
        "20",
        "--amp",
        level,
        "--cfg-options",
        "total_epochs=2",
    )
    kwargs["PYTHONPATH"] = os.pathsep.join([str(REPO), str(REPO / "test/ascend")])
    return weights_after(simulator, data, work_dir, device, *args, config=config, **kwargs)


# A 910A has no fp32 convolution: at O0 it is compared with a CPU whose convolutions read and write fp16.
@pytest.mark.parametrize(
    ("chip", "level", "config", "args", "env"),
    [
        ("910B", "O0", CONFIG, ("--profiling",), {}),
        ("910B", "O2", CONFIG, (), {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}),
        ("910A", "O0", "test/ascend/tiny_fp16.py", (), {}),
        ("910A", "O2", CONFIG, (), {}),
    ],
    ids=["910B-O0", "910B-O2", "910A-O0", "910A-O2"],
)
def test_20_steps_give_the_cpus_losses_and_weights(
    chip, level, config, args, env, simulator, data, tmp_path, on_host
):
    work_dir, expected = tmp_path / "npu", on_host(level, config)
    options = ["--chip", chip, "--strict"]
    on_card = twenty_steps(simulator, data, work_dir, "npu", level, config, *args, options=options, **env)
    losses = losses_of(work_dir)
    assert len(losses) == 20 and losses[0].keys() == {"loss", "loss_cls", "loss_bbox", "loss_kps"}
    assert losses == losses_of(expected)
    weights = torch.load(expected / "latest.pth", weights_only=True)["state_dict"]
    assert largest_difference(on_card, weights) == 0.0
    if "--profiling" in args:
        check_trace_of_steps_10_to_15(work_dir)


def check_trace_of_steps_10_to_15(work_dir):
    (trace,) = work_dir.glob("profile/*/ASCEND_PROFILER_OUTPUT/trace_view.json")
    (log,) = work_dir.glob("*.log")
    assert f"trace of steps 10 to 15: {trace}" in log.read_text()
    names = [event["name"] for event in json.loads(trace.read_text())]
    assert [f"ProfilerStep#{number}" in names for number in (8, 9, 14, 15)] == [False, True, True, False]
    assert names.count("aten::convolution") > 300


def test_8_ranks_over_hccl_train_as_8_over_gloo(simulator):
    """Five steps, fp32; the probe says what is compared and why."""
    ranks = simulator.probe("training", ranks=8, devices=8)["ranks"]
    for rank in ranks:
        assert set(rank["in_rank_order"].values()) == {0.0}  # the same bits
        assert rank["frozen"].keys() == {"losses", "gradients", "moved"}
        assert max(rank["frozen"].values()) < 1e-6
        assert rank["moved"] > 0.01 and rank["checksum"] == ranks[0]["checksum"]
    assert len({tuple(rank["losses"]) for rank in ranks}) == 8  # every rank had its own images


def test_2_ranks_over_hccl_train_to_the_weights_of_2_over_gloo(simulator, data, tmp_path):
    # The whole program, with its data and checkpoints; two numbers have one sum, whatever the order.
    args = ("--max-iters", "3", "--amp", "O0")
    over_hccl = weights_after(simulator, data, tmp_path / "npu", "npu", *args, ranks=2)
    over_gloo = weights_after(simulator, data, tmp_path / "cpu", "cpu", *args, ranks=2)
    assert largest_difference(over_hccl, over_gloo) == 0.0


def test_2_ranks_over_hccl_train_retinaface_to_the_weights_of_2_over_gloo(simulator, data, tmp_path):
    options = dict(ranks=2, config="test/ascend/tiny_retinaface.py")
    args = ("--max-iters", "3", "--amp", "O0")
    over_hccl = weights_after(simulator, data, tmp_path / "npu", "npu", *args, **options)
    over_gloo = weights_after(simulator, data, tmp_path / "cpu", "cpu", *args, **options)
    assert largest_difference(over_hccl, over_gloo) < 1e-6


# ---- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("memory_mib", [16, 32], ids=["no room for the batch", "no room for the step"])
def test_out_of_memory_is_one_line_with_the_sizes(memory_mib, simulator, data, tmp_path):
    big = ["--max-iters", "1", "--cfg-options", "data.samples_per_gpu=24"]
    done = train(simulator, data, tmp_path / "oom", "npu", *big, options=["--memory-mib", str(memory_mib)])
    assert done.returncode == 3, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("TrainError: iter 0, 24 images of 64x64, ")
    assert f"{memory_mib}.00 MiB total capacity" in last and "Lower data.samples_per_gpu" in last


def test_more_ranks_than_cards_names_both_numbers(simulator, data, tmp_path):
    done = simulator.run(
        *(simulator.python, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", "29747"),
        *("tools/train.py", CONFIG, "--work-dir", str(tmp_path / "w"), "--data-root", str(data)),
        *("--device", "npu", "--launcher", "pytorch", "--no-validate"),
        devices=1,
    )
    assert done.returncode != 0
    assert "device npu:1 (local rank 1) does not exist: 1 visible" in done.stderr


def test_a_killed_rank_ends_all_and_resume_goes_on(simulator, data, tmp_path):
    work_dir = tmp_path / "killed"
    args = ("--cfg-options", "total_epochs=40", "checkpoint_config.max_keep_ckpts=2")
    running = train(simulator, data, work_dir, "npu", *args, ranks=2, wait=False, HCCL_EXEC_TIMEOUT="10")
    try:
        simulator.wait_for(lambda: (work_dir / "epoch_1.pth").exists(), running, timeout_s=900)
        (rank_1,) = _processes(str(work_dir), b"LOCAL_RANK=1")
        os.kill(rank_1, signal.SIGKILL)
        begin = time.monotonic()
        text = running.communicate(timeout=300)[0]
    finally:
        running.kill()
    assert time.monotonic() - begin < 300
    assert running.returncode != 0
    assert "rank      : 1 (local_rank: 1)" in text and "Signal 9 (SIGKILL)" in text
    assert _processes(str(work_dir), b"LOCAL_RANK=") == []
    resume = ("--resume-from", "auto", "--max-iters", "20", *args)
    resumed = train(simulator, data, work_dir, "npu", *resume, ranks=2)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "iters 0 to 20" not in resumed.stderr + resumed.stdout


def _processes(argument: str, variable: bytes) -> list[int]:
    """Return processes with this command-line argument and environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, env = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if argument.encode() in command.split(b"\0") and variable in env:
            found.append(int(folder.name))
    return found
