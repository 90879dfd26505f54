"""Evaluate a checkpoint on WIDER FACE val (or a data set of the same shape): easy, medium, hard AP.

    python tools/test_widerface.py configs/scrfd/scrfd_2.5g.py work_dirs/a/latest.pth --mode 0 --out wouts

Writes OUT/aps, OUT/metrics.json, OUT/pr_curves.png and, with --save-preds, OUT/EVENT/NAME.txt.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.errors import run_cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config")
    add("checkpoint")
    sizes = "0: 640x640; 1: 1100x1650; 2: original size; N>30: NxN; -1: the config's own (default: 0)"
    add("--mode", type=int, default=0, metavar="M", help=sizes)
    add("--out", default="wouts", help="folder for the results (default: wouts)")
    add("--thr", type=float, default=0.02, help="lowest score of a detection (default: 0.02)")
    add("--save-preds", action="store_true", help="also write one .txt of detections per image")
    add("--gt-dir", help="folder of the four .mat files (default: the config's, or gt/ beside images/)")
    add("--device", default="auto", help="auto, npu, cuda or cpu (default: auto)")
    add("--batch-size", type=int, default=1, metavar="N", help="images per forward pass (default: 1)")
    add("--workers", type=int, default=2, metavar="N", help="processes that read images (default: 2)")
    add("--half", action="store_true", help="half precision (default: fp32)")
    add("--cfg-options", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the config")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.evaluation.run import evaluate_checkpoint  # torch is slow to import; --help must not wait

    evaluate_checkpoint(
        args.config,
        args.checkpoint,
        args.out,
        mode=args.mode,
        score_thr=args.thr,
        gt_dir=args.gt_dir,
        device=args.device,
        batch_size=args.batch_size,
        workers=args.workers,
        half=args.half,
        save_preds=args.save_preds,
        cfg_options=args.cfg_options,
    )


if __name__ == "__main__":
    run_cli(main)
