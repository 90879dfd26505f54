"""tools/card_report.py: missing, late or broken parts leave the others alone; a tiny one on the CPU."""

import json
import subprocess
import sys

import pytest

from mmdet.errors import ConfigError
from mmdet.testing import card_report
from mmdet.testing.card_report import Missing, Setup, to_markdown, write_report


def setup_for(folder, **changes):
    values = dict(device="cpu", config="c.py", batch_size=2, size=64, iters=3, budget_s=300.0, out=folder)
    return Setup(**values | changes)


def missing(setup, time_s):
    raise Missing("pytest is not installed")


def late(setup, time_s):
    raise subprocess.TimeoutExpired("x", 5)


def broken(setup, time_s):
    raise subprocess.CalledProcessError(1, "x", "", "Traceback ...\nRuntimeError: aclnnAdd failed\n")


def fine(setup, time_s):
    return {"plain": {"ms": 12.3456, "images/s": 100.0}, "graph": "left out: no graphs"}


def test_every_part_is_reported(tmp_path):
    parts = {"tests": missing, "precision": late, "copies": broken, "step": fine}
    assert write_report(setup_for(tmp_path / "out"), parts) == 1
    report = json.loads((tmp_path / "out/card_report.json").read_text())
    assert report["tests"]["left_out"] == "pytest is not installed"
    assert report["precision"]["left_out"].startswith("not done after")
    assert report["copies"]["failed"] == "RuntimeError: aclnnAdd failed"
    page = (tmp_path / "out/card_report.md").read_text()
    for line in (
        "| plain ms | 12.35 |",
        "| graph | left out: no graphs |",
        "failed: RuntimeError: aclnnAdd failed",
    ):
        assert line in page
    assert write_report(setup_for(tmp_path / "out"), {"step": fine, "tests": missing}) == 0


def test_without_time_a_part_is_left_out(tmp_path):
    assert write_report(setup_for(tmp_path, budget_s=1.0), {"step": fine}) == 0
    report = json.loads((tmp_path / "card_report.json").read_text())
    assert report["step"]["left_out"] == "no time left of 1 s"


def test_simulated_cards_are_named_as_such():
    system = {"packages": {"torch": "2.13.0"}, "python": "3.11", "platform": "Linux", "is_simulated": True}
    setup = {"config": "c.py", "batch_size": 1, "size": 64}
    assert "no figure here is a card's speed" in to_markdown({"setup": setup, "system": system})


@pytest.mark.parametrize("changes", [{"iters": 0}, {"batch_size": 0}, {"budget_s": 0.0}])
def test_numbers_below_one_are_refused(changes, tmp_path):
    with pytest.raises(ConfigError, match="give numbers above 0"):
        write_report(setup_for(tmp_path, **changes), {})


@pytest.mark.slow
def test_the_parts_work_on_a_cpu(repo, tmp_path):
    setup = setup_for(tmp_path, config=str(repo / "configs/scrfd/scrfd_500m.py"))
    found = card_report.precision(setup, 600)["largest relative difference of the loss"]
    assert found["O0 float16"] == 0 and 0 < found["O2 float16"] < 0.2
    plain = card_report._measure("print(json.dumps(time_steps(setup, 'plain')))", setup, 300)
    assert plain["images/s"] > 0
    assert card_report.to_device(setup, 600)["GB/s"]["uint8 ordinary"] > 0
    metrics = card_report.training(setup, 900)
    assert metrics["fps"] > 0 if "fps" in metrics else metrics


def test_the_tool_says_what_it_takes(repo):
    command = [sys.executable, "tools/card_report.py", "--help"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    assert "--out" in done.stdout
