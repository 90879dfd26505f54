"""Convert face labels from any format to labelv2, or from labelv2 to another.

    scrfd convert labels coco train.json data/own/train/labelv2.txt --images data/own/train/images
    scrfd convert labels labelv2 labelv2.txt boxes.json --to coco

Prints what was carried over and what could not be. Formats: labelv2, wider-txt, retinaface-txt, ternaus-json,
coco, csv, cvat (a file); yolo, voc, labelme (a folder of files).
"""

from pathlib import Path

from mmdet.cli import add_shared, make_parser


def main() -> None:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("format", metavar="SRC_FORMAT", help="format of SRC")
    add("source", metavar="SRC", help="label file or folder")
    add("target", metavar="DST", help="label file or folder to write")
    add("--to", default="labelv2", metavar="FORMAT", help="format of DST (default: %(default)s)")
    add("--images", metavar="DIR", help="folder of the images, for sizes that SRC_FORMAT lacks")
    add("--num-kps", type=int, default=5, metavar="K", help="points of a face (default: %(default)s)")
    add("--classes", nargs="+", metavar="NAME", help="classes to take, in this order (default: all)")
    ignore = "wider-txt: flags that make an ignore box, for example blur=2 invalid (default: invalid)"
    add("--ignore", nargs="*", metavar="FLAG[=LEAST]", help=ignore)
    add_shared(parser, "--overwrite")
    args = parser.parse_args()

    from mmdet.datasets.labels.convert import convert
    from mmdet.errors import ConfigError
    from mmdet.files import check_outputs

    if not Path(args.target).is_dir():
        check_outputs([args.target], [args.source], args.overwrite)
    elif not args.overwrite or Path(args.target).samefile(args.source):
        raise ConfigError(f"{args.target} exists; give another name, or --overwrite to replace files in it")
    options = {"num_kps": args.num_kps, "classes": args.classes}
    if args.ignore is not None:
        options["ignore"] = args.ignore
    labels, lost = convert((args.format, args.source), (args.to, args.target), args.images, **options)
    num_kps = int((labels.kps[..., 2] > 0).any(1).sum())
    faces, ignored = len(labels.bboxes) - int(labels.is_ignored.sum()), int(labels.is_ignored.sum())
    print(
        f"{args.target}: {len(labels)} images, {faces} faces ({num_kps} with points), {ignored} ignore boxes"
    )
    print(f"classes: {', '.join(labels.classes)}")
    for what, count in sorted(lost.items()):
        print(f"not carried over: {count} {what}")
