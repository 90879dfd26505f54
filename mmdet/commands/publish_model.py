"""Strip a checkpoint to its weights and a few plain facts, and put a hash into its name.

scrfd publish work_dirs/a/latest.pth scrfd_10g.pth          # writes scrfd_10g-0123abcd.pth
"""

import argparse

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("source", metavar="IN", help="checkpoint of this trainer, mmdet or mmcv")
    parser.add_argument("target", metavar="OUT", help="file to write, without the hash")
    add_shared(parser, "--overwrite")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.checkpoint.publish import publish

    path = publish(args.source, args.target, args.overwrite)
    print(f"wrote {path} ({path.stat().st_size / 2**20:.2f} MiB)")
