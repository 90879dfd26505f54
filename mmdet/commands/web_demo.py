"""Serve a page that shows the faces in a image dropped on it.

scrfd web model.onnx --examples photos/
"""

import argparse
from pathlib import Path

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL.onnx")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    add("--allow-host", nargs="+", default=[], metavar="NAME", help="further names of this computer")
    add("--token", default="", metavar="TEXT", help="answer only who opens the page with ?token=TEXT")
    add("--examples", type=Path, metavar="DIR", help="images to offer on the page")
    add_shared(parser, "--provider")
    add_shared(parser, "--input-size")
    add_shared(parser, "--thr", help="initial value of the page's slider (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
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
    server = make_server(
        detector, args.host, args.port, args.examples, token=args.token, hosts=args.allow_host
    )
    query = f"/?token={args.token}" if args.token else ""
    print(f"open {args.host}:{server.server_address[1]}{query} in a browser; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
