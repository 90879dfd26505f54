"""Run probe scripts on simulated cards, with whichever Python has torch_npu.

That is the current interpreter, or the one $ASCEND_SIM_PYTHON names; without either these tests are
skipped. Every probe is a process of its own, because torch_npu cannot be unloaded.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
PROBES = Path(__file__).parent / "probes"
NOT_INSTALLED = "torch-npu not installed: pip install -e .[npu-sim]"


@pytest.fixture(scope="session")
def npu_python() -> str:
    """Return a Python interpreter that has torch_npu; skip without one."""
    other = os.environ.get("ASCEND_SIM_PYTHON")
    if other is None and importlib.util.find_spec("torch_npu") is None:
        pytest.skip(NOT_INSTALLED)
    return other or sys.executable


class Simulator:
    """Starts commands on simulated cards."""

    def __init__(self, python: str) -> None:
        self.python = python

    def command(self, *command: str, devices: int = 2, options: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs `command` on simulated cards."""
        launcher = [self.python, "-m", "mmdet.testing.ascend_sim", "--devices", str(devices), *options]
        return [*launcher, "--", *map(str, command)]

    def environment(self, **env: str) -> dict[str, str]:
        """Return the variables such a command starts with."""
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("TORCH_DEVICE_BACKEND_AUTOLOAD", "RANK")
        }
        return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), **env}

    def run(
        self,
        *command: str,
        devices: int = 2,
        options: Sequence[str] = (),
        timeout_s: float = 900,
        cwd: Path = REPO,
        **env: str,
    ) -> subprocess.CompletedProcess:
        """Run a command to its end; stdout and stderr are text."""
        return subprocess.run(
            self.command(*command, devices=devices, options=options),
            env=self.environment(**env),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=cwd,
        )

    def probe(self, name: str, *args: str, ranks: int = 0, **kwargs: Any) -> dict[str, Any]:
        """Run probes/NAME.py and return the JSON object of its last line of output."""
        launch = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}"] if ranks else []
        if ranks:
            launch += ["--master_port", os.environ.get("ASCEND_TEST_PORT", "29713")]
        done = self.run(self.python, *launch, str(PROBES / f"{name}.py"), *args, **kwargs)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(done.stdout.strip().splitlines()[-1]) | {"stderr": done.stderr}


@pytest.fixture(scope="session")
def simulator(npu_python: str) -> Simulator:
    """Return a way to start commands on simulated cards."""
    return Simulator(npu_python)
