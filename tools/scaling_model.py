"""Calculate images per second of 1, 8 and 64 cards from measured costs; docs/scaling.md has the reasoning.

python tools/scaling_model.py configs/scrfd/scrfd_10g.py --card-images-per-s 1000 --host-ms 1.2
python tools/scaling_model.py configs/scrfd/scrfd_10g_8p.py --chip 910B --host-ms 3.7   # an estimate
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark.scaling import Cluster, Costs
from benchmark.scaling import forecast as forecast_cluster
from mmdet.cli import add_config, add_shared, make_parser, run_cli
from mmdet.errors import ConfigError

if TYPE_CHECKING:
    from mmdet.config import RunConfig


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_config(parser, "; its parameters are the gradients, its data.samples_per_gpu the batch")
    add_shared(parser, "--cfg-options")
    card = parser.add_mutually_exclusive_group(required=True)
    card.add_argument(
        "--card-images-per-s",
        type=float,
        metavar="N",
        help="one card, resident data: tools/benchmark.py step",
    )
    add_shared(card, "--chip", default=None, help="estimate it for 910A, 910B or 310P (scrfd audit)")
    add("--assume", nargs="+", default=[], metavar="NAME=VALUE", help="of --chip: see mmdet/testing/cost.py")
    add_shared(parser, "--size", help="of --chip: height and width of the images (default: %(default)s)")
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


def estimate_rate(cfg: "RunConfig", args: argparse.Namespace) -> float:
    """Return images per second of one chip by the audit's cost model; print its parts."""
    from mmdet.testing.audit import META
    from mmdet.testing.audit_step import draw_batch, for_card, record_training
    from mmdet.testing.cost import assume, forecast

    assumed = assume(args.chip, args.assume)
    batch = for_card(cfg, draw_batch(cfg.data.samples_per_gpu, args.size, num_faces=10, slots=32))
    time = forecast(record_training(cfg, META, [batch])[0].calls, args.chip, assumed)
    parts = ", ".join(f"{part} {ms:.0f}" for part, ms in time.parts_ms.items() if ms >= 0.5)
    print(f"estimate for {args.chip}: {time.step_ms:.0f} ms per step ({parts}); a factor of two is possible")
    return 1000 * cfg.data.samples_per_gpu / time.step_ms


def main() -> None:
    args = parse_args()
    given = ("card_images_per_s",) if args.chip is None else ()
    for name in (*given, "host_ms", "link_gb_s", "network_gb_s", "cards_per_host"):
        check(name, getattr(args, name) > 0, "above 0")
    for name in ("cores_per_card", "latency_us", "jitter"):
        check(name, getattr(args, name) >= 0, "0 or above")
    check("cards", min(args.cards) >= 1, "1 or above")
    check("overlap", 0 <= args.overlap <= 1, "from 0 to 1")

    import torch

    from mmdet.config import load_config
    from mmdet.device import check_chip
    from mmdet.models.build import build_detector

    cfg = load_config(args.config, args.cfg_options)
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
    half = cfg.amp.level == "O2"
    gradient_bytes = sum(p.numel() for p in model.parameters() if p.requires_grad) * (2 if half else 4)
    if args.chip is not None:
        check_chip(args.chip, torch.device("meta"))
        args.card_images_per_s = estimate_rate(cfg, args)
    costs = Costs(args.card_images_per_s, args.host_ms, cfg.data.samples_per_gpu, gradient_bytes)
    cluster = Cluster(**{field.name: getattr(args, field.name) for field in fields(Cluster)})

    print(f"{args.config}: batch {costs.batch} per card, {gradient_bytes / 1e6:.2f} MB of gradients per step")
    print(f"{costs.card_images_per_s:.4g} images/s per card, {costs.host_ms:g} ms of a core per image")
    print(" ".join(f"{field.name}={getattr(cluster, field.name):g}" for field in fields(Cluster)))
    print(" cards    images/s  efficiency   limit  reduce ms  cores needed per card")
    for cards in args.cards:
        row = forecast_cluster(cards, costs, cluster)
        print(
            f"{row.cards:6}{row.images_per_s:12,.0f}{row.efficiency:12.1%}{row.limit:>8}"
            f"{row.reduce_ms:11.2f}{row.cores_needed:23.1f}"
        )


if __name__ == "__main__":
    run_cli(main)
