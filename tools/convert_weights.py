"""Convert weights: checkpoints of any mmcv or mmdet age and ONNX files to ours, ours to ONNX.

    python tools/convert_weights.py old.pth new.pth --config configs/scrfd/scrfd_10g.py
    python tools/convert_weights.py det_500m.onnx new.pth --config configs/scrfd/scrfd_500m_bnkps.py
    python tools/convert_weights.py det_500m.onnx new.pth --config C.py --calibrate /data/WIDERFace/val/images
    python tools/convert_weights.py new.pth new.onnx --config configs/scrfd/scrfd_500m_bnkps.py

No code in a checkpoint is run. Says what matched.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import add_shared, make_parser, run_cli


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("source", metavar="SRC", help=".pth or .onnx")
    parser.add_argument("target", metavar="DST", help=".pth or .onnx")
    add_shared(parser, "--config", help="of the model; needed where one side is ONNX")
    parser.add_argument("--calibrate", metavar="DIR", help="images, to fine-tune weights of an ONNX file")
    add_shared(parser, "--overwrite")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.deploy.export.convert import convert

    print("\n".join(convert(args.source, args.target, args.config, args.calibrate, args.overwrite)))


if __name__ == "__main__":
    run_cli(main)
