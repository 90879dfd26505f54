"""List the operators of a training step and what an Ascend NPU does with each.

Exit code 1 if a training step holds an operator that falls back to the CPU, has a dynamic shape or makes
the host wait for the device. Runs on an NPU (or a simulated one) if there is one, else on the CPU.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import add_config, add_shared, make_parser, run_cli
from mmdet.errors import ConfigError

DEVICES = ("auto", "npu", "cpu")


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config(parser)
    add_shared(parser, "--batch-size", default=8)
    add_shared(parser, "--size")
    add_shared(parser, "--faces", default=10)
    parser.add_argument("--slots", type=int, default=32, help="gt slots per image (default: 32)")
    add_shared(parser, "--amp")
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), help="default: the config's")
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--train", dest="is_train", action="store_true", default=True, help="the default")
    step.add_argument("--eval", dest="is_train", action="store_false", help="the forward pass of testing")
    add_shared(parser, "--device", choices=DEVICES, help="auto chooses between npu and cpu only")
    add_shared(parser, "--json", type=Path, help="also write the table as JSON")
    add_shared(parser, "--cfg-options")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if not 0 <= args.faces <= args.slots:
        raise ConfigError(f"--faces {args.faces} must be between 0 and --slots {args.slots}")

    import torch

    from mmdet.config import load_config
    from mmdet.device import pick_device
    from mmdet.testing.ascend_ops import operators
    from mmdet.testing.audit_step import draw_batch, record_test, record_training, with_amp

    cfg = with_amp(load_config(args.config, args.cfg_options), args.amp, args.dtype)
    device = pick_device(args.device)
    if device.type not in DEVICES:
        device = torch.device("cpu")
    batch = draw_batch(args.batch_size, args.size, args.faces, args.slots)
    recorder = record_training(cfg, device, [batch])[0] if args.is_train else record_test(cfg, device, batch)

    rows, offenders = recorder.rows(), recorder.offenders()
    step = f"training step, {cfg.amp.level}" if args.is_train else "test forward"
    print(f"{args.config}: {step}, batch {tuple(batch.images.shape)}, on {device}; {operators().source}")
    print(f"{'verdict':14}{'count':>7}{'shapes':>8}  operator and dtypes")
    for row in rows:
        print(f"{row.verdict:14}{row.count:7}{row.num_shapes:8}  {row.name} ({', '.join(row.dtypes)})")
        for place in row.places[:5]:
            print(f"{'':31}at {place}")
    print(f"{len(recorder.calls)} calls of {len(rows)} operators, {len(offenders)} unsuited to an NPU")
    if args.json:
        report = {
            "config": args.config,
            "step": step,
            "device": str(device),
            "source": operators().source,
            "batch": list(batch.images.shape),
            "operators": [asdict(row) for row in rows],
            "num_offending": len(offenders),
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if offenders and args.is_train else 0


if __name__ == "__main__":
    run_cli(main)
