"""let_threads_sleep: the user's setting wins, and the trainer says it before torch loads OpenMP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet.process import let_threads_sleep

REPO = Path(__file__).resolve().parents[2]
SPY = """
import os, runpy, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch loads with", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            sys.exit(0)
sys.meta_path.insert(0, Spy())
sys.argv = ["train.py", "absent.py"]
runpy.run_path("tools/train.py", run_name="__main__")
"""


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_users_setting_wins(before, after, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if before:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_the_trainer_says_it_before_torch_loads():
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", SPY], capture_output=True, text=True, cwd=REPO, env=env)
    assert done.stdout == "torch loads with PASSIVE\n", done.stderr
