"""Make an int8 model of an ONNX file: smaller, faster where the CPU multiplies bytes, a little less exact.

    scrfd quantize model.onnx model_int8.onnx --calibrate photos

The images should be like those it will see; their activations give the ranges. Inputs and outputs stay fp32.
"""

import argparse

from mmdet.cli import add_shared, at_least, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("source", metavar="MODEL.onnx", help="ours or a published file, without NMS")
    parser.add_argument("target", metavar="OUT.onnx", help="file to write, with OUT.json beside it")
    parser.add_argument("--calibrate", required=True, metavar="DIR", help="folder of images")
    add_shared(parser, "--images", type=at_least(1), default=32, help="of them, evenly spaced (default: 32)")
    add_shared(parser, "--overwrite")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.deploy.export.quantize import quantize

    num = quantize(args.source, args.target, args.calibrate, args.images, args.overwrite)
    print(f"wrote {args.target}, calibrated with {num} images")
