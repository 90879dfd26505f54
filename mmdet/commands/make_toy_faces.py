"""Draw a seeded toy data set laid out as WIDER FACE: images, labelv2.txt, gt/*.mat.

    scrfd toy --out data/toy --train 1000 --val 200

The same seed draws the same bytes; image i does not depend on how many are asked for.
"""

import argparse
import time

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder to make: out/train and out/val")
    parser.add_argument("--train", type=int, required=True, metavar="N", help="number of training images")
    parser.add_argument("--val", type=int, required=True, metavar="N", help="number of validation images")
    add_shared(parser, "--seed")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(320, 480),
        metavar=("MIN", "MAX"),
        help="range of the long side, px",
    )
    add_shared(parser, "--workers", default=1, help="processes that draw (one draws about 200/s)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.datasets.toy.faces import write_toy_faces

    start = time.perf_counter()
    write_toy_faces(args.out, args.train, args.val, args.seed, tuple(args.size), args.workers)
    print(f"{args.out}: {args.train} train + {args.val} val images in {time.perf_counter() - start:.1f} s")
