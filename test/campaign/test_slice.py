"""A short slice of the campaign: every parser for a second, and a few moments of each kind."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes")
SHORT = ("kills at calls", "bit flips", "full disks")


@pytest.fixture
def attack(repo, tmp_path):
    """Return a function that runs parts of the campaign and returns the report."""
    sys.path.insert(0, str(repo / "test/campaign"))

    def run(minutes, *names):
        command = [sys.executable, "test/campaign/run.py", "--minutes", f"{minutes:.3f}", "--kills", "4"]
        command += ["--out", str(tmp_path), "--only", *names]
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=300)
        return done, json.loads((tmp_path / "report.json").read_text())

    return run


@pytest.mark.slow
def test_a_slice_has_no_finding(attack):
    from targets import all_targets

    targets = all_targets()
    done, report = attack(1.2 * len(targets) / 60 / 0.7, *targets, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["parsers"].keys() == targets.keys()
    assert all(found["inputs"] and found["accepted"] for found in report["parsers"].values())
    assert (
        report["moments"]["kills at calls"]["kills"] > 50 and report["moments"]["bit flips"]["flips"] == 100
    )


@pytest.mark.slow
def test_killed_trainings_end_as_one_that_nobody_kills(attack):
    done, report = attack(4, "kills in training")
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["moments"]["kills in training"]["kills"] == 4


@pytest.mark.slow
def test_clocks_and_disks(attack):
    done, _ = attack(4, "surroundings")
    assert done.returncode == 0, done.stdout + done.stderr


def test_strangers_cost_no_answer(attack):
    """How long an answer takes depends on what else this machine does; the campaign asks for 2 s."""
    _, report = attack(4 / 60, "strangers")
    found = report["moments"]["strangers"]
    assert found["honest answers"] > 0 and not [
        text for text in found["findings"] if "honest answers:" in text
    ]


@pytest.mark.slow
def test_inputs_guided_by_coverage(attack):
    pytest.importorskip("atheris", reason="atheris is not installed")
    done, report = attack(0.3, "guided")
    assert done.returncode == 0, done.stdout + done.stderr
    assert min(report["moments"]["guided"]["inputs"].values()) > 10
