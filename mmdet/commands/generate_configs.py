"""Draw config files for SCRFD's two-step search: candidates of a budget (docs/search.md).

scrfd search configs configs/search/scrfd_2.5g.py --mode 1
scrfd search configs configs/search/scrfd_2.5g.py --mode 2 --template 17
"""

from pathlib import Path

from mmdet.cli import add_shared, at_least, make_parser
from mmdet.config.find import find_config


def main() -> None:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("config", type=find_config, help="search file, for example configs/search/scrfd_2.5g.py")
    add(
        "--mode",
        type=int,
        choices=(1, 2),
        default=1,
        help="1: backbone; 2: scale the template, draw neck and head",
    )
    add("--group", metavar="DIR", help="folder, its name is the files' prefix (default: work_dirs/<config>)")
    add(
        "--template",
        type=at_least(0),
        default=0,
        metavar="N",
        help="file number in --group; 0: the config's base",
    )
    add("--num-configs", type=at_least(1), default=64, metavar="N", help="files to write (default: 64)")
    add("--gflops", type=float, metavar="G", help="budget (default: the file's)")
    add("--eps", type=float, metavar="E", help="relative distance from the budget (default: the file's)")
    add_shared(parser, "--seed")
    add_shared(parser, "--cfg-options", help="changes of the file, for example search.guided=True")
    add_shared(parser, "--safe")
    args = parser.parse_args()

    from mmdet.search.generate import generate
    from mmdet.search.sample import SampleSettings
    from mmdet.search.settings import read_settings

    budget = [f"search.{name}={getattr(args, name)}" for name in ("gflops", "eps") if getattr(args, name)]
    settings = read_settings(args.config, SampleSettings, [*args.cfg_options, *budget])
    group = Path(args.group or Path("work_dirs") / Path(args.config).stem).resolve()
    paths = generate(settings, args.mode, group, args.num_configs, args.template, args.seed)
    print(f"{len(paths)} configs: {paths[0]} .. {paths[-1].name}")
