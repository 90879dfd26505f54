"""What tools/collect_report.py gathers about a machine and a finished run."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

PACKAGES = (
    "torch",
    "torch-npu",
    "numpy",
    "opencv-python-headless",
    "scipy",
    "mmengine",
    "apex",
    "scrfd-trainer",
)
SETTINGS = re.compile(
    r"(ASCEND|HCCL|NPU|CANN|TASK_QUEUE|COMBINED|CPU_AFFINITY|INF_NAN|PYTORCH|OMP_|CUDA_VISIBLE|NCCL)"
)
VERSION_FILES = (
    "/etc/Ascend/ascend_cann_install.info",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/firmware/version.info",
)
NUM_LINES = 50  # of the JSON log, from its start and its end


def collect_system() -> dict:
    """Return versions of Python, packages, CANN and driver, the cards, and the settings that matter."""
    home = os.environ.get("ASCEND_HOME_PATH") or "/usr/local/Ascend/ascend-toolkit/latest"
    files = [*VERSION_FILES, f"{home}/version.cfg", f"{home}/opp/version.info"]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "version_files": {name: text for name in files if (text := _read(Path(name)))},
        "cards": _output("npu-smi", "info") or _output("nvidia-smi", "-L"),
        "environment": {k: v for k, v in sorted(os.environ.items()) if SETTINGS.search(k)},
        "is_simulated": "ASCEND_SIM_DEVICES" in os.environ,
    }


def collect_run(folder: Path) -> dict:
    """Return figures, configuration and both ends of the log of one run."""
    logs = sorted(folder.glob("*.log.json"), key=lambda path: path.stat().st_mtime)
    lines = logs[-1].read_text(encoding="utf-8").splitlines() if logs else []
    configs = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    return {
        "name": folder.resolve().name,
        "metrics": json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        "config": configs,
        "log_start": lines[:NUM_LINES],
        "log_end": lines[NUM_LINES:][-NUM_LINES:],
        "num_log_lines": len(lines),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        return None


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return (done.stdout or done.stderr)[:8000]
