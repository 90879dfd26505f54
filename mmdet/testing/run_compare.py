"""Compare two runs of one recipe on two devices: the curves of their losses and their accuracy."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmdet.errors import ConfigError
from mmdet.launch.report import read_metrics

NUM_PARTS = 10  # of the common length; a curve is compared by its mean in each


@dataclass(frozen=True)
class Tolerance:
    """What counts as equal: rounding differs from step to step, so means are compared, not steps.

    Attributes:
        loss: largest relative difference of the mean loss in a tenth of the run.
        accuracy: largest difference of an AP, of 1.
    """

    loss: float = 0.02
    accuracy: float = 0.005


def read_curve(work_dir: Path) -> dict[tuple[int, int], float]:
    """Return the total loss by (epoch, iter), over all logs of a run; a later line replaces an earlier one.

    Raises:
        ConfigError: the folder holds no log line with a loss.
    """
    lines = [line for path in sorted(work_dir.glob("*.log.json")) for line in path.read_text().splitlines()]
    records = [json.loads(line) for line in lines if line.strip()]
    curve = {
        (r["epoch"], r["iter"]): r["loss"] for r in records if r.get("mode") == "train" and r.get("loss")
    }
    if not curve:
        raise ConfigError(f"{work_dir}: no *.log.json with a loss; give the work_dir of a training")
    return dict(sorted(curve.items()))


def compare_runs(first: Path, second: Path, allowed: Tolerance) -> Iterator[tuple[str, bool]]:
    """Yield a line per figure, and whether it is within the tolerance.

    Args:
        first: work_dir of the run on the card; with eval/metrics.json its accuracy is compared, too.
        second: work_dir of the run it is measured by.
        allowed: differences.

    Raises:
        ConfigError: a folder without log, or runs without a common iteration.
    """
    curves = read_curve(first), read_curve(second)
    common = [step for step in curves[0] if step in curves[1]]
    if not common:
        raise ConfigError(
            f"{first} and {second} have no iteration in common: log_config.interval must be the same"
        )
    num = min(NUM_PARTS, len(common))
    for part in range(num):
        steps = common[part * len(common) // num : (part + 1) * len(common) // num]
        a, b = (sum(curve[step] for step in steps) / len(steps) for curve in curves)
        span = f"epoch {steps[0][0]} iter {steps[0][1]} to epoch {steps[-1][0]} iter {steps[-1][1]}"
        difference = abs(a - b) / abs(b)
        yield f"loss {span}: {a:.5f} {b:.5f} differ by {difference:.2%}", difference <= allowed.loss
    folders = [folder / "eval" for folder in (first, second)]
    if not all((folder / "metrics.json").is_file() for folder in folders):
        yield "accuracy: not compared, eval/metrics.json is missing", True
        return
    metrics = [read_metrics(folder) for folder in folders]
    for name in sorted(key for key in metrics[0] if key.startswith("AP_") and key in metrics[1]):
        a, b = (values[name] for values in metrics)
        if a is not None and b is not None:
            yield f"{name}: {a:.4f} {b:.4f} differ by {abs(a - b):.4f}", abs(a - b) <= allowed.accuracy
