"""Calculate images per second of 1, 8 and 64 cards from measured costs; docs/scaling.md has the reasoning.

python tools/scaling_model.py configs/scrfd/scrfd_10g.py --card-images-per-s 1000 --host-ms 1.2
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark.scaling import Cluster, Costs, forecast
from mmdet.cli import add_config, add_shared, make_parser, run_cli
from mmdet.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_config(parser, "; its parameters are the gradients, its data.samples_per_gpu the batch")
    add_shared(parser, "--cfg-options")
    add(
        "--card-images-per-s",
        type=float,
        required=True,
        metavar="N",
        help="one card, resident data: tools/benchmark.py step",
    )
    add(
        "--host-ms",
        type=float,
        required=True,
        metavar="MS",
        help="one core, per image: 1000 / images_per_s_and_core of tools/benchmark.py data",
    )
    add("--cards", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="default: 1 8 64")
    for field in fields(Cluster):
        flag = "--" + field.name.replace("_", "-")
        add(
            flag,
            type=type(field.default),
            default=field.default,
            metavar="X",
            help=f"default: {field.default}",
        )
    return parser.parse_args()


def check(name: str, is_right: bool, expected: str) -> None:
    """Raise ConfigError for an option that is not as expected."""
    if not is_right:
        raise ConfigError(f"--{name.replace('_', '-')}: give a number {expected}")


def main() -> None:
    args = parse_args()
    for name in ("card_images_per_s", "host_ms", "link_gb_s", "network_gb_s", "cards_per_host"):
        check(name, getattr(args, name) > 0, "above 0")
    for name in ("cores_per_card", "latency_us", "jitter"):
        check(name, getattr(args, name) >= 0, "0 or above")
    check("cards", min(args.cards) >= 1, "1 or above")
    check("overlap", 0 <= args.overlap <= 1, "from 0 to 1")

    from mmdet.config import load_config
    from mmdet.models.build import build_detector

    cfg = load_config(args.config, args.cfg_options)
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
    half = cfg.amp.level == "O2"
    gradient_bytes = sum(p.numel() for p in model.parameters() if p.requires_grad) * (2 if half else 4)
    costs = Costs(args.card_images_per_s, args.host_ms, cfg.data.samples_per_gpu, gradient_bytes)
    cluster = Cluster(**{field.name: getattr(args, field.name) for field in fields(Cluster)})

    print(f"{args.config}: batch {costs.batch} per card, {gradient_bytes / 1e6:.2f} MB of gradients per step")
    print(f"{costs.card_images_per_s:g} images/s per card, {costs.host_ms:g} ms of a core per image")
    print(" ".join(f"{field.name}={getattr(cluster, field.name):g}" for field in fields(Cluster)))
    print(" cards    images/s  efficiency   limit  reduce ms  cores needed per card")
    for cards in args.cards:
        row = forecast(cards, costs, cluster)
        print(
            f"{row.cards:6}{row.images_per_s:12,.0f}{row.efficiency:12.1%}{row.limit:>8}"
            f"{row.reduce_ms:11.2f}{row.cores_needed:23.1f}"
        )


if __name__ == "__main__":
    run_cli(main)
