"""Picture files to faces: `tools/scrfd.py`'s path against the reference's, one picture at a time."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdet.benchmark.baseline_infer import OneByOne
from mmdet.benchmark.measure import alternate, ratio
from mmdet.deploy.inputs import find_inputs, read_complete
from mmdet.deploy.letterbox import letterbox, to_blob
from mmdet.deploy.ort_detector import SCRFD
from mmdet.deploy.run import RunOptions, detect_inputs
from mmdet.deploy.session import open_model
from mmdet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", help="3-level model of any batch and size")
    add("--images", metavar="DIR", help="picture files (default: 32 drawn ones of 1024x683)")
    add("--batch-size", type=int, default=16, metavar="N", help="default: 16")
    add("--rounds", type=int, default=5, metavar="N", help="median of so many (default: 5)")
    add("--provider", default="cpu", metavar="P", help="default: cpu")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return images per second of both, and where our time goes."""
    with tempfile.TemporaryDirectory() as folder:
        images = args.images or _draw_images(Path(folder) / "images")
        files = [path for path, _ in find_inputs([images]).files]
        theirs = OneByOne(open_model(args.model, args.provider).session)
        detector = SCRFD(args.model, provider=args.provider)
        if len(detector.model.description.strides) != 3 or detector.model.description.nms is not None:
            raise ConfigError(
                f"{args.model}: the baseline knows models with strides 8, 16, 32 and no NMS inside"
            )
        options = RunOptions(out=Path(folder) / "out", batch_size=args.batch_size, show_progress=False)
        times = alternate(
            {
                "one_by_one": lambda: [theirs.detect_file(path) for path in files],
                "tool": lambda: detect_inputs(detector, [images], options),
            },
            rounds=args.rounds,
        )
        parts = _parts(detector, files, args)
    return {
        "num_images": len(files),
        "batch_size": args.batch_size,
        "images_per_s": {name: len(files) / timing.wall_s for name, timing in times.items()},
        "cpu_ms_per_image": {name: 1000 * timing.cpu_s / len(files) for name, timing in times.items()},
        "speedup": ratio(times["one_by_one"], times["tool"]),
        "parts_ms_per_image": parts,
    }


def _parts(detector: SCRFD, files: list[Path], args: argparse.Namespace) -> dict[str, float]:
    """Return the time of reading, letterboxing, both ways to the blob, and the network alone."""
    images = [read_complete(path) for path in files]
    canvases = [letterbox(image, (640, 640))[0] for image in images]
    model, facts = detector.model, detector.model.description
    blob = to_blob(canvases[: args.batch_size], facts.mean, facts.std)
    batch = len(blob)
    works = {
        "read": (lambda: [read_complete(path) for path in files], len(files)),
        "letterbox": (lambda: [letterbox(image, (640, 640)) for image in images], len(files)),
        "blob": (lambda: to_blob(canvases, facts.mean, facts.std), len(files)),
        "network_single": (lambda: [model.run(blob[i : i + 1]) for i in range(batch)], batch),
    }
    if model.fixed_batch is None:
        works["network_batch"] = (lambda: model.run(blob), batch)
    times = alternate({name: work for name, (work, _) in works.items()}, rounds=args.rounds)
    return {name: 1000 * times[name].wall_s / number for name, (_, number) in works.items()}


def _draw_images(folder: Path, num: int = 32) -> str:
    folder.mkdir()
    rng = np.random.RandomState(0)
    for number in range(num):
        coarse = rng.randint(0, 256, (86, 128, 3)).astype(np.uint8)
        cv2.imwrite(
            str(folder / f"{number:03d}.jpg"), cv2.resize(coarse, (1024, 683), interpolation=cv2.INTER_CUBIC)
        )
    return str(folder)
