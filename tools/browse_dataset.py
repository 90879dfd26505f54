#!/usr/bin/env python
"""Write augmented training pictures with boxes (green), ignore boxes (gray) and keypoints (red)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.errors import ConfigError, run_cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, for example configs/scrfd/scrfd_500m_bnkps.py")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--num", type=int, default=20, help="number of pictures (default 20)")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--epoch", type=int, default=0, help="whose random numbers to use (default 0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        action="extend",
        metavar="KEY=VALUE",
        help="settings to change",
    )
    args = parser.parse_args()

    from mmdet.config import load_config
    from mmdet.datasets.build import build_dataset
    from mmdet.datasets.draw import write_pictures

    cfg = getattr(load_config(args.config, args.cfg_options).data, args.split)
    if cfg is None:
        raise ConfigError(f"{args.config} has no data.{args.split}")
    dataset = build_dataset(cfg, test_mode=args.split == "val", seed=args.seed, path=f"data.{args.split}")
    files = write_pictures(dataset, args.output_dir, args.num, args.epoch)
    print(f"wrote {len(files)} pictures to {args.output_dir}")


if __name__ == "__main__":
    run_cli(main)
