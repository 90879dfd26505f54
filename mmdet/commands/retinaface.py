"""Detect faces in all images of a folder with a RetinaFace; one JSON file per image with faces.

    scrfd retinaface -i PHOTOS -c configs/retinaface/mobilenet0.25.py -w W.pth -o OUT -v
    torchrun --nproc_per_node 4 -m mmdet retinaface ...           # every rank its share

Writes OUT/labels/SUBFOLDER/NAME.json and, with -v, OUT/viz/SUBFOLDER/NAME.jpg.
"""

import argparse
from pathlib import Path

from mmdet.cli import add_shared, at_least, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("-i", "--input_path", type=Path, required=True, help="folder of images, with its subfolders")
    add("-c", "--config_path", type=Path, required=True, help="config file, ours or a YAML of ternaus")
    add("-w", "--weight_path", type=Path, required=True, help="weights: a released file or a checkpoint")
    add("-o", "--output_path", type=Path, required=True, help="folder for the results")
    add("-v", "--visualize", action="store_true", help="also write the images with their faces")
    add("-m", "--max_size", type=at_least(1), default=960, help="longest side, pixels (default: %(default)s)")
    add("-b", "--batch_size", type=at_least(1), default=1, help="images at once (default: %(default)s)")
    add("-j", "--num_workers", type=at_least(0), default=4, help="reading threads (default: %(default)s)")
    add("--confidence_threshold", type=float, default=0.7, help="lowest score (default: %(default)s)")
    add("--nms_threshold", type=float, default=0.4, help="largest overlap (default: %(default)s)")
    add("--keep_top_k", type=at_least(1), default=750, help="faces of a image (default: %(default)s)")
    add("--fp16", action="store_true", help="half precision (default: fp32)")
    add_shared(parser, "--device")
    add_shared(parser, "--safe")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.retinaface.folder import FolderOptions, run_folder  # torch is slow to import

    options = FolderOptions(
        visualize=args.visualize,
        batch_size=args.batch_size,
        workers=args.num_workers,
        score_thr=args.confidence_threshold,
        iou_thr=args.nms_threshold,
        keep_top_k=args.keep_top_k,
    )
    run_folder(
        args.input_path,
        args.output_path,
        options,
        config=args.config_path,
        weights=args.weight_path,
        max_size=args.max_size,
        half=args.fp16,
        device=args.device,
    )
