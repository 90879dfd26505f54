"""Evaluate a checkpoint on WIDER FACE val (or a data set of the same shape): easy, medium, hard AP.

    scrfd test configs/scrfd/scrfd_2.5g.py work_dirs/a/latest.pth --mode 0 --out wouts

Writes OUT/aps, OUT/metrics.json, OUT/pr_curves.png and, with --save-preds, OUT/EVENT/NAME.txt.
"""

import argparse

from mmdet.cli import add_config, add_shared, make_parser
from mmdet.process import without_collection


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_config(parser)
    add("checkpoint")
    sizes = "0: 640x640; 1: 1100x1650; 2: original size; N>30: NxN; -1: the config's own (default: 0)"
    add("--mode", type=int, default=0, metavar="M", help=sizes)
    add("--out", default="wouts", help="folder for the results (default: wouts)")
    add_shared(parser, "--thr", default=0.02)
    add("--save-preds", action="store_true", help="also write one .txt of detections per image")
    gt_dir = (
        "folder of the four .mat files (default: the config's, gt/ beside images/, or made of the labels)"
    )
    add("--gt-dir", help=gt_dir)
    metrics = "names of METRICS, for example widerface mAP (default: widerface)"
    add("--metric", nargs="+", default=["widerface"], metavar="NAME", help=metrics)
    add_shared(parser, "--device")
    add_shared(parser, "--batch-size", default=1, help="images per forward pass (default: %(default)s)")
    readers = "processes that read images (default: 0 on a CPU, whose cores the network uses already, else 2)"
    add_shared(parser, "--workers", default=None, help=readers)
    add("--half", action="store_true", help="half precision (default: fp32)")
    add_shared(parser, "--cfg-options")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with without_collection():
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
        metrics=args.metric,
        cfg_options=args.cfg_options,
    )
