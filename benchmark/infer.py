"""Picture files to faces: `tools/scrfd.py`'s path against the reference's, one picture at a time.

Each runs in a process of its own, set up as its user would have it, and they take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.baseline_infer import OneByOne
from benchmark.measure import Timing, alternate, ratio
from benchmark.turns import Figures, take_turns
from mmdet.cli import add_shared
from mmdet.deploy.cli.inputs import find_inputs, read_complete
from mmdet.deploy.cli.run import RunOptions, detect_inputs, tune_process
from mmdet.deploy.runtime.letterbox import letterbox, to_blob
from mmdet.deploy.runtime.options import DetectOptions
from mmdet.deploy.runtime.ort_detector import FaceDetector
from mmdet.deploy.runtime.session import find_providers, import_onnxruntime, open_model
from mmdet.errors import ConfigError

HW = (640, 640)


@dataclass(frozen=True)
class InferSetup:
    """What both get."""

    model: str
    provider: str
    images: str
    batch_size: int
    folder: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", help="3-level model of any batch and size")
    add("images", metavar="FOLDER", nargs="?", help="picture files (default: 32 drawn ones of 1024x683)")
    add_shared(parser, "--batch-size", default=16)
    add_shared(parser, "--rounds")
    add_shared(parser, "--provider", default="cpu", help="default: cpu")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return images per second of both, how much they found, and where the time of one picture goes."""
    facts = open_model(args.model, args.provider).description
    if len(facts.strides) != 3 or facts.nms is not None:
        raise ConfigError(f"{args.model}: the baseline knows strides 8, 16, 32 and no NMS inside")
    with tempfile.TemporaryDirectory() as folder:
        images = args.images or _draw_images(Path(folder) / "images")
        files = [Path(file.label) for file in find_inputs([images]).files]
        setup = InferSetup(args.model, args.provider, images, args.batch_size, folder)
        turns = take_turns({"one_by_one": _one_by_one, "tool": _tool}, setup, args.rounds, warmup=1)
        parts = _parts(args.model, files, args.rounds)
    times = {name: Timing(figures["wall_s"], figures["cpu_s"]) for name, figures in turns.items()}
    return {
        "num_images": len(files),
        "num_faces": {name: int(figures["num_faces"]) for name, figures in turns.items()},
        "batch_size": args.batch_size,
        "images_per_s": {name: len(files) / timing.wall_s for name, timing in times.items()},
        "cpu_ms_per_image": {name: 1000 * timing.cpu_s / len(files) for name, timing in times.items()},
        "speedup": ratio(times["one_by_one"], times["tool"]),
        "one_core_ms_per_image": parts,
    }


def _one_by_one(setup: InferSetup) -> Callable[[], Figures]:
    """Prepare the reference's way: a session and OpenCV with their defaults."""
    ort = import_onnxruntime()
    ort.set_default_logger_severity(3)
    detector = OneByOne(ort.InferenceSession(setup.model, providers=find_providers(setup.provider)), HW[::-1])
    files = [Path(file.label) for file in find_inputs([setup.images]).files]
    return lambda: _measure(lambda: sum(len(detector.detect_file(path)) for path in files))


def _tool(setup: InferSetup) -> Callable[[], Figures]:
    """Prepare what tools/scrfd.py does with --out."""
    tune_process()
    detector = FaceDetector(setup.model, provider=setup.provider)
    options = RunOptions(
        out=Path(setup.folder) / "out",
        overwrite=True,
        detect=DetectOptions(batch_size=setup.batch_size, two_scale=False),  # the reference looks once
        show_progress=False,
    )
    return lambda: _measure(lambda: detect_inputs(detector, [setup.images], options).num_faces)


def _measure(work: Callable[[], int]) -> Figures:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    num_faces = work()
    return {
        "wall_s": time.perf_counter() - wall_s,
        "cpu_s": time.process_time() - cpu_s,
        "num_faces": num_faces,
    }


def _parts(path: str, files: list[Path], rounds: int) -> dict[str, float]:
    """Return the time of each step on one core of the CPU."""
    tune_process()
    images = [read_complete(file) for file in files[:16]]
    canvases = [letterbox(image, HW)[0] for image in images]
    model = open_model(path, "cpu", threads=1)
    mean, std = model.description.mean, model.description.std
    blobs = [to_blob([canvas], mean, std) for canvas in canvases]
    works: dict[str, Callable[[], object]] = {
        "read": lambda: [read_complete(file) for file in files[:16]],
        "letterbox": lambda: [letterbox(image, HW) for image in images],
        "blob": lambda: [to_blob([canvas], mean, std) for canvas in canvases],
        "network": lambda: [model.run(blob) for blob in blobs],
    }
    times = alternate(works, rounds=rounds)
    return {name: 1000 * timing.wall_s / len(images) for name, timing in times.items()}


def _draw_images(folder: Path, num: int = 32) -> str:
    folder.mkdir()
    rng = np.random.RandomState(0)
    for number in range(num):
        coarse = rng.randint(0, 256, (86, 128, 3)).astype(np.uint8)
        cv2.imwrite(
            str(folder / f"{number:03d}.jpg"), cv2.resize(coarse, (1024, 683), interpolation=cv2.INTER_CUBIC)
        )
    return str(folder)
