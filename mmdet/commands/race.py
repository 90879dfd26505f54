"""Let recipes race: the same processor seconds or images, several seeds, one evaluator (docs/recipes.md).

    scrfd race run configs/races/facemask.py --out work_dirs/race
    scrfd race report configs/races/facemask.py --out work_dirs/race

Finished runs are kept: called again, it goes on. Another program takes part by a command of its own.
"""

import argparse
from pathlib import Path

from mmdet.cli import add_shared, make_parser
from mmdet.config.find import find_config


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("command", choices=("run", "report"), help="run: what is not finished, then report")
    add("race", type=find_config, help="race file, for example configs/races/facemask.py")
    add("--out", metavar="DIR", help="folder of the runs (default: work_dirs/<race file>)")
    add_shared(parser, "--device", default="cpu")
    add_shared(parser, "--cfg-options", help="changes of the file, for example race.seeds=[0]")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmdet.files import write_text
    from mmdet.race.report import plot, table
    from mmdet.race.run import Race
    from mmdet.race.settings import RaceSettings
    from mmdet.search.settings import read_settings

    settings = read_settings(args.race, RaceSettings, args.cfg_options, section="race")
    race = Race(settings, Path(args.out or f"work_dirs/{Path(args.race).stem}"), args.device)
    if args.command == "run":
        race.run()
    runs = race.results()
    text = table(settings, runs) if runs else "no run is finished yet\n"
    print(text)
    if runs:
        write_text(race.out / "report.md", text)
        for test in settings.tests:
            plot(settings, runs, test, race.out / f"{test}.png")
