"""Arguments of the four launchers in test/: named as in the Ascend ModelZoo, checked before any work."""

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdet.cli import add_shared, at_least
from mmdet.errors import ConfigError, DataError
from mmdet.launch.jobs import REPO, Nodes, read_nodes

GT_FILES = tuple(f"wider_{name}_val.mat" for name in ("face", "easy", "medium", "hard"))
AMP_LEVELS = {
    "must_keep_origin_dtype": "O0",
    "allow_mix_precision": "O1",
    "allow_fp32_to_fp16": "O2",
    "force_fp16": "O2",
}


@dataclass(frozen=True)
class Job:
    """One run of a launcher. Paths are absolute.

    Attributes:
        is_full: train the whole schedule and evaluate; otherwise measure speed only.
        num_ranks: processes on this machine, one per device.
        nodes: the machines.
        output_dir: logs and figures, test/output/<device_id>.
        options: --cfg-options shared by training and evaluation.
        train_args: further arguments of tools/train.py.
    """

    is_full: bool
    num_ranks: int
    config: Path
    device: str
    device_id: int
    output_dir: Path
    work_dir: Path | None
    options: tuple[str, ...]
    train_args: tuple[str, ...]
    nodes: Nodes = Nodes()


def parse_args(argv: Sequence[str]) -> Job:
    """Turn a launcher's arguments into a Job; exit with code 2 on an unknown or malformed one.

    Raises:
        ConfigError: --data_path or a file is missing; DataError: the data folder is incomplete.
    """
    parser = _make_parser(os.environ.get("LAUNCHER_NAME", "launch.py"))
    args = parser.parse_args(argv)
    if not args.data_path:
        print('[Error] para "data_path" must be confing', flush=True)
        raise ConfigError("--data_path is missing; pass the folder that holds train/ and val/ (docs/data.md)")
    is_full = args.mode == "full"
    data_path = Path(args.data_path).expanduser().resolve()
    check_data(data_path, with_val=is_full and "data.val_split=" not in args.cfg_options)
    output_root = Path(os.environ.get("LAUNCHER_OUTPUT") or REPO / "test/output").resolve()
    return Job(
        is_full=is_full,
        num_ranks=args.ranks,
        config=_file(args.config or f"configs/scrfd/scrfd_10g{'_8p' if args.ranks > 1 else ''}.py"),
        device=args.device,
        device_id=args.device_id,
        output_dir=output_root / str(args.device_id),
        work_dir=Path(args.work_dir).expanduser().resolve() if args.work_dir else None,
        options=(f"data_root={data_path}", *_config_options(args), *shlex.split(args.cfg_options)),
        train_args=tuple(_train_args(args)),
        nodes=read_nodes(os.environ),
    )


def _config_options(args: argparse.Namespace) -> list[str]:
    values = {
        "data.samples_per_gpu": args.batch_size,
        "total_epochs": args.epochs,
        "optimizer.lr": args.learning_rate,
        "amp.level": AMP_LEVELS.get(args.precision_mode),
    }
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def _train_args(args: argparse.Namespace) -> list[str]:
    resume = args.resume_from
    values = {
        "--seed": args.seed,
        "--resume-from": _file(resume) if resume and resume != "auto" else resume,
        "--load-from": args.load_from and _file(args.load_from),
        "--max-iters": args.max_iters,
    }
    pairs = [(name, str(value)) for name, value in values.items() if value is not None]
    flags = {"--perf": args.mode == "performance", "--profiling": args.profiling}
    return [part for pair in pairs for part in pair] + [name for name, is_on in flags.items() if is_on]


def _make_parser(prog: str) -> argparse.ArgumentParser:
    description = "Train SCRFD and report images per second and, after a full run, AP."
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--mode", choices=("full", "performance"), default="full", help=argparse.SUPPRESS)
    add("--ranks", type=at_least(1), default=1, help=argparse.SUPPRESS)
    add("--data_path", help="folder with train/ and val/ (images/, labelv2.txt; val/gt/*.mat)")
    add_shared(
        parser, "--config", help="model config (default: configs/scrfd/scrfd_10g.py; 8p: scrfd_10g_8p.py)"
    )
    add("--batch_size", type=at_least(1), help="images per device (default: the config's)")
    add_shared(parser, "--epochs", "--train_epochs", type=at_least(1))
    add("--learning_rate", type=float, help="learning rate (default: the config's)")
    levels = ", ".join(f"{mode} = {level}" for mode, level in AMP_LEVELS.items())
    add(
        "--precision_mode",
        choices=tuple(AMP_LEVELS),
        metavar="MODE",
        help=f"{levels} (default: the config's)",
    )
    add_shared(parser, "--safe")
    add_shared(parser, "--device")
    id_help = "index of the device, names the output folder (default: $ASCEND_DEVICE_ID or 0)"
    add("--device_id", type=int, default=os.environ.get("ASCEND_DEVICE_ID") or 0, help=id_help)
    add_shared(parser, "--seed")
    add("--work_dir", help="checkpoints and metrics (default: <output folder>/<case name>)")
    add("--resume_from", help="checkpoint to continue, or auto: the newest of work_dir")
    add("--load_from", help="weights to start from")
    add(
        "--profiling",
        type=_profiling,
        nargs="?",
        const=True,
        default=False,
        metavar="True|False",
        help="write a trace of steps 10 to 15 to <work_dir>/profile; GE and CANN mean True (default: False)",
    )
    add("--max_iters", type=at_least(1), help="stop after so many iterations")
    add("--cfg_options", default="", help='more config changes: "optimizer.lr=0.02 log_config.interval=10"')
    return parser


def _profiling(text: str) -> bool:
    """Read True or False; the Ascend scripts also say which profiler: ours records all there is."""
    meanings = {"true": True, "1": True, "ge": True, "cann": True, "false": False, "0": False, "none": False}
    if text.lower() not in meanings:
        raise argparse.ArgumentTypeError(f"{text!r} is none of True, False, GE, CANN")
    return meanings[text.lower()]


def _file(name: str) -> Path:
    """Return the absolute path of a file given relative to the caller's folder or to the repository."""
    for path in (Path(name).expanduser(), REPO / name):
        if path.is_file():
            return path.resolve()
    raise ConfigError(f"no file {name!r} in {Path.cwd()} or {REPO}")


def check_data(data_path: Path, with_val: bool) -> None:
    """Raise DataError naming every file and folder the data set lacks."""
    if not data_path.is_dir():
        raise DataError(f"--data_path: {data_path} is not a folder")
    wanted = ["train/images/", "train/labelv2.txt"]
    if with_val:
        wanted += ["val/images/", "val/labelv2.txt"]
        if (data_path / "val/gt").exists():  # without it, evaluation makes the same of the labels
            wanted += [f"val/gt/{name}" for name in GT_FILES]
    missing = [name for name in wanted if not _exists(data_path, name)]
    if missing:
        raise DataError(f"--data_path: {data_path} lacks {', '.join(missing)}; docs/data.md shows the layout")


def _exists(root: Path, name: str) -> bool:
    return (root / name).is_dir() if name.endswith("/") else (root / name).is_file()
