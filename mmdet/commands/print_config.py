"""Print a config file with its bases and --cfg-options resolved, as python that can be loaded again.

--help-keys lists every key of a config file with its type, limits, default and meaning (docs/config.md).
"""

from mmdet.cli import add_shared, make_parser
from mmdet.config.find import find_config


def main() -> None:
    parser = make_parser(__doc__)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("config", type=find_config, nargs="?", help="config file")
    either.add_argument("--help-keys", action="store_true", help="print every key a config file may have")
    add_shared(parser, "--cfg-options")
    add_shared(parser, "--safe")
    args = parser.parse_args()

    from mmdet.config import dump, help_keys, load_config

    if args.help_keys:
        print(help_keys(), end="")
        return
    print(dump(load_config(args.config, args.cfg_options)), end="")
