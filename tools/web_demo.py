"""Serve a page that shows the faces in a picture dropped on it.

python tools/web_demo.py model.onnx --examples photos/
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.errors import run_cli

LARGEST_PICTURE = 150_000_000  # pixels, 450 MB decoded; a small file can state many more


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="MODEL.onnx")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    add("--examples", type=Path, metavar="DIR", help="pictures to offer on the page")
    add("--provider", default="auto", metavar="P", help="auto, cpu, or an accelerator's (default: auto)")
    add("--input-size", type=int, nargs=2, metavar=("W", "H"), help="default: 640 640, or the model's own")
    add("--thr", type=float, default=0.5, metavar="T", help="the slider begins there (default: 0.5)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(LARGEST_PICTURE))  # read by the import of cv2
    from mmdet.deploy import SCRFD
    from mmdet.deploy.runtime.checks import check_count, check_fraction
    from mmdet.deploy.web.server import make_server
    from mmdet.images import quiet_opencv

    check_fraction("--thr", args.thr)
    for side in args.input_size or ():
        check_count("--input-size", side, 1)
    quiet_opencv()
    detector = SCRFD(args.model, provider=args.provider)
    detector.prepare(input_size=tuple(args.input_size) if args.input_size else None, det_thresh=args.thr)
    server = make_server(detector, args.host, args.port, args.examples)
    print(f"open {args.host}:{server.server_address[1]} in a browser; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    run_cli(main)
