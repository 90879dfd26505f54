"""Gather what a report about a run on real hardware needs into one file: versions, settings, figures, log.

    scrfd report runs WORK_DIR [WORK_DIR ...] --out report.json

The file holds no images, no weights and no paths outside the folders named here. Read it before you send it.
"""

import argparse
import json
from pathlib import Path

from mmdet.cli import make_parser
from mmdet.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("work_dir", nargs="+", type=Path, help="folder of a run, holding metrics.json")
    parser.add_argument("--out", type=Path, default=Path("report.json"), help="default: report.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    missing = [str(folder) for folder in args.work_dir if not (folder / "metrics.json").is_file()]
    if missing:
        raise ConfigError(f"no metrics.json in {', '.join(missing)}; a run writes it when it ends")

    from mmdet.testing.run_report import collect_run, collect_system

    report = {"system": collect_system(), "runs": [collect_run(folder) for folder in args.work_dir]}
    try:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {args.out}: {error.strerror}") from error
    for run in report["runs"]:
        figures = run["metrics"]
        aps = ", ".join(f"{name} {figures.get(f'AP_{name}')}" for name in ("easy", "medium", "hard"))
        print(f"{run['name']}: {figures.get('fps')} img/s on {figures.get('device')}; AP {aps}")
    print(f"wrote {args.out}")
