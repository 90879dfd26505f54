"""Find faces in images, folders, patterns, videos and cameras with an ONNX model. Needs no torch.

    scrfd detect model.onnx photos/ --out results --draw
    scrfd detect model.onnx a.jpg 'b/*.png' film.mp4 > faces.jsonl

Exit code 0: at least one image was read; those that could not be are listed on standard error.
130: Ctrl-C ended it early; a camera is ended so, with 0. An unfinished file is called NAME.part.SUFFIX.
"""

import argparse
import sys
from pathlib import Path

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL.onnx")
    add("inputs", nargs="+", metavar="INPUT", help="image, folder, pattern, video or number of a camera")
    add("--out", type=Path, metavar="DIR", help="folder for the results (default: JSON lines to stdout)")
    add("--format", default="json", metavar="F", help="json, txt or widerface (default: json)")
    add("--draw", action="store_true", help="also write images and videos with the faces drawn in")
    add("--blur", action="store_true", help="write images and videos with the faces made unrecognisable")
    add("--crop", action="store_true", help="also write every face alone")
    add("--align", type=int, nargs="?", const=112, default=0, metavar="PX",
        help="also write every face upright in a square, for recognition (112 pixels)")  # fmt: skip
    add_shared(parser, "--thr", default=None, help="lowest score (default: 0.5)")
    add_shared(parser, "--overwrite")
    add("--nms", type=float, metavar="T", help="largest overlap of two faces (default: 0.4)")
    add_shared(parser, "--input-size")
    add_shared(
        parser,
        "--batch-size",
        default=16,
        help="images at once, in memory and on an accelerator (default: %(default)s)",
    )
    add("--two-scale", action=argparse.BooleanOptionalAction,
        help="a second look at a quarter of the size, for close-ups (default: auto)")  # fmt: skip
    add("--tiles", default="auto", metavar="N",
        help="also look at squares, N along the longer side (default: auto, long images)")  # fmt: skip
    add("--max-num", type=int, default=0, metavar="N", help="largest and most central faces only (0: all)")
    add_shared(parser, "--max-frames")
    add_shared(parser, "--provider")
    add("--device-id", type=int, default=0, metavar="N", help="of the accelerator (default: 0)")
    add_shared(parser, "--threads", default=0, help="cores to use on the CPU (0: all)")
    add("--quiet", action="store_true", help="no progress, no summary; only the number of skipped files")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from mmdet.deploy.cli.outputs import Products
    from mmdet.deploy.cli.run import RunOptions, detect_inputs, tune_process
    from mmdet.deploy.runtime.options import DetectOptions
    from mmdet.deploy.runtime.ort_detector import FaceDetector

    options = RunOptions(
        out=args.out,
        products=Products(args.format, args.draw, args.blur, args.crop, args.align),
        overwrite=args.overwrite,
        detect=DetectOptions().changed(
            **{"--thr": args.thr, "--nms": args.nms, "--max-num": args.max_num},
            **{"--batch-size": args.batch_size, "--input-size": args.input_size},
            two_scale=args.two_scale,
            **{"--tiles": args.tiles},
        ),
        max_frames=args.max_frames,
        show_progress=not args.quiet,
    )
    tune_process()
    detector = FaceDetector(
        args.model, provider=args.provider, threads=args.threads, device_id=args.device_id
    )
    summary = detect_inputs(detector, args.inputs, options)
    for line in summary.quiet_lines() if args.quiet else summary.lines():
        print(line, file=sys.stderr)
    return summary.exit_code
