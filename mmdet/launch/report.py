"""The figures a launcher leaves: the final block on the screen and `${CaseName}.log`.

Both are read by machines; names, order and spacing are those of the Ascend ModelZoo folders.
"""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmdet.errors import TrainError

NETWORK = "SCRFD_for_PyTorch"


@dataclass(frozen=True)
class Case:
    """What was run. `batch_size` is images per rank."""

    num_ranks: int
    batch_size: int
    is_full: bool

    @property
    def name(self) -> str:
        """The ModelZoo's CaseName, for example SCRFD_for_PyTorch_bs32_8p_acc."""
        return f"{NETWORK}_bs{self.batch_size}_{self.num_ranks}p_{'acc' if self.is_full else 'perf'}"


def read_metrics(folder: Path) -> dict:
    """Return folder/metrics.json; TrainError if training or evaluation left none."""
    path = folder / "metrics.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"no figures: {path}: {error}") from error


def read_losses(work_dir: Path) -> list[float]:
    """Return the total loss of every log line of a run, from its newest JSON-lines log."""
    logs = sorted(work_dir.glob("*.log.json"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return []
    lines = (json.loads(line) for line in logs[-1].read_text(encoding="utf-8").splitlines() if line.strip())
    return [line["loss"] for line in lines if line.get("mode") == "train" and line.get("loss") is not None]


def format_aps(metrics: Mapping[str, float | None]) -> str:
    """Return "[easy, medium, hard]", four decimals; nan where the ground truth has no such face."""
    aps = [metrics[f"AP_{name}"] for name in ("easy", "medium", "hard")]
    return str([math.nan if ap is None else round(ap, 4) for ap in aps])


def final_block(fps: float, accuracy: str | None, e2e_time_s: float) -> str:
    """Return the block a launcher ends with; accuracy is None in a performance run."""
    lines = [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {fps:.2f}",
    ]
    if accuracy is not None:
        lines.append(f"Final Train Accuracy : {accuracy}")
    return "\n".join([*lines, f"E2E Training Duration sec : {e2e_time_s:.0f}"])


def case_log(case: Case, fps: float, loss: float, accuracy: str | None, e2e_time_s: float) -> str:
    """Return the text of ${CaseName}.log: one `Key = value` per line."""
    values = {
        "Network": NETWORK,
        "RankSize": case.num_ranks,
        "BatchSize": case.batch_size,
        "DeviceType": platform.machine(),
        "CaseName": case.name,
        "ActualFPS": f"{fps:.2f}",
        "TrainingTime": f"{case.batch_size * case.num_ranks / fps:.6f}",  # seconds per iteration
    }
    if accuracy is not None:
        values["TrainAccuracy"] = accuracy
    values["ActualLoss"] = f"{loss:.4f}"
    values["E2ETrainingTime"] = f"{e2e_time_s:.0f}"
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def write_figures(
    case: Case,
    output_dir: Path,
    work_dir: Path,
    train_metrics: Mapping[str, float],
    eval_metrics: Mapping[str, float | None],
    e2e_time_s: float,
) -> None:
    """Print the final block; write ${CaseName}.log and train_${CaseName}_loss.txt into output_dir."""
    fps = train_metrics.get("fps") or math.nan
    accuracy = format_aps(eval_metrics) if case.is_full else None
    losses = read_losses(work_dir)
    loss = losses[-1] if losses else train_metrics.get("loss") or math.nan
    loss_text = "".join(f"{value:.4f}\n" for value in losses)
    log_text = case_log(case, fps, loss, accuracy, e2e_time_s)
    (output_dir / f"train_{case.name}_loss.txt").write_text(loss_text, encoding="utf-8")
    (output_dir / f"{case.name}.log").write_text(log_text, encoding="utf-8")
    print(final_block(fps, accuracy, e2e_time_s), flush=True)
