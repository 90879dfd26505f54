"""Draw the faces a camera sees, in a window or into a video.

scrfd camera model.onnx
scrfd camera configs/scrfd/scrfd_500m_bnkps.py model.pth --camera-id 1 --out faces.mp4
"""

import argparse
from pathlib import Path

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("model", metavar="CONFIG", help="config file, or MODEL.onnx alone")
    add("checkpoint", metavar="CKPT", nargs="?")
    add("--camera-id", default="0", metavar="N", help="number of the camera, or a video file (default: 0)")
    add_shared(parser, "--score-thr")
    add("--out", type=Path, metavar="F.mp4", help="write a video instead of opening a window")
    add_shared(parser, "--overwrite")
    add_shared(parser, "--max-frames", help="stop after N frames (0: at q or Ctrl-C)")
    add_shared(
        parser, "--device", help="auto, npu, cuda or cpu; with an ONNX model the provider (default: auto)"
    )
    add_shared(parser, "--safe")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.deploy.cli.demo import load_finder, show_video
    from mmdet.deploy.runtime.checks import check_count
    from mmdet.files import check_outputs
    from mmdet.images import quiet_opencv

    check_count("--max-frames", args.max_frames)
    quiet_opencv()
    if args.out is not None:
        check_outputs([args.out], [args.camera_id, args.model, args.checkpoint or ""], args.overwrite)
    find, classes = load_finder(args.model, args.checkpoint, args.score_thr, args.device)
    is_number = args.camera_id.isascii() and args.camera_id.isdecimal()
    source = int(args.camera_id) if is_number else args.camera_id
    print(f"{show_video(find, classes, source, args.out, args.max_frames)} frames")
