"""Take times fairly: alternate what is compared, use medians, count processor time beside the clock."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmdet.device import synchronize

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds.

    Attributes:
        wall_s: by the clock.
        cpu_s: processor time of all threads of this process; another program on the machine does not
            count, so the ratio of two of them holds on a busy machine, too.
    """

    wall_s: float
    cpu_s: float


def alternate(
    works: Mapping[str, Work], *, rounds: int = 5, warmup: int = 1, device: torch.device | None = None
) -> dict[str, Timing]:
    """Return the median time of each work; every round runs each once, in order.

    Args:
        works: name -> function without arguments.
        rounds: at least 5 for a figure to quote.
        warmup: rounds that do not count.
        device: waited for before and after each run.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(warmup + rounds):
        for name, work in works.items():
            taken = _time(work, device)
            if number >= warmup:
                times[name].append(taken)
    return {
        name: Timing(*(statistics.median(column) for column in zip(*rows, strict=True)))
        for name, rows in times.items()
    }


def _time(work: Work, device: torch.device | None) -> tuple[float, float]:
    device = device or torch.device("cpu")
    synchronize(device)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def peak_tensor_mib(work: Work) -> float:
    """Return the most memory that tensors made by `work` (and not yet freed) took at once, on the CPU.

    Counted from the allocator's events, so temporaries inside an operator are in it; what existed before
    is not.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak / 2**20


def ratio(baseline: Timing, product: Timing) -> dict[str, float]:
    """Return how many times faster the product is, by clock and by processor time."""
    return {"wall": baseline.wall_s / product.wall_s, "cpu": baseline.cpu_s / product.cpu_s}


def machine() -> dict[str, Any]:
    """Return what a figure depends on."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load": Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")


def report(figures: Mapping[str, Any], name: str, path: str | None = None) -> None:
    """Print the figures as one line of JSON per entry, and write them to `path`."""
    record = {"benchmark": name, **machine(), **figures}
    for key, value in record.items():
        print(f"{key}: {json.dumps(_short(value))}")
    if path:
        Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _short(value: Any) -> Any:
    """Round numbers to four digits for reading."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
