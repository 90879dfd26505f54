"""The unchanged launchers on simulated cards: what a user with eight cards, or two machines, would see."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
CONFIG = "test/ascend/tiny.py"

pytestmark = pytest.mark.slow


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
        simulator.wait_for(
            lambda: sum(map(num_lines, tmp_path.glob("0/*/*.log.json"))) > 3, job[0], timeout_s=900
        )
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


def num_lines(path):
    return path.read_text().count("\n")
