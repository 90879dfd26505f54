"""Compare the loss curve and the accuracy of a run on a card with those of the same recipe elsewhere.

    scrfd report compare work_dirs/npu work_dirs/cuda

Both runs need the same config, seed, batch and log interval. The loss is compared by its mean in each tenth
of the run, because single steps differ by rounding that grows; accuracy by each AP of eval/metrics.json,
where both have one. Exit code 1 where a difference exceeds the tolerance.
"""

import argparse
from pathlib import Path

from mmdet.cli import make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("card", type=Path, metavar="WORK_DIR", help="of the run on the card")
    parser.add_argument("other", type=Path, metavar="WORK_DIR", help="of the run it is measured by")
    add = parser.add_argument
    add(
        "--loss", type=float, default=0.02, metavar="X", help="relative, of each tenth (default: %(default)s)"
    )
    add("--accuracy", type=float, default=0.005, metavar="X", help="of an AP, of 1 (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from mmdet.testing.run_compare import Tolerance, compare_runs

    rows = list(compare_runs(args.card, args.other, Tolerance(args.loss, args.accuracy)))
    for line, is_equal in rows:
        print(line if is_equal else f"{line}  TOO MUCH")
    num_bad = sum(not is_equal for _, is_equal in rows)
    print(f"{num_bad} of {len(rows)} beyond the tolerance: loss {args.loss:g}, accuracy {args.accuracy:g}")
    return 1 if num_bad else 0
