"""What the four launchers in test/ do: train, evaluate, write the figures.

Arguments are in launch_args.py, the figures in report.py. File names and printed lines are those of
an Ascend ModelZoo model folder, so that a harness made for one can read ours. Training itself is
tools/train.py, evaluation tools/test_widerface.py; both run as child processes whose output goes to
the screen and a log.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.errors import ConfigError
from mmdet.launch.args import REPO, Job
from mmdet.launch.report import NETWORK, Case, read_metrics, write_report

VISIBLE_CARDS = ("ASCEND_RT_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def launch(job: Job) -> int:
    """Run a Job; return 0, or the exit code of the child that failed."""
    # Imported here: --help and argument errors must not wait for it.
    from mmdet.config import load_config

    started = time.time()
    config = load_config(str(job.config), job.options)
    case = Case(job.num_ranks, config.data.samples_per_gpu, job.is_full)
    work_dir = job.work_dir or job.output_dir / case.name
    eval_dir = work_dir / "eval"
    for folder in (job.output_dir, work_dir):
        _make_folder(folder)
    print(f"{NETWORK}: {case.name}, device id {job.device_id}, output in {job.output_dir}", flush=True)
    env = child_env(job, os.environ)
    steps = [("train", train_command(job, work_dir))]
    if job.is_full:
        steps.append(("eval", eval_command(job, work_dir, eval_dir)))
    for name, command in steps:
        log_file = job.output_dir / f"{name}_{job.device_id}.log"
        code = run_logged(command, log_file, env)
        if code:
            print(f"{name} ended with exit code {code}; log: {log_file}", file=sys.stderr, flush=True)
            return code
    eval_metrics = read_metrics(eval_dir) if job.is_full else {}
    write_report(case, job.output_dir, work_dir, read_metrics(work_dir), eval_metrics, time.time() - started)
    return 0


def train_command(job: Job, work_dir: Path) -> list[str]:
    """Return the command that trains: plain Python for one rank, torchrun for more."""
    launcher = ["--launcher", "none"]
    command = [sys.executable]
    if job.num_ranks > 1:
        port = os.environ.get("MASTER_PORT") or free_port()
        command += ["-m", "torch.distributed.run", "--nproc_per_node", str(job.num_ranks)]
        command += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
        launcher = ["--launcher", "pytorch"]
    command += [str(REPO / "tools/train.py"), str(job.config), "--work-dir", str(work_dir)]
    command += ["--device", job.device, *launcher, *job.train_args]
    return [*command, "--cfg-options", *job.options]


def eval_command(job: Job, work_dir: Path, eval_dir: Path) -> list[str]:
    """Return the command that evaluates the last checkpoint on one device."""
    command = [
        sys.executable,
        str(REPO / "tools/test_widerface.py"),
        str(job.config),
        str(work_dir / "latest.pth"),
    ]
    command += ["--mode", "0", "--out", str(eval_dir), "--device", job.device]
    return [*command, "--cfg-options", *job.options]


def child_env(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of training and evaluation; one rank sees one card, the device_id-th.

    ASCEND_DEVICE_ID names a card of the machine. Where a variable lists visible cards and that card is
    among them it is chosen, otherwise the device_id-th of the list. An empty list stays empty.
    """
    # With torch-npu installed and CANN absent `import torch` fails unless autoload is off; device.py imports
    # torch_npu itself where it is needed.
    env = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", **environ, "PYTHONUNBUFFERED": "1"}
    if job.num_ranks > 1:
        return env
    for name in VISIBLE_CARDS:
        cards = [card.strip() for card in environ.get(name, str(job.device_id)).split(",") if card.strip()]
        if cards:
            env[name] = _choose_card(cards, job.device_id, name)
    return env


def _choose_card(cards: Sequence[str], device_id: int, variable: str) -> str:
    if str(device_id) in cards:
        return str(device_id)
    if not 0 <= device_id < len(cards):
        raise ConfigError(f"device id {device_id} is not among {variable}={','.join(cards)}")
    return cards[device_id]


def free_port() -> int:
    """Return a TCP port that is free on this machine now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_logged(command: Sequence[str], log_file: Path, env: Mapping[str, str]) -> int:
    """Run a command, output to the screen and to log_file; return its exit code.

    SIGTERM, SIGINT and SIGHUP are passed on once, so that training can save and end by itself.
    """
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, start_new_session=True
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
    code = process.returncode
    return code if code >= 0 else 128 - code


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {path}: {error.strerror}; choose another --work_dir") from error
