"""Export a checkpoint to ONNX, with the output names of the published models.

    scrfd export configs/scrfd/scrfd_500m_bnkps.py model.pth --dynamic-batch --simplify --verify

Writes F.onnx and F.json (strides, anchors, normalisation, classes, how to decode).
"""

import argparse

from mmdet.cli import add_config, add_shared, make_parser
from mmdet.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_config(parser)
    add("checkpoint")
    add("--output-file", metavar="F.onnx", help="default: CONFIG.onnx or CONFIG_HxW.onnx, here")
    add_shared(parser, "--overwrite")
    add("--shape", type=int, nargs="+", default=[-1, -1], metavar="S",
        help="height and width, or one number for a square; -1 -1: any size (default)")  # fmt: skip
    add("--dynamic-batch", action="store_true", help="any number of images at once (default: 1)")
    add("--simplify", action="store_true", help="run onnxslim over the graph")
    add("--opset", type=int, default=17, metavar="N", help="11 to 20 (default: 17)")
    add("--fp16", action="store_true", help="half-precision weights; inputs and outputs stay fp32")
    add("--merge-heads", action="store_true",
        help="one convolution for the predictors of a level: faster, cannot be converted back")  # fmt: skip
    add("--no-batch-axis", action="store_true",
        help="outputs (A, C) of one image, as insightface up to 0.7 wants them")  # fmt: skip
    add("--with-nms", action="store_true", help="decode and suppress inside the graph")
    add_shared(parser, "--score-thr", default=None, help="with --with-nms (default: the config's test_cfg)")
    add("--nms-thr", type=float, metavar="T", help="with --with-nms (default: the config's test_cfg)")
    add("--verify", action="store_true", help="compare with torch over shapes and batches")
    args = parser.parse_args()
    if len(args.shape) > 2:
        raise ConfigError(f"--shape {' '.join(map(str, args.shape))}: one or two numbers")
    if args.output_file is not None and not args.output_file.lower().endswith(".onnx"):
        raise ConfigError(f"--output-file {args.output_file}: give a name that ends in .onnx")
    return args


def main() -> None:
    args = parse_args()
    from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint

    options = ExportOptions(
        height=args.shape[0],
        width=args.shape[-1],
        dynamic_batch=args.dynamic_batch,
        opset=args.opset,
        simplify=args.simplify,
        with_nms=args.with_nms,
        score_thr=args.score_thr,
        iou_thr=args.nms_thr,
        half=args.fp16,
        merge_heads=args.merge_heads,
        batch_axis=not args.no_batch_axis,
    )
    path, module = export_checkpoint(args.config, args.checkpoint, args.output_file, options, args.overwrite)
    print(f"wrote {path} and {path.with_suffix('.json').name}")
    if not args.verify:
        return
    from mmdet.deploy.export.verify import LARGE, verify

    parities = verify(path, module, options)
    for parity in parities:
        shape = "x".join(map(str, parity.shape))
        unit = "strides" if parity.num_faces is None else f"strides, {parity.num_faces} faces"
        if parity.largest > LARGE:
            unit += f" (relative to values of {parity.largest:.3g} / {LARGE:g})"
        print(f"verified {shape}: max abs error {parity.score:.1e} scores, {parity.distance:.1e} {unit}")
    if all(parity.num_faces == 0 for parity in parities):
        print(
            "no face was found in noise, so only shapes were compared; --score-thr 0 compares all candidates"
        )
