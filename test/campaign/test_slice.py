"""A short slice of the campaign: every parser for one second, and the moments that take no training."""

import json
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes")
def test_a_slice_has_no_finding(repo, tmp_path):
    sys.path.insert(0, str(repo / "test/campaign"))
    from moments import MOMENTS
    from targets import all_targets

    targets = all_targets()
    names = [*targets, *(name for name in MOMENTS if name != "kills in training")]
    minutes = str(1.2 * len(targets) / 60 / 0.7)
    command = [
        sys.executable,
        "test/campaign/run.py",
        "--minutes",
        minutes,
        "--out",
        str(tmp_path),
        "--only",
        *names,
    ]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["parsers"]) == len(targets) and all(
        found["inputs"] for found in report["parsers"].values()
    )
