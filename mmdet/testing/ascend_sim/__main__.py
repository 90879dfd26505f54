"""Run a command on simulated Ascend cards: python -m mmdet.testing.ascend_sim --devices 8 -- COMMAND ..."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from mmdet.cli import run_cli
from mmdet.errors import ConfigError
from mmdet.testing.ascend_sim.build import build

HERE = Path(__file__).resolve().parent


def simulated_environment(
    libraries: Path, devices: int, memory_mib: int, soc: str, saturate: bool
) -> dict[str, str]:
    """Return the environment variables under which a process sees simulated cards."""

    def prepend(name: str, *folders: Path) -> str:
        return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get(name)])])

    return {
        "LD_LIBRARY_PATH": prepend("LD_LIBRARY_PATH", libraries),
        "PYTHONPATH": prepend("PYTHONPATH", HERE / "inject", HERE.parents[2]),
        "ASCEND_SIM_DEVICES": str(devices),
        "ASCEND_SIM_MEMORY_MIB": str(memory_mib),
        "ASCEND_SIM_SOC": soc,
        "ASCEND_SIM_SATURATE": "1" if saturate else "0",
        "TASK_QUEUE_ENABLE": "0",  # work is done when it is submitted; a second thread would only race
    }


def main() -> int:
    """Build the libraries, set the environment and become the command."""
    parser = argparse.ArgumentParser(prog="python -m mmdet.testing.ascend_sim", description=__doc__)
    parser.add_argument("--devices", type=int, default=8, help="cards of this host (default: 8)")
    parser.add_argument("--memory-mib", type=int, default=65536, help="memory of each card (default: 65536)")
    parser.add_argument(
        "--saturate", action="store_true", help="imitate a 910A, which saturates instead of giving Inf"
    )
    parser.add_argument(
        "--print-env", action="store_true", help="print the environment as shell exports and stop"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command to run")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    soc = "Ascend910A" if args.saturate else "Ascend910B1"
    extra = simulated_environment(build(), args.devices, args.memory_mib, soc, args.saturate)
    if args.print_env:
        print("\n".join(f"export {name}={value!r}" for name, value in extra.items()))
        return 0
    if not command or shutil.which(command[0]) is None:
        raise ConfigError(
            f"command {command[:1] or 'missing'}: give a program after --, for example -- python train.py"
        )
    sys.stdout.flush()
    os.execvpe(command[0], command, {**os.environ, **extra})


if __name__ == "__main__":
    run_cli(main)
