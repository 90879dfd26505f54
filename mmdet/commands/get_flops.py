"""Print parameters and FLOPs of a config's model."""

import argparse

from mmdet.cli import add_config, add_shared, make_parser
from mmdet.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config(parser)
    parser.add_argument(
        "--shape",
        type=int,
        nargs="+",
        default=[640, 640],
        metavar=("H", "W"),
        help="input height and width, or one number for a square (default 640 640)",
    )
    add_shared(parser, "--cfg-options")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if len(args.shape) > 2 or min(args.shape) < 32:
        raise ConfigError(f"--shape {args.shape}: give one or two numbers of at least 32")
    height, width = args.shape[0], args.shape[-1]

    from mmdet.config import load_config
    from mmdet.models.build import build_detector
    from mmdet.models.flops import count_complexity

    cfg = load_config(args.config, args.cfg_options)
    counted = count_complexity(build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg), height, width)
    totals = [sum(column.values()) for column in (counted.params, counted.flops, counted.conv_macs)]
    print(f"{args.config}, one image of {height}x{width} (height x width)")
    print(f"{'part':10}{'params':>12}{'FLOPs':>18}{'conv MACs':>18}")
    for part in counted.params:
        print(f"{part:10}{counted.params[part]:12,}{counted.flops[part]:18,}{counted.conv_macs[part]:18,}")
    print(f"{'total':10}{totals[0]:12,}{totals[1]:18,}{totals[2]:18,}")
    print(f"Params: {totals[0] / 1e6:.3f} M")
    print(f"FLOPs: {totals[1] / 1e9:.3f} G at {height}x{width}, a multiply-add counting 1")
    print(
        f"FLOPs x 0.75: {totals[1] * 0.75e-9:.3f} G, what the reference prints as 'VGA' (for --shape 640 640)"
    )
