"""WIDER FACE average precision of a whole prediction set: the product against loops over thresholds."""

import argparse
from typing import Any

from benchmark import baseline_evaluation
from benchmark.measure import alternate, ratio
from mmdet.cli import add_shared
from mmdet.evaluation.widerface.ap import evaluate_widerface
from mmdet.evaluation.widerface.files import SETTINGS, read_predictions, read_wider_gt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py eval`."""
    parser.add_argument("predictions", help="folder of EVENT/NAME.txt files")
    parser.add_argument("gt_dir", help="folder of the four WIDER .mat files")
    add_shared(parser, "--rounds")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, both sides from predictions and ground truth in memory; compare the results."""
    predictions, images = read_predictions(args.predictions), read_wider_gt(args.gt_dir)
    results: dict[str, Any] = {}

    def product() -> None:
        results["product"] = evaluate_widerface(predictions, images)

    def baseline() -> None:
        results["baseline"] = baseline_evaluation.evaluate(predictions, images)

    times = alternate({"baseline": baseline, "product": product}, rounds=args.rounds, warmup=0)
    mine = results["product"]
    return {
        "num_images": mine.num_images,
        "num_detections": mine.num_detections,
        "ap": dict(mine.ap),
        "largest_difference": max(abs(mine.ap[s] - results["baseline"][s]) for s in SETTINGS),
        **{name: vars(timing) for name, timing in times.items()},
        "ratio": ratio(times["baseline"], times["product"]),
    }
