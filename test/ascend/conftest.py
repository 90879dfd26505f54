"""Run probe scripts on simulated cards, with whichever Python has torch_npu.

That is the current interpreter, or the one $ASCEND_SIM_PYTHON names; without either these tests are
skipped. Every probe is a process of its own, because torch_npu cannot be unloaded.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmdet.launch.jobs import free_port

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
            launch += ["--master_port", str(free_port())]
        done = self.run(self.python, *launch, str(PROBES / f"{name}.py"), *args, **kwargs)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(done.stdout.strip().splitlines()[-1]) | {"stderr": done.stderr}

    @staticmethod
    def wait_for(is_done: Callable[[], bool], process: subprocess.Popen, timeout_s: float) -> None:
        """Wait until something holds that a running process brings about."""
        deadline = time.monotonic() + timeout_s
        while not is_done():
            assert process.poll() is None, process.stdout.read()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture(scope="session")
def simulator(npu_python: str) -> Simulator:
    """Return a way to start commands on simulated cards."""
    return Simulator(npu_python)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, npu_python: str) -> Path:
    """Return a folder of 32 drawn images to train on, 4 to test, and a CANN that can be sourced."""
    folder = tmp_path_factory.mktemp("toy")
    command = [sys.executable, "tools/make_toy_faces.py", "--out", str(folder), "--train", "32", "--val", "4"]
    subprocess.run([*command, "--size", "96", "128"], cwd=REPO, check=True, capture_output=True)
    cann = folder / "cann" / "ascend-toolkit" / "set_env.sh"  # lets test/env_npu.sh do what it does on a card
    cann.parent.mkdir(parents=True)
    cann.write_text("echo CANN is sourced\n")
    return folder
