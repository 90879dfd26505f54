"""What the four launchers in test/ do: train, evaluate, write the figures.

Arguments are in args.py, child processes in jobs.py, the figures in report.py. File names and printed lines
are those of an Ascend ModelZoo model folder, so that a harness made for one can read ours. Training is
`scrfd train`, evaluation `scrfd test`; both run as child processes whose output goes to the
screen and a log.
"""

import os
import sys
import time
from pathlib import Path

from mmdet.errors import ConfigError
from mmdet.launch import jobs
from mmdet.launch.args import Job
from mmdet.launch.report import NETWORK, Case, read_metrics, write_figures


def launch(job: Job) -> int:
    """Run a Job; return 0, or the exit code of the child that failed."""
    # Imported here: --help and argument errors must not wait for it.
    from mmdet.config import load_config

    started = time.perf_counter()
    config = load_config(str(job.config), job.options)
    case = Case(job.num_ranks * job.nodes.count, config.data.samples_per_gpu, job.is_full)
    work_dir = job.work_dir or job.output_dir / case.name
    eval_dir = work_dir / "eval"
    for folder in (job.output_dir, work_dir):
        _make_folder(folder)
    print(f"{NETWORK}: {case.name}, device id {job.device_id}, output in {job.output_dir}", flush=True)
    env = jobs.child_env(os.environ, job.device_id if job.num_ranks == 1 else None)
    steps = [("train", command_to_train(job, work_dir))]
    if job.is_full and job.nodes.rank == 0:
        steps.append(("eval", command_to_evaluate(job, work_dir, eval_dir)))
    for name, command in steps:
        machine = f"_machine{job.nodes.rank}" if job.nodes.rank else ""
        log_file = job.output_dir / f"{name}_{job.device_id}{machine}.log"
        code = jobs.run_logged(command, log_file, env)
        if code:
            print(f"{name} ended with exit code {code}; log: {log_file}", file=sys.stderr, flush=True)
            return code
    if job.nodes.rank:
        print(f"machine {job.nodes.rank} of {job.nodes.count} is done; machine 0 has the figures", flush=True)
        return 0
    eval_metrics = read_metrics(eval_dir) if job.is_full else {}
    write_figures(
        case, job.output_dir, work_dir, read_metrics(work_dir), eval_metrics, time.perf_counter() - started
    )
    return 0


def command_to_train(job: Job, work_dir: Path) -> list[str]:
    """Return the command that trains."""
    return jobs.train_command(
        job.config,
        work_dir,
        num_ranks=job.num_ranks,
        nodes=job.nodes,
        device=job.device,
        train_args=job.train_args,
        options=job.options,
    )


def command_to_evaluate(job: Job, work_dir: Path, eval_dir: Path) -> list[str]:
    """Return the command that evaluates the last checkpoint."""
    checkpoint = work_dir / "latest.pth"
    return jobs.eval_command(job.config, checkpoint, eval_dir, device=job.device, options=job.options)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {path}: {error.strerror}; choose another --work_dir") from error
