"""Print a config file with its bases and --cfg-options resolved, as python that can be loaded again."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import add_config, add_shared, make_parser, run_cli
from mmdet.config import dump, load_config


def main() -> None:
    parser = make_parser(__doc__)
    add_config(parser)
    add_shared(parser, "--cfg-options")
    args = parser.parse_args()
    print(dump(load_config(args.config, args.cfg_options)), end="")


if __name__ == "__main__":
    run_cli(main)
