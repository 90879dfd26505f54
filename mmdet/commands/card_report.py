"""Measure a card in one go, in at most five minutes: tests, precision, speed, data, a short training.

Writes DIR/card_report.json and .md. Needs torch, numpy and cv2, what an Ascend or CUDA image has;
no network, no pip, no data set. What is missing on this machine is left out and named in the report.
"""

import argparse
from pathlib import Path

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_shared(parser, "--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    add_shared(parser, "--config", default="configs/scrfd/scrfd_2.5g.py")
    add_shared(parser, "--safe")
    add_shared(parser, "--batch-size", default=32)
    add_shared(parser, "--size")
    parser.add_argument("--iters", type=int, default=200, help="of the short training (default: 200)")
    parser.add_argument("--budget-s", type=float, default=300, help="parts that do not fit are left out")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from mmdet.testing.card_report import PARTS, Setup, write_report

    setup = Setup(args.device, args.config, args.batch_size, args.size, args.iters, args.budget_s, args.out)
    return write_report(setup, PARTS)
