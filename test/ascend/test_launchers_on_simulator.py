"""The unchanged launchers and training on simulated cards: what a user with eight cards would see."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
CONFIG = "test/ascend/tiny.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory, npu_python):
    folder = tmp_path_factory.mktemp("toy")
    command = [sys.executable, "tools/make_toy_faces.py", "--out", str(folder), "--train", "32", "--val", "4"]
    subprocess.run([*command, "--size", "96", "128"], cwd=REPO, check=True, capture_output=True)
    cann = (
        folder / "cann" / "ascend-toolkit" / "set_env.sh"
    )  # lets test/env_npu.sh set what it sets on a card
    cann.parent.mkdir(parents=True)
    cann.write_text("echo CANN is sourced\n")
    return folder


def launch(simulator, script, data, output, *args, **kwargs):
    """Run one of test/*.sh as a user would, on eight simulated cards."""
    options = [f"--data_path={data}", f"--config={CONFIG}", "--batch_size=1", *args]
    env = {"PYTHON": simulator.python, "LAUNCHER_OUTPUT": str(output)}
    env["ASCEND_INSTALL_PATH"] = str(data / "cann")
    done = simulator.run("bash", f"test/{script}", *options, devices=8, timeout_s=900, **env, **kwargs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.startswith("CANN is sourced\n")
    return done.stdout + done.stderr


def case_log(output, case):
    lines = (output / "0" / f"SCRFD_for_PyTorch_{case}.log").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines)


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


# ---- the launchers --------------------------------------------------------------------------


def test_performance_1p(simulator, data, tmp_path):
    text = launch(simulator, "train_performance_1p.sh", data, tmp_path, "--max_iters=4")
    assert "npu:0 (Ascend910B1)" in text and "Final Performance images/sec :" in text
    assert float(case_log(tmp_path, "bs1_1p_perf")["ActualFPS"]) > 0


def test_full_1p(simulator, data, tmp_path):
    options = "--cfg_options=evaluation.interval=2"
    text = launch(simulator, "train_full_1p.sh", data, tmp_path, "--max_iters=4", options)
    assert "npu:0 (Ascend910B1)" in text and "Final Train Accuracy :" in text
    assert case_log(tmp_path, "bs1_1p_acc")["RankSize"] == "1"


def test_performance_8p(simulator, data, tmp_path):
    text = launch(
        simulator,
        "train_performance_8p.sh",
        data,
        tmp_path,
        "--max_iters=3",
        "--precision_mode=allow_fp32_to_fp16",
    )
    assert "8 rank(s), amp O2" in text
    assert case_log(tmp_path, "bs1_8p_perf")["RankSize"] == "8"


def test_full_8p(simulator, data, tmp_path):
    options = ("--max_iters=3", "--precision_mode=allow_fp32_to_fp16", "--cfg_options=evaluation.interval=2")
    text = launch(simulator, "train_full_8p.sh", data, tmp_path, *options)
    assert "8 rank(s), amp O2" in text and "APS: [" in text
    log = case_log(tmp_path, "bs1_8p_acc")
    assert log["RankSize"] == "8" and float(log["ActualLoss"]) > 0


# ---- the same numbers as on the CPU ---------------------------------------------------------


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


def test_two_launchers_on_loopback_form_one_job(simulator, data, tmp_path):
    """Stands for two hosts: each launcher has its own single card."""
    options = ["--work-dir", str(tmp_path / "w"), "--data-root", str(data), "--device", "npu"]
    options += ["--no-validate", "--max-iters", "2"]
    hosts = [
        subprocess.Popen(
            simulator.command("bash", "tools/dist_train.sh", CONFIG, "1", *options, devices=1),
            env=simulator.environment(
                PYTHON=simulator.python, NNODES="2", NODE_RANK=rank, MASTER_ADDR="127.0.0.1", PORT="29749"
            ),
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    outputs = [host.communicate(timeout=600)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], "\n".join(text[-2000:] for text in outputs)
    assert "2 rank(s)" in outputs[0] and "iters 0 to 2" in outputs[0]


# ---- what goes wrong ------------------------------------------------------------------------


@pytest.fixture
def machines():
    """Two network namespaces joined by a cable, each with an address of its own: (name, address) of both."""
    names, cable = ("scrfd-m0", "scrfd-m1"), ("scrfd-v0", "scrfd-v1")
    made = [
        ["ip", "link", "add", cable[0], "type", "veth", "peer", "name", cable[1]],
        *(["ip", "netns", "add", name] for name in names),
    ]
    for rank, (name, end) in enumerate(zip(names, cable, strict=True)):
        made.append(["ip", "link", "set", end, "netns", name])
        made.append(["ip", "-n", name, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", end])
        made += [["ip", "-n", name, "link", "set", device, "up"] for device in (end, "lo")]
    try:
        for command in made:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"network namespaces are not permitted here: {done.stderr.strip()}")
        yield [(name, f"10.77.0.{rank + 1}") for rank, name in enumerate(names)]
    except FileNotFoundError:
        pytest.skip("network namespaces need ip (iproute2)")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", cable[0]], capture_output=True)


def start_on_both(simulator, data, output, machines, *args, **env):
    """Start test/train_full_multi.sh with four cards on each machine; HCCL's memory is this host's."""
    env |= dict(PYTHON=simulator.python, NNODES="2", MASTER_ADDR=machines[0][1], RANKS_PER_NODE="4")
    env |= dict(LAUNCHER_OUTPUT=str(output), ASCEND_INSTALL_PATH=str(data / "cann"), MASTER_PORT="29751")
    script = ["bash", "test/train_full_multi.sh", f"--data_path={data}", f"--config={CONFIG}"]
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *simulator.command(*script, "--batch_size=1", *args, devices=4)],
            env=simulator.environment(**env, NODE_RANK=str(rank), GLOO_SOCKET_IFNAME=f"scrfd-v{rank}"),
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, (name, _) in enumerate(machines)
    ]


def test_two_machines_with_networks_of_their_own_form_one_job(simulator, data, tmp_path, machines):
    options = "--cfg_options=evaluation.interval=2"
    job = start_on_both(simulator, data, tmp_path, machines, "--max_iters=2", options)
    outputs = [machine.communicate(timeout=900)[0] for machine in job]
    assert [machine.returncode for machine in job] == [0, 0], "\n".join(text[-2000:] for text in outputs)
    assert "8 rank(s)" in outputs[0] and "Final Train Accuracy :" in outputs[0]
    assert "machine 1 of 2 is done" in outputs[1]
    assert case_log(tmp_path, "bs1_8p_acc")["RankSize"] == "8"


def test_a_killed_machine_ends_the_other_in_time(simulator, data, tmp_path, machines):
    options = "--cfg_options=total_epochs=4000 checkpoint_config.interval=4000"
    job = start_on_both(simulator, data, tmp_path, machines, options, HCCL_EXEC_TIMEOUT="20")
    try:
        _wait_for(lambda: sum(map(_num_lines, tmp_path.glob("0/*/*.log.json"))) > 3, job[0], timeout_s=900)
        inside = subprocess.run(["ip", "netns", "pids", machines[1][0]], capture_output=True, text=True)
        for pid in map(int, inside.stdout.split()):
            os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        text = job[0].communicate(timeout=300)[0]
    finally:
        for machine in job:
            machine.kill()
    assert time.monotonic() - begin < 150 and job[0].returncode != 0
    assert "missing rank: 4 (process is gone)" in text, text[-3000:]


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
        _wait_for(lambda: (work_dir / "epoch_1.pth").exists(), running, timeout_s=900)
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


def _num_lines(path):
    return path.read_text().count("\n")


def _wait_for(is_done, process, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert process.poll() is None, process.stdout.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)


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
