"""tools/dist_train.sh: which torchrun command it runs."""

import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "tools" / "dist_train.sh"


def run(*args, **env):
    """Run the script with `echo` instead of python; return exit code, stdout, stderr."""
    clean = {k: v for k, v in os.environ.items() if k not in ("NNODES", "NODE_RANK", "MASTER_ADDR", "PORT")}
    env = {**clean, "PYTHON": "echo", **env}
    done = subprocess.run(["bash", str(SCRIPT), *args], capture_output=True, text=True, env=env)
    return done.returncode, done.stdout.strip(), done.stderr


def test_one_machine_takes_a_free_port():
    code, command, _ = run("configs/a.py", "4", "--seed", "0", "--cfg-options", "a=b c")
    train = REPO / "tools" / "train.py"
    assert code == 0
    assert command == (
        f"-m torch.distributed.run --standalone --nproc_per_node 4 {train} configs/a.py "
        "--launcher pytorch --seed 0 --cfg-options a=b c"
    )


def test_several_machines():
    _, command, _ = run("a.py", "8", NNODES="2", NODE_RANK="1", MASTER_ADDR="node0", PORT="29511")
    assert "--nnodes 2 --node_rank 1 --master_addr node0 --master_port 29511 --nproc_per_node 8" in command


def test_a_given_port_is_used_on_one_machine_too():
    _, command, _ = run("a.py", "2", PORT="29512")
    assert "--nnodes 1 --node_rank 0 --master_addr 127.0.0.1 --master_port 29512" in command


@pytest.mark.parametrize("args", [(), ("a.py",), ("a.py", "0"), ("a.py", "--seed", "1")])
def test_wrong_arguments_show_the_usage(args):
    code, command, error = run(*args)
    assert code == 2 and command == "" and error.startswith("usage: bash tools/dist_train.sh CONFIG NPROC")


def test_help():
    code, text, _ = run("--help")
    assert code == 0 and text.startswith("usage:") and "NNODES" in text
