"""From the command line to the first iteration: help, imports, config, labels, model, loader, first step.

Without --data it writes a label file of --images entries with about as many faces as WIDER FACE, over a few
drawn JPEG files that symbolic links repeat.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdet.cli import add_config, add_shared
from mmdet.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
TRAIN = str(ROOT / "tools/train.py")
WIDER_IMAGES, FACES_PER_IMAGE = 12880, 12.4

# Runs in a fresh interpreter, with the same calls in the same order as tools/train.py.
STAGES = """
import json, sys, time
marks = [("", time.perf_counter())]
mark = lambda name: marks.append((name, time.perf_counter()))
sys.path.insert(0, sys.argv[1])
from mmdet.process import let_threads_sleep; let_threads_sleep()
import torch; mark("import_torch")
from mmdet.engine.run import run_training
from mmdet.engine.assemble import build_trainer
from mmdet.engine.options import TrainOptions
from mmdet.distributed import DistInfo
from mmdet.engine.logger import RunLog
mark("import_mmdet")
options = TrainOptions(config=sys.argv[2], work_dir=sys.argv[4], device=sys.argv[5], perf=True, max_iters=1,
                       cfg_options=["data_root=" + sys.argv[3]], validate=False)
log = RunLog(rank=0)
trainer = build_trainer(options, DistInfo(), log); mark("config_labels_model")
loader = trainer.make_loader(start_iter=0); mark("start_loader")
batch = trainer.step.load(next(loader)); mark("first_batch")
trainer.train_step(batch)["loss_cls"].item(); mark("first_step")
loader.close(); log.close()
print(json.dumps({name: end - start for (_, start), (name, end) in zip(marks, marks[1:])}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py startup`."""
    add = parser.add_argument
    add_config(parser)
    add("--data", metavar="DIR", help="data_root with train/labelv2.txt (default: one is drawn)")
    add_shared(parser, "--images", default=WIDER_IMAGES)
    add_shared(parser, "--device", default="cpu")
    add_shared(parser, "--rounds", default=3)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return seconds, medians over the rounds; every run is a new process."""
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or str(draw_data(Path(folder) / "data", args.images))
        config, work_dir = str(Path(args.config).resolve()), str(Path(folder) / "work")
        stages = (str(ROOT), config, data, work_dir, args.device)
        train = (config, "--data-root", data, "--work-dir", work_dir, "--device", args.device)
        rows = []
        for _ in range(args.rounds):
            help_s, _ = _run([TRAIN, "--help"])
            # The whole command: what it takes to end is in it, so the first iteration is earlier.
            train_s, _ = _run([TRAIN, *train, "--perf", "--max-iters", "1"])
            stages_s, output = _run(["-c", STAGES, *stages])
            parts = json.loads(output.splitlines()[-1])
            rows.append({"help_s": help_s, "train_one_iter_s": train_s, "to_first_step_s": stages_s, **parts})
        num_images = _count_images(data)
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    total = {key: medians.pop(key) for key in ("help_s", "train_one_iter_s", "to_first_step_s")}
    return {"num_images": num_images, **total, "stages_s": medians}


def draw_data(folder: Path, num_images: int, num_files: int = 200) -> Path:
    """Write train/labelv2.txt and train/images/ of a data set; return `folder`.

    Args:
        folder: made.
        num_images: entries of the label file.
        num_files: JPEG files behind them, 1024 px wide.
    """
    rng = np.random.RandomState(0)
    images = folder / "train/images/0--Drawn"
    images.mkdir(parents=True)
    files = []
    for number in range(min(num_files, num_images)):
        height = int(rng.randint(600, 1100))
        coarse = rng.randint(0, 256, (height // 8, 128, 3)).astype(np.uint8)
        files.append((folder / f"{number}.jpg", height))
        cv2.imwrite(str(files[-1][0]), cv2.resize(coarse, (1024, height)))
    lines = []
    for number in range(num_images):
        file, height = files[number % len(files)]
        (images / f"{number}.jpg").symlink_to(file.resolve())
        lines.append(f"# 0--Drawn/{number}.jpg 1024 {height}")
        for x, y, side in rng.randint((0, 0, 8), (900, 500, 100), (rng.geometric(1 / FACES_PER_IMAGE), 3)):
            points = " ".join(f"{x + side * a:.3f} {y + side * b:.3f} 0.0" for a, b in _POINTS)
            lines.append(f"{x} {y} {x + side} {y + side} {points}")
    (folder / "train/labelv2.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


_POINTS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


def _run(command: list[str]) -> tuple[float, str]:
    """Return the seconds a Python process takes, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - start
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"startup: exit code {done.returncode}: {message}")
    return seconds, done.stdout


def _count_images(data: str) -> int | None:
    try:
        return (Path(data) / "train/labelv2.txt").read_text(encoding="utf-8").count("# ")
    except OSError:
        return None
