"""Convert weights: checkpoints of any mmcv or mmdet age and ONNX files to ours, ours to ONNX.

    scrfd convert weights old.pth new.pth --config configs/scrfd/scrfd_10g.py
    scrfd convert weights det_500m.onnx new.pth --config configs/scrfd/scrfd_500m_bnkps.py
    scrfd convert weights det_500m.onnx new.pth --config C.py --calibrate /data/WIDERFace/val/images
    scrfd convert weights new.pth new.onnx --config configs/scrfd/scrfd_500m_bnkps.py

No code in a checkpoint is run. Says what matched.
"""

import argparse

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("source", metavar="SRC", help=".pth or .onnx")
    parser.add_argument("target", metavar="DST", help=".pth or .onnx")
    add_shared(parser, "--config", help="of the model; needed where one side is ONNX")
    add_shared(parser, "--safe")
    parser.add_argument("--calibrate", metavar="DIR", help="images, to fine-tune weights of an ONNX file")
    add_shared(parser, "--overwrite")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.deploy.export.convert import convert

    print("\n".join(convert(args.source, args.target, args.config, args.calibrate, args.overwrite)))
