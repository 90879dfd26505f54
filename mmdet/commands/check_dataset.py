"""Find everything wrong with a data set in one pass, and show what it looks like.

    scrfd check data/own --out check          (train/ and val/ as docs/data.md says)
    scrfd check configs/scrfd/scrfd_500m_bnkps.py --cfg-options data_root=data/own/

Prints every kind of problem with a count and the first places; OUT/SET/ gets report.json, report.html,
plots.png and contact_sheet.jpg. With a config (--config beside a folder) the faces of train/ that its
assigner gives no anchor are counted, in one random crop of up to 1,000 images. --fix DIR writes cleaned
label files there. Exit code 1 after errors.
"""

from pathlib import Path

from mmdet.cli import add_shared, make_parser


def main() -> int:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("source", metavar="ROOT|CONFIG", help="data folder, or a config file")
    add("--out", metavar="DIR", help="folder for the reports")
    add("--fix", metavar="DIR", help="folder for cleaned label files; the originals are not changed")
    add("--decode", action="store_true", help="decode every image, not only its header")
    add_shared(parser, "--config", help="of the model, whose anchors and crops train/ is measured by")
    add_shared(parser, "--cfg-options")
    add_shared(parser, "--safe")
    add_shared(parser, "--overwrite")
    args = parser.parse_args()

    from mmdet.config import load_config
    from mmdet.datasets.check.run import check_sets, find_sets, sets_of
    from mmdet.errors import ConfigError

    for folder in filter(None, (args.out, args.fix)):
        if Path(folder).exists() and not args.overwrite:
            raise ConfigError(f"{folder} exists; give another name, or --overwrite to replace files in it")
    is_folder = Path(args.source).is_dir()
    config = args.config if is_folder else args.source
    cfg = load_config(config, args.cfg_options) if config else None
    sets = find_sets(Path(args.source)) if is_folder or cfg is None else sets_of(cfg.data)
    out, fix = (Path(path) if path else None for path in (args.out, args.fix))
    problems = check_sets(sets, out, args.decode, fix, cfg)
    for name, found in problems.items():
        print(f"{name}: {len(found) or 'no'} kinds of problems")
        for problem in found:
            print(f"  {'error' if problem.is_error else 'odd  '} {problem.count:6d}  {problem.what}")
            for example in problem.examples:
                print(f"                  {example}")
    return int(any(problem.is_error for found in problems.values() for problem in found))
