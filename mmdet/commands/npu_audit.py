"""List the operators of a training step and where an Ascend chip computes each: AI Core, AI CPU or the host.

    scrfd audit configs/scrfd/scrfd_10g_8p.py --chip 910B                                 # one step in full
    scrfd audit configs/{scrfd,damofd,retinaface}/*.py --chip 910A 910B 310P              # a line for each

Needs no card: shapes are followed, nothing is computed. Exit code 1 if a training step holds an operator
that runs on the host or the AI CPU, has a dynamic shape, makes the host wait, or sorts fp32 as fp16. Where
operators run comes from the vendor's sources (mmdet/testing/ascend_tables/placement.txt). Times are
estimates, which --assume changes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mmdet.cli import add_config, add_shared, make_parser
from mmdet.errors import ConfigError

DEVICES = ("meta", "npu")


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config(parser, nargs="+")
    add_shared(parser, "--chip", nargs="+", default=["910B"])
    add_shared(parser, "--batch-size", help="images per step (default: the config's)")
    add_shared(parser, "--size")
    add_shared(parser, "--faces", default=10)
    parser.add_argument("--slots", type=int, default=32, help="gt slots per image (default: 32)")
    add_shared(parser, "--amp")
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), help="default: the config's")
    parser.add_argument(
        "--assume",
        nargs="+",
        default=[],
        action="extend",
        metavar="NAME=VALUE",
        help="see mmdet/testing/cost.py",
    )
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--train", dest="is_train", action="store_true", default=True, help="the default")
    step.add_argument("--eval", dest="is_train", action="store_false", help="the forward pass of testing")
    add_shared(
        parser, "--device", default="meta", choices=DEVICES, help="meta: no card, shapes only (default)"
    )
    add_shared(parser, "--json", type=Path, help="also write the table as JSON")
    add_shared(parser, "--cfg-options")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if not 0 <= args.faces <= args.slots:
        raise ConfigError(f"--faces {args.faces} must be between 0 and --slots {args.slots}")

    from mmdet.device import check_chip, pick_device
    from mmdet.testing.audit import META
    from mmdet.testing.audit_report import overview
    from mmdet.testing.cost import assume

    device = META if args.device == "meta" else pick_device(args.device)
    for chip in args.chip:
        check_chip(chip, device)
        assume(chip, args.assume)
    audits = [audit for config in args.config for audit in _audits(args, config, device)]
    print("\n".join(audits[0].lines() if len(audits) == 1 else overview(audits)))
    if args.json:
        reports = [audit.as_dict() for audit in audits]
        args.json.write_text(json.dumps(reports[0] if len(reports) == 1 else reports, indent=1) + "\n")
    if args.is_train:
        _check_graphs(args, audits)
    return 1 if args.is_train and any(audit.num_offences() for audit in audits) else 0


def _check_graphs(args: argparse.Namespace, audits: list[Any]) -> None:
    """Refuse `speed.graph` where an operator forbids it."""
    from mmdet.config import load_config

    for audit in audits:
        if load_config(audit.config, args.cfg_options).speed.graph and audit.why_no_capture():
            raise ConfigError(f"speed.graph on {audit.chip}: a graph is {audit.why_no_capture()}")


def _audits(args: argparse.Namespace, config: str, device: Any) -> list[Any]:
    """Record the step of one config and return its audit for every chip."""
    from mmdet.config import load_config
    from mmdet.testing.audit_report import Audit
    from mmdet.testing.audit_step import draw_batch, for_card, record_test, record_training, with_amp
    from mmdet.testing.cost import assume
    from mmdet.testing.placement import saturates

    cfg = with_amp(load_config(config, args.cfg_options), args.amp, args.dtype)
    batch = draw_batch(args.batch_size or cfg.data.samples_per_gpu, args.size, args.faces, args.slots)
    if not args.is_train:
        recorder, step = record_test(cfg, device, batch), "test forward"
        return [Audit(config, step, chip, recorder, batch, assume(chip, args.assume)) for chip in args.chip]
    batch, step = for_card(cfg, batch), f"training step, {cfg.amp.level}"
    recorders = {how: record_training(cfg, device, [batch], how)[0] for how in set(map(saturates, args.chip))}
    return [
        Audit(config, step, chip, recorders[saturates(chip)], batch, assume(chip, args.assume))
        for chip in args.chip
    ]
