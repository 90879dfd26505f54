"""Body of test/train_*.sh: train, evaluate, write the figures. See mmdet/launch/run.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import run_cli
from mmdet.launch.args import parse_args
from mmdet.launch.run import launch

if __name__ == "__main__":
    run_cli(lambda: launch(parse_args(sys.argv[1:])))
