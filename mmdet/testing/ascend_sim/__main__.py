"""Run a command on simulated Ascend cards: python -m mmdet.testing.ascend_sim --devices 8 -- COMMAND ..."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from mmdet.cli import add_shared, run_cli
from mmdet.errors import ConfigError, unknown_name
from mmdet.testing.ascend_sim.build import SOC, build

HERE = Path(__file__).resolve().parent


def simulated_environment(
    libraries: Path, devices: int, memory_mib: int, chip: str, is_strict: bool
) -> dict[str, str]:
    """Return the environment variables under which a process sees simulated cards."""

    def prepend(name: str, *folders: Path) -> str:
        return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get(name)])])

    return {
        "LD_LIBRARY_PATH": prepend("LD_LIBRARY_PATH", libraries),
        "PYTHONPATH": prepend("PYTHONPATH", HERE / "inject", HERE.parents[2]),
        "ASCEND_SIM_DEVICES": str(devices),
        "ASCEND_SIM_MEMORY_MIB": str(memory_mib),
        "ASCEND_SIM_SOC": SOC[chip],
        "ASCEND_SIM_CHIP": chip,
        "ASCEND_SIM_STRICT": "1" if is_strict else "0",
        "TASK_QUEUE_ENABLE": "0",  # work is done when it is submitted; a second thread would only race
    }


def main() -> int:
    """Build the libraries, set the environment and become the command."""
    parser = argparse.ArgumentParser(prog="python -m mmdet.testing.ascend_sim", description=__doc__)
    parser.add_argument("--devices", type=int, default=8, help="cards of this host (default: 8)")
    parser.add_argument("--memory-mib", type=int, default=65536, help="memory of each card (default: 65536)")
    add_shared(
        parser,
        "--chip",
        help="910A and 310P saturate, convolve and sort fp32 in fp16, lack bfloat16 (default: 910B)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="a kernel that copies to the host inside is an error"
    )
    parser.add_argument(
        "--print-env", action="store_true", help="print the environment as shell exports and stop"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command to run")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if args.chip not in SOC:
        raise ConfigError(unknown_name("chip", args.chip, SOC))
    extra = simulated_environment(build(), args.devices, args.memory_mib, args.chip, args.strict)
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
