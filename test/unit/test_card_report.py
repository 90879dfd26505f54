"""tools/card_report.py: missing, late or broken parts leave the others alone; a tiny one on the CPU."""

import json
import os
import subprocess
import sys

import pytest

from mmdet.errors import ConfigError
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


# What an Ascend or CUDA image has: torch with what it requires, numpy, OpenCV. Everything else is hidden.
HIDE = """
import importlib.machinery, importlib.metadata as metadata, re

def required(name, seen):
    if name not in seen:
        seen.add(name)
        for text in metadata.requires(name) or ():
            try:
                if "extra ==" not in text:
                    required(re.split(r"[^\\w.-]", text)[0].lower().replace("_", "-"), seen)
            except metadata.PackageNotFoundError:
                pass
    return seen

kept = required("torch", set()) | {"numpy", "opencv-python-headless"}
hidden = {
    top for top, names in metadata.packages_distributions().items()
    if top != "mmdet" and not any(n.lower().replace("_", "-") in kept for n in names)
}
find = importlib.machinery.PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else find(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""


@pytest.mark.slow
def test_it_runs_with_torch_numpy_and_opencv_alone(repo, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    paths = os.pathsep.join([str(tmp_path), str(repo)])
    env = {**os.environ, "PYTHONPATH": paths, "TORCHDYNAMO_DISABLE": "1"}  # compiling takes minutes
    names = ("mmengine", "scipy", "yaml", "tqdm")
    hidden = f"import importlib.util as u; print([u.find_spec(n) for n in {names}])"
    done = subprocess.run([sys.executable, "-c", hidden], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[None, None, None, None]\n"
    command = [sys.executable, "tools/card_report.py", "--device", "cpu", "--out", str(tmp_path / "report")]
    command += [
        "--config",
        "configs/scrfd/scrfd_500m.py",
        "--batch-size",
        "2",
        "--size",
        "64",
        "--iters",
        "3",
    ]
    done = subprocess.run([*command, "--budget-s", "3000"], cwd=repo, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report/card_report.json").read_text())
    assert report["device_tests"]["left_out"] == "pytest is not installed"
    found = report["precision"]["result"]["largest relative difference of the loss"]
    assert found["O0 float16"] == 0 and 0 < found["O2 float16"] < 0.2
    assert report["step"]["result"]["plain"]["images/s"] > 0
    assert report["step"]["result"]["graph"].startswith("left out: ")
    assert report["to_device"]["result"]["GB/s"]["uint8 ordinary"] > 0
    assert "fps" in report["training"]["result"]


def test_the_tool_says_what_it_takes(repo):
    command = [sys.executable, "tools/card_report.py", "--help"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    assert "--out" in done.stdout
