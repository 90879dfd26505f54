"""Print a config file with its bases and --cfg-options resolved, as python that can be loaded again.

--help-keys lists every key of a config file with its type, limits, default and meaning (docs/config.md).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import add_shared, make_parser, run_cli
from mmdet.config import dump, help_keys, load_config


def main() -> None:
    parser = make_parser(__doc__)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("config", nargs="?", help="config file")
    either.add_argument("--help-keys", action="store_true", help="print every key a config file may have")
    add_shared(parser, "--cfg-options")
    args = parser.parse_args()
    if args.help_keys:
        print(help_keys(), end="")
        return
    print(dump(load_config(args.config, args.cfg_options)), end="")


if __name__ == "__main__":
    run_cli(main)
