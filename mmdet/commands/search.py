"""Train the candidates of an architecture search and rank them (docs/search.md).

    scrfd search run configs/search/study_2.5g.py --data-root DIR --devices 0-7
    scrfd search best configs/search/study_2.5g.py

Workers of one study may run on any machines that reach its --storage.
"""

import argparse

from mmdet.cli import add_shared, make_parser
from mmdet.config.find import find_config

COMMANDS = {
    "run": "claim candidates, train and evaluate them, until all are done",
    "status": "how many candidates are done, running, left",
    "best": "the table, the best candidate and how certain that is; writes OUT/best.py",
    "plot": "FLOPs per stage against AP, and the distribution of errors",
}


def main() -> None:
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add_study(command)
        if name == "run":
            add = command.add_argument
            add(
                "--devices",
                default="0",
                metavar="0-7",
                help="cards, one worker each: 0-7 or 0,2 (default: 0)",
            )
            add_shared(command, "--device")
            add_shared(command, "--data-root")
    args = parser.parse_args()

    from mmdet.search import commands as library

    getattr(library, args.command)(args)


def add_study(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", type=find_config, help="study file, for example configs/search/study_2.5g.py")
    add("--out", metavar="DIR", help="folder of the trials (default: work_dirs/<study>)")
    add("--name", help="name of the study in its storage (default: the file's)")
    add(
        "--storage",
        metavar="URL",
        help="sqlite:///FILE, journal:FILE, postgresql://... (default: OUT/study.db)",
    )
    add_shared(parser, "--epochs", help="epochs of each training (default: the file's)")
    add_shared(parser, "--safe")
    add_shared(parser, "--cfg-options", help="changes of the file, for example search.num_candidates=8")
