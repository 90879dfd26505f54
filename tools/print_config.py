"""Print a config file with its bases and --cfg-options resolved, as python that can be loaded again."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.config import dump, load_config
from mmdet.errors import run_cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, for example configs/scrfd/scrfd_2.5g.py")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        action="extend",
        metavar="KEY=VALUE",
        help="settings to change, for example optimizer.lr=0.02 data.train.pipeline.2.crop_choice=[0.5,1]",
    )
    args = parser.parse_args()
    print(dump(load_config(args.config, args.cfg_options)), end="")


if __name__ == "__main__":
    run_cli(main)
