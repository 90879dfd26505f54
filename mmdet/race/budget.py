"""How many epochs an entry may train: its iterations are timed first, in processor seconds."""

import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mmdet.config import load_config
from mmdet.datasets.build import build_dataset
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.errors import ConfigError

TRIAL_ITERS = (4, 48)  # of two short trainings, whose difference is the cost of an iteration


def children_cpu_s() -> float:
    """Return the processor seconds of all ended child processes and of theirs, since this process started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def count_epoch(config: str, options: list[str]) -> tuple[int, int]:
    """Return iterations and images of an epoch of a config."""
    cfg = load_config(config, options)
    dataset = build_dataset(cfg.data.train)
    iters = GroupBatchSampler(dataset.group_flags, cfg.data.samples_per_gpu).iters_per_epoch
    return iters, iters * cfg.data.samples_per_gpu


def epochs_for_cpu(budget_s: float, iters_per_epoch: int, train: Callable[[Path, int], float]) -> float:
    """Return the epochs that cost `budget_s`, starting the program included.

    Args:
        budget_s: processor seconds.
        iters_per_epoch: of the entry.
        train: (folder, iterations) -> processor seconds of a training.

    Raises:
        ConfigError: the budget is not enough for as many iterations as were timed.
    """
    few, many = TRIAL_ITERS
    folder = Path(tempfile.mkdtemp(prefix="race-"))
    try:
        short, long = (train(folder / str(iters), iters) for iters in TRIAL_ITERS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    per_iter = max(long - short, 1e-6) / (many - few)
    iters = (budget_s - short) / per_iter + few
    if iters < many:
        raise ConfigError(
            f"budget_cpu_s = {budget_s:g}: {many} iterations cost {long:.0f} s already, {per_iter:.2f} s each"
        )
    return round(iters / iters_per_epoch, 3)
