"""Draw the faces of one image, found by a checkpoint (or an ONNX model) of this trainer.

scrfd image photo.jpg configs/scrfd/scrfd_500m_bnkps.py model.pth --out faces.png
"""

import argparse
from pathlib import Path

from mmdet.cli import add_shared, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("image", metavar="IMG")
    add("model", metavar="CONFIG", help="config file, or MODEL.onnx alone")
    add("checkpoint", metavar="CKPT", nargs="?")
    add("--out", type=Path, metavar="F", help="image to write (default: IMG_faces.png, here)")
    add_shared(parser, "--overwrite")
    add_shared(parser, "--score-thr")
    add_shared(
        parser, "--device", help="auto, npu, cuda or cpu; with an ONNX model the provider (default: auto)"
    )
    add_shared(parser, "--safe")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.files import check_outputs, write_bytes
    from mmdet.images import quiet_opencv, read_image

    quiet_opencv()
    out = args.out or Path(f"{Path(args.image).stem}_faces.png")
    image = read_image(args.image)
    check_outputs([out], [args.image, args.model, args.checkpoint or ""], args.overwrite)

    from mmdet.deploy.cli.demo import load_finder
    from mmdet.deploy.cli.draw import draw_faces
    from mmdet.deploy.cli.writers import encode_image

    find, classes = load_finder(args.model, args.checkpoint, args.score_thr, args.device)
    found = find(image)
    write_bytes(out, encode_image(draw_faces(image, found, classes), out.suffix))
    for label, (x1, y1, x2, y2, score) in zip(found.labels, found.bboxes.tolist(), strict=True):
        print(f"{classes[label]} {score:.3f}: {x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}")
    print(f"{len(found)} faces, drawn in {out}")
