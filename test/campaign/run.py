"""Attack every promise for some minutes, and write one report.

    make campaign MINUTES=60
    python test/campaign/run.py --minutes 5 --only checkpoints "labels labelv2" --seed 7
    python test/campaign/run.py --minutes 600 --inputs 100000 --kills 500   # to these numbers, however long

The report is written after each part, and after each training of "kills in training". Exit code 1 if
there is a finding. Each finding's input lies in OUT/findings; make a test of it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(Path(__file__).parent), str(REPO / "test" / "smoke")]

FUZZ_SHARE = 0.7  # of the minutes; the rest is for moments


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=REPO / "build" / "campaign")
    parser.add_argument("--inputs", type=int, default=10**9, metavar="N", help="at most, for each parser")
    parser.add_argument("--kills", type=int, default=10**9, metavar="N", help="at most, of trainings")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parsers and moments, by name")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from moments import MOMENTS
    from targets import all_targets

    args.out.mkdir(parents=True, exist_ok=True)
    targets = {k: t for k, t in all_targets().items() if not args.only or k in args.only}
    moments = {k: m for k, m in MOMENTS.items() if not args.only or k in args.only}
    report: dict = {"command": sys.argv, "seed": args.seed, "parsers": {}, "moments": {}}
    fuzz_s = 60 * args.minutes * (FUZZ_SHARE if moments else 1) / max(len(targets), 1)
    for name, target in targets.items():
        report["parsers"][name] = _fuzz(target, name, args, fuzz_s)
        _write(report, args.out)
    moments_s = 60 * args.minutes * ((1 - FUZZ_SHARE) if targets else 1) / max(len(moments), 1)
    for name, moment in moments.items():
        with tempfile.TemporaryDirectory() as folder:
            start, cpu_s = time.monotonic(), _cpu_s()
            found = moment(Path(folder), args.seed, (moments_s, args.kills))
            for part in [found] if isinstance(found, dict) else found:
                spent = {"seconds": time.monotonic() - start, "cpu_s": _cpu_s() - cpu_s}
                report["moments"][name] = part | {key: round(value, 1) for key, value in spent.items()}
                _write(report, args.out)
            print(f"{name}: {report['moments'][name]}", flush=True)
    num = sum(map(_num_findings, report["parsers"].values()))
    num += sum(len(found["findings"]) for found in report["moments"].values())
    print(f"{num} finding(s); {args.out / 'report.json'}", flush=True)
    return int(num > 0)


def _fuzz(target: Any, name: str, args: argparse.Namespace, budget_s: float) -> dict:
    from fuzz import fuzz

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        found = fuzz(target, name, args.seed, (budget_s, args.inputs), Path(folder))
        for file in (Path(folder) / "findings").glob("*"):
            (args.out / "findings").mkdir(exist_ok=True)
            (args.out / "findings" / file.name).write_bytes(file.read_bytes())
    print(f"{name}: {_line(found)}", flush=True)
    return found


def _write(report: dict, folder: Path) -> None:
    from mmdet.files import write_json

    write_json(folder / "report.json", report)


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _num_findings(found: dict) -> int:
    return len(found["unnamed"]) + len(found["crashes"]) + bool(found["endless"])


def _line(found: dict) -> str:
    return ", ".join(f"{key} {round(v, 2) if isinstance(v, float) else v}" for key, v in found.items())


if __name__ == "__main__":
    sys.exit(main())
