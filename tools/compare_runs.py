"""The script form of `scrfd report compare`, for a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmdet.cli import run_cli
from mmdet.commands.compare_runs import main

if __name__ == "__main__":
    run_cli(main)
