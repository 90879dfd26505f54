"""Search a DamoFD backbone by its zero-cost score (docs/search.md).

scrfd search ddsar configs/search/ddsar_500m.py --out work_dirs/ddsar
"""

from pathlib import Path

from mmdet.cli import add_shared, at_least, make_parser
from mmdet.config.find import find_config


def main() -> None:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("config", type=find_config, help="search file, for example configs/search/ddsar_500m.py")
    add(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for best_structure.txt, population.csv, a config, ...",
    )
    add_shared(parser, "--seed")
    add("--rounds", type=at_least(1), metavar="N", help="mutations to try (default: the file's, 96000)")
    add(
        "--score",
        default="ddsar",
        help="ddsar, gradnorm, syncflow, naswot, zen, te-nas, flops, params or random",
    )
    add_shared(parser, "--workers", type=at_least(1), default=1, help="processes that score (default: 1)")
    add_shared(parser, "--device", default="cpu", help="for the scores that build a network (default: cpu)")
    add(
        "--reference-rules", action="store_true", help="score repeated structures again, as the original does"
    )
    add("--resume", action="store_true", help="continue the search in --out")
    add_shared(parser, "--cfg-options", help="changes of the file, for example search.budget_mflops=60")
    add_shared(parser, "--safe")
    args = parser.parse_args()

    from mmdet.models.plainnet.cost import count_flops, receptive_field
    from mmdet.models.plainnet.structure import count_layers, to_string
    from mmdet.search.ddsar import DdsarOptions, DdsarSettings, run_ddsar
    from mmdet.search.settings import read_settings

    rounds = [f"search.rounds={args.rounds}"] if args.rounds else []
    settings = read_settings(args.config, DdsarSettings, [*args.cfg_options, *rounds])
    options = DdsarOptions(
        name=Path(args.config).stem,
        out=Path(args.out),
        seed=args.seed,
        score=args.score,
        workers=args.workers,
        device=args.device,
        reference_rules=args.reference_rules,
        resume=args.resume,
    )
    evolution = run_ddsar(settings, options)
    counts = ", ".join(f"{count} {name}" for name, count in evolution.outcomes.most_common())
    print(f"{evolution.round} rounds: {counts}")
    score, structure = evolution.best()
    print(f"best {options.score} {score:.6g} of {len(evolution.members)}; files in {options.out}")
    flops, layers = count_flops(structure, settings.side) / 1e6, count_layers(structure)
    print(f"{flops:.1f} MFLOPs, {layers} layers, receptive field {receptive_field(structure)} px")
    print(to_string(structure))
