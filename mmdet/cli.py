"""What the command-line tools share: how they end, and every option that more than one of them has.

A shared option is declared once, in OPTIONS; a tool adds it by name and changes only what differs:

    parser = make_parser(__doc__)
    add_config(parser)
    add_shared(parser, "--cfg-options")
    add_shared(parser, "--device", default="cpu")
"""

import argparse
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.config.find import find_config
from mmdet.config.literals import SAFE
from mmdet.config.values import PRECISION_LEVELS
from mmdet.errors import MMDetError
from mmdet.process import let_threads_sleep


class _Safe(argparse.Action):
    """Sets a variable of the environment, so that every process of the tool reads its configs so."""

    def __call__(self, *_: object) -> None:
        """Set it."""
        os.environ[SAFE] = "1"


BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended

OWN_PACKAGES = ("mmdet", "benchmark")

OPTIONS: dict[str, dict[str, Any]] = {
    "--amp": dict(choices=PRECISION_LEVELS, help="precision (default: the config's amp.level)"),
    "--batch": dict(type=int, default=32, metavar="N", help="images (default: %(default)s)"),
    "--batch-size": dict(type=int, metavar="N", help="images per step (default: %(default)s)"),
    "--chip": dict(default="910B", metavar="C", help="910A, 910B (A2, A3) or 310P (default: 910B)"),
    "--cfg-options": dict(
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="config changes, for example optimizer.lr=0.02 data.train.pipeline.2.crop_choice=[0.5,1]; "
        "given twice, both count",
    ),
    "--config": dict(metavar="FILE", type=find_config, help="config of the model (default: %(default)s)"),
    "--data-root": dict(
        metavar="DIR", help="folder with train/ and val/, short for --cfg-options data_root=DIR"
    ),
    "--device": dict(default="auto", help="auto, npu, cuda or cpu (default: %(default)s)"),
    "--epochs": dict(type=int, metavar="N", help="epochs of the training (default: the config's)"),
    "--faces": dict(type=int, metavar="N", help="faces per image (default: %(default)s)"),
    "--images": dict(type=int, metavar="N", help="number of images (default: %(default)s)"),
    "--input-size": dict(
        type=int,
        nargs=2,
        metavar=("W", "H"),
        help="images are fitted into it (default: the model's own size, or 640 640)",
    ),
    "--json": dict(metavar="FILE", help="also write the figures there"),
    "--max-frames": dict(
        type=int, default=0, metavar="N", help="stop after N frames of a video or camera (0: all)"
    ),
    "--overwrite": dict(action="store_true", help="replace existing files; without it they are a refusal"),
    "--provider": dict(default="auto", metavar="P", help="auto, cpu, or an accelerator's (default: auto)"),
    "--rounds": dict(type=int, default=5, metavar="N", help="alternating repetitions (default: %(default)s)"),
    "--safe": dict(
        action=_Safe,
        nargs=0,
        default=argparse.SUPPRESS,
        help="execute no config file: read literals, refuse anything computed; for files of strangers",
    ),
    "--score-thr": dict(type=float, default=0.5, metavar="T", help="lowest score (default: %(default)s)"),
    "--seed": dict(type=int, default=0, metavar="N", help="random seed (default: %(default)s)"),
    "--size": dict(
        type=int, default=640, metavar="PX", help="height and width of the images (default: %(default)s)"
    ),
    "--thr": dict(type=float, default=0.5, metavar="T", help="lowest score (default: %(default)s)"),
    "--threads": dict(type=int, default=2, metavar="N", help="threads of torch (default: %(default)s)"),
    "--val-split": dict(
        type=float,
        metavar="SHARE",
        help="validate on this share of the training images, chosen by a hash of their names, and train on "
        "the others; short for --cfg-options data.val_split=SHARE",
    ),
    "--workers": dict(type=int, default=2, metavar="N", help="worker processes (default: %(default)s)"),
}


def make_parser(description: str | None, allow_abbrev: bool = True) -> argparse.ArgumentParser:
    """Return a parser that prints a module's docstring as it is."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=allow_abbrev,
    )


def add_config(parser: argparse.ArgumentParser, about: str = "", nargs: str | None = None) -> None:
    """Add the positional argument `config`; `about` is added to its help, nargs "+" takes several."""
    example = "config file, yours or one that comes with this package: configs/scrfd/scrfd_2.5g.py"
    parser.add_argument("config", type=find_config, nargs=nargs, help=example + about)
    add_shared(parser, "--safe")


def add_shared(parser: argparse._ActionsContainer, name: str, *aliases: str, **changes: Any) -> None:
    """Add an option of OPTIONS; `changes` are arguments of add_argument that differ for this tool."""
    parser.add_argument(name, *aliases, **{**OPTIONS[name], **changes})


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argparse type: an int that is not below `minimum`."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value}: expected {minimum} or more")
        return value

    return whole_number


def epochs(text: str) -> float:
    """Return a number of epochs above 0; a whole one as an int."""
    value = float(text)
    if not 0 < value <= 10**6:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of epochs above 0")
    return int(value) if value == int(value) else value


def seconds(text: str) -> float:
    """Return a time of an option: finite and not below 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, 0 or more")
    return value


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a tool's `main` and exit; an MMDetError becomes one line on stderr and its exit code.

    Output that nobody reads any more ends the tool quietly.
    `main` imports torch, not the tool's module: with torch-npu installed and CANN absent, `import torch`
    itself fails unless its autoload is off, and OpenMP must be told before torch loads that its threads are
    to sleep. mmdet/device.py imports torch_npu when it is needed.
    """
    let_threads_sleep()
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    try:
        code = main()
        sys.stdout.flush()
    except MMDetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OWN_PACKAGES:
            raise
        print(
            f"{error.name} is not installed; `scrfd doctor` says how to get what is missing", file=sys.stderr
        )
        code = 2
    except BrokenPipeError:  # the reader of our output, `head` for example, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        code = BROKEN_PIPE
    except OSError as error:  # of the machine and foreseen nowhere: no file handles left, ...
        print(f"{type(error).__name__}: {error} ({_place_of(error)})", file=sys.stderr, flush=True)
        code = 2
    sys.exit(code or 0)


def _place_of(error: BaseException) -> str:
    """Return "in loader.py:41", the last line of this package that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if "mmdet" in Path(frame.filename).parts] or frames
    return f"in {Path(mine[-1].filename).name}:{mine[-1].lineno}"
