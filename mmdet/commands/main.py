"""`scrfd COMMAND ...`: everything this project does, under one name; `python -m mmdet` is the same."""

import importlib
import sys
from collections.abc import Sequence

from mmdet import __version__
from mmdet.cli import run_cli
from mmdet.errors import ConfigError, unknown_name

# name: (module of this package with main(), what it does)
COMMANDS = {
    "train": ("train", "train a detector"),
    "test": ("test_widerface", "average precision of a checkpoint"),
    "export": ("scrfd2onnx", "checkpoint to ONNX"),
    "quantize": ("quantize", "ONNX to int8, with images to calibrate"),
    "detect": ("scrfd", "faces in images, folders, films and cameras, with an ONNX model; no torch"),
    "web": ("web_demo", "a page that shows the faces of an image dropped on it"),
    "image": ("image_demo", "draw the faces of one image, from a checkpoint"),
    "camera": ("webcam_demo", "draw the faces a camera sees"),
    "check": ("check_dataset", "everything wrong with a data set, in one pass"),
    "browse": ("browse_dataset", "augmented training images as files"),
    "convert labels": ("convert_labels", "face labels between ten formats"),
    "convert weights": ("convert_weights", "checkpoints of other projects and ONNX files, in and out"),
    "publish": ("publish_model", "a checkpoint without its optimizer, named by its hash"),
    "race": ("race", "recipes and other programs against each other at equal cost"),
    "search": ("search", "train and rank the candidates of an architecture search"),
    "search configs": ("generate_configs", "draw config files of a budget"),
    "search ddsar": ("ddsar_search", "search a DamoFD backbone by its zero-cost score"),
    "retinaface": ("retinaface", "faces of a folder as ternaus/retinaface writes them"),
    "config": ("print_config", "a config with all its bases; --help-keys lists every key"),
    "flops": ("get_flops", "parameters and FLOPs of a config"),
    "toy": ("make_toy_faces", "draw a toy data set"),
    "ground-truth": ("make_wider_gt", "the .mat files of the WIDER protocol for own labels"),
    "audit": ("npu_audit", "where an Ascend chip computes each operator of a step"),
    "report card": ("card_report", "measure a card in five minutes"),
    "report runs": ("collect_report", "gather a run's versions, figures and log into one file"),
    "report compare": ("compare_runs", "loss curve and accuracy of a run on a card beside another"),
    "doctor": ("doctor", "what is installed, which devices there are, what is missing and how to get it"),
}


def main() -> None:
    """Run the command that the arguments name and exit."""
    run_cli(lambda: run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int | None:
    """Run a command; its own arguments follow its one or two words.

    Raises:
        ConfigError: there is no such command.
    """
    words = list(argv) or ["--help"]
    if words[0] in ("-h", "--help"):
        print("\n".join(help_lines("")))
        return 0 if argv else 2
    if words[0] in ("-V", "--version"):
        print(f"scrfd-trainer {__version__}")
        return 0
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    if name not in COMMANDS:
        group = help_lines(name + " ")
        if not group:
            raise ConfigError(unknown_name("command", name, COMMANDS))
        print("\n".join(group))
        return 0 if words[1:2] in (["-h"], ["--help"]) else 2
    sys.argv = [f"scrfd {name}", *words[len(name.split()) :]]
    return importlib.import_module(f"mmdet.commands.{COMMANDS[name][0]}").main()


def help_lines(prefix: str) -> list[str]:
    """Return the help of the commands whose name begins with `prefix`; [] if there are none."""
    rows = [f"  {name:17}{about}" for name, (_, about) in COMMANDS.items() if name.startswith(prefix)]
    if not rows:
        return []
    return [f"usage: scrfd {prefix}COMMAND ...   (scrfd COMMAND --help, scrfd --version)", "", *rows]
