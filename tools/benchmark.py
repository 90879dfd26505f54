"""Measure one part of the trainer against a plain baseline in the same run; see docs/benchmarks.md.

python tools/benchmark.py targets --batch 32
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import add_shared, make_parser, run_cli

# name: (module with add_arguments(parser) and run(args) -> dict, what it measures)
COMMANDS = {
    "targets": ("benchmark.targets", "assignment, targets and losses"),
    "multibox": ("benchmark.multibox", "the same of RetinaFace"),
    "evaluation": ("benchmark.evaluation", "WIDER FACE average precision"),
    "data": ("benchmark.data", "JPEG files to a normalised batch"),
    "step": ("benchmark.step", "a training step, part by part, and its roofline"),
    "infer": ("benchmark.infer", "image files to faces with an ONNX model"),
    "startup": ("benchmark.startup", "from the command line to the first iteration"),
    "unassigned": ("benchmark.unassigned", "training faces that no anchor would learn"),
    "search": ("benchmark.search", "architecture search: evolution and FLOPs of candidates"),
}
ALIASES = {"eval": "evaluation"}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    name = ALIASES.get(name, name)
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for known, (module, summary) in COMMANDS.items():
        aliases = [alias for alias, target in ALIASES.items() if target == known]
        command = commands.add_parser(known, aliases=aliases, help=summary, description=summary)
        if known != name:  # its module need not be loaded: torch is slow to import
            continue
        loaded = importlib.import_module(module)
        loaded.add_arguments(command)
        add_shared(command, "--json")
        command.set_defaults(run=loaded.run)
    args = parser.parse_args()

    from benchmark.measure import report

    report(args.run(args), name, args.json)


if __name__ == "__main__":
    run_cli(main)
