"""Child trainings and evaluations: their command lines, environment, log files, end and exit codes.

Used by the launchers of test/ (run.py), one child at a time with its output on the screen, and by campaigns,
several children at a time:

    command = train_command(config, work_dir, device="auto", options=["total_epochs=2"])
    child = start(command, work_dir / "train.log", child_env(os.environ, card=3))
    code = child.wait()
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmdet.errors import ConfigError
from mmdet.process import end_with_parent

REPO = Path(__file__).resolve().parents[2]
COMMAND = str(Path(__file__).resolve().parents[1] / "__main__.py")  # `scrfd`, wherever it is installed
VISIBLE_CARDS = ("ASCEND_RT_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Nodes:
    """The machines of a job.

    Attributes:
        count: how many; a single one needs nothing else.
        rank: this one's number, from 0.
        address: of number 0, as the others reach it.
        port: of number 0; "": any that is free.
    """

    count: int = 1
    rank: int = 0
    address: str = "127.0.0.1"
    port: str = ""


def read_nodes(environ: Mapping[str, str]) -> Nodes:
    """Return the machines that NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT describe.

    Raises:
        ConfigError: a number is none, or one of them is missing where NNODES is above 1.
    """
    port = environ.get("MASTER_PORT", "")
    if environ.get("NNODES", "1") == "1":
        return Nodes(port=port)
    count, rank = (environ.get(name, "") for name in ("NNODES", "NODE_RANK"))
    if not count.isdigit() or not rank.isdigit() or int(rank) >= int(count):
        raise ConfigError(f"NNODES={count}, NODE_RANK={rank}: give each machine its number, 0 to NNODES - 1")
    address = environ.get("MASTER_ADDR", "")
    if not address:
        raise ConfigError(f"NNODES={count} needs MASTER_ADDR: the address of machine 0, which all reach")
    return Nodes(int(count), int(rank), address, port or "29500")


def train_command(
    config: Path,
    work_dir: Path,
    *,
    num_ranks: int = 1,
    nodes: Nodes = Nodes(),
    device: str = "auto",
    train_args: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command of a training: plain Python for one rank, torchrun for more.

    Args:
        config: config file.
        work_dir: folder of the run.
        num_ranks: processes on this machine, one per device.
        nodes: the machines.
        device: kind of device.
        train_args: further arguments of `scrfd train`.
        options: of --cfg-options.
    """
    launcher = ["--launcher", "none"]
    command = [sys.executable]
    if num_ranks * nodes.count > 1:
        command += ["-m", "torch.distributed.run", "--nproc_per_node", str(num_ranks)]
        command += ["--nnodes", str(nodes.count), "--node_rank", str(nodes.rank)] if nodes.count > 1 else []
        command += ["--master_addr", nodes.address, "--master_port", nodes.port or str(free_port())]
        launcher = ["--launcher", "pytorch"]
    command += [COMMAND, "train", str(config), "--work-dir", str(work_dir)]
    command += ["--device", device, *launcher, *train_args]
    return [*command, "--cfg-options", *options]


def eval_command(
    config: Path,
    checkpoint: Path,
    out_dir: Path,
    *,
    device: str = "auto",
    eval_args: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command that evaluates a checkpoint on one device, at 640 x 640 unless eval_args say so."""
    command = [sys.executable, COMMAND, "test", str(config), str(checkpoint)]
    command += ["--mode", "0", "--out", str(out_dir), "--device", device, *eval_args]
    return [*command, "--cfg-options", *options]


def child_env(environ: Mapping[str, str], card: int | None = None) -> dict[str, str]:
    """Return the environment of a child; with `card` it sees that card only.

    `card` is the number of a card of the machine. Where a variable lists visible cards and that card is among
    them it is chosen, otherwise the card-th of the list. An empty list stays empty.

    Raises:
        ConfigError: a list of visible cards is too short.
    """
    # With torch-npu installed and CANN absent `import torch` fails unless autoload is off; device.py imports
    # torch_npu itself where it is needed.
    env = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", **environ, "PYTHONUNBUFFERED": "1"}
    if card is None:
        return env
    for name in VISIBLE_CARDS:
        cards = [item.strip() for item in environ.get(name, str(card)).split(",") if item.strip()]
        if cards:
            env[name] = _choose_card(cards, card, name)
    return env


def _choose_card(cards: Sequence[str], card: int, variable: str) -> str:
    if str(card) in cards:
        return str(card)
    if not 0 <= card < len(cards):
        raise ConfigError(f"device id {card} is not among {variable}={','.join(cards)}")
    return cards[card]


def free_port() -> int:
    """Return a TCP port that is free on this machine now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def shell_code(returncode: int) -> int:
    """Return the exit code of a child as a shell reports it: 128 + signal for one that a signal ended."""
    return returncode if returncode >= 0 else 128 - returncode


@dataclass(frozen=True)
class Child:
    """A running child with a process group of its own; its output goes to log_file."""

    process: subprocess.Popen
    log_file: Path

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit code, as a shell reports it; None if the child still runs after timeout_s.

        What a dead child left in its process group ends with it.
        """
        was_running = self.process.returncode is None
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if was_running:
            self._kill_group()
        return shell_code(code)

    def stop(self, grace_s: float = 60.0) -> int:
        """End the child: SIGTERM, so that it can save; after grace_s SIGKILL to its whole group.

        Returns:
            The exit code: 75 of a training that saved, 137 if it had to be killed.
        """
        code = self.wait(0)
        if code is None:
            self.process.terminate()
            code = self.wait(grace_s)
        if code is None:
            self._kill_group()
            code = self.wait()
        assert code is not None
        return code

    def _kill_group(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def start(command: Sequence[str], log_file: Path, env: Mapping[str, str]) -> Child:
    """Start a child whose output goes to log_file (appended)."""
    with open(log_file, "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    return Child(process, log_file)


def run_logged(command: Sequence[str], log_file: Path, env: Mapping[str, str]) -> int:
    """Run a command, output to the screen and to log_file; return its exit code as a shell reports it.

    SIGTERM, SIGINT and SIGHUP are passed on once, so that training can save and end by itself.
    """
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),  # the launcher may be killed with -9
        )
        kept = {
            number: signal.signal(number, lambda received, _frame: process.send_signal(received))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            with process:
                while chunk := process.stdout.read1(65536):  # type: ignore[union-attr]
                    log.write(chunk)
                    log.flush()
                    sys.stdout.buffer.write(chunk)
                    sys.stdout.flush()
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
    return shell_code(process.returncode)
