"""The parts of tools/card_report.py: each runs in a process of its own, so that none can spoil another."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmdet.errors import ConfigError
from mmdet.files import write_json, write_text
from mmdet.testing.run_report import collect_system

REPO = Path(__file__).resolve().parents[2]
LEAST_S = 10.0  # a part that has less time than this is left out


@dataclass(frozen=True)
class Setup:
    """What to measure; see the tool's options."""

    device: str
    config: str
    batch_size: int
    size: int
    iters: int
    budget_s: float
    out: Path


class Missing(Exception):
    """Why a part is left out."""


Part = Callable[[Setup, float], Any]


def write_report(setup: Setup, parts: Mapping[str, Part]) -> int:
    """Run all parts, one after another, and write what they found.

    Returns:
        0; 1 if a part failed.
    """
    if setup.iters < 1 or setup.batch_size < 1 or setup.budget_s <= 0:
        raise ConfigError("--iters, --batch-size and --budget-s: give numbers above 0")
    setup.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + setup.budget_s
    report: dict[str, Any] = {"setup": {**vars(setup), "out": str(setup.out)}, "system": collect_system()}
    for name, part in parts.items():
        start = time.monotonic()
        try:
            if end - start < LEAST_S:
                raise Missing(f"no time left of {setup.budget_s:g} s")
            found = {"result": part(setup, end - start)}
        except Missing as missing:
            found = {"left_out": str(missing)}
        except subprocess.TimeoutExpired:
            found = {"left_out": f"not done after {time.monotonic() - start:.0f} s"}
        except subprocess.CalledProcessError as error:
            found = {"failed": _last_line(error.stderr or error.stdout or "")}
        report[name] = {**found, "seconds": round(time.monotonic() - start, 1)}
        print(f"{name}: {next(iter(found))} ({report[name]['seconds']} s)", flush=True)
    write_json(setup.out / "card_report.json", report)
    write_text(setup.out / "card_report.md", to_markdown(report))
    print(f"wrote {setup.out}/card_report.json and card_report.md")
    return 1 if any("failed" in v for v in report.values() if isinstance(v, dict)) else 0


def to_markdown(report: Mapping[str, Any]) -> str:
    """Return the page: versions, then one table of figures per part."""
    setup, system = report["setup"], report["system"]
    lines = ["# Card report", "", f"{setup['config']}, batch {setup['batch_size']}, {setup['size']} px", ""]
    lines += [f"* {name} {version}" for name, version in system["packages"].items()]
    lines += [f"* Python {system['python']}, {system['platform']}"]
    if system["is_simulated"]:
        lines += ["* **simulated cards: no figure here is a card's speed**"]
    for name, part in report.items():
        if name in ("setup", "system"):
            continue
        lines += ["", f"## {name.replace('_', ' ')}", ""]
        if "result" not in part:
            lines.append(
                " ".join(f"{key.replace('_', ' ')}: {part[key]}" for key in part if key != "seconds")
            )
        else:
            lines += ["| figure | value |", "|---|---|"]
            lines += [f"| {key} | {value} |" for key, value in _flatten(part["result"])]
    return "\n".join(lines) + "\n"


def _flatten(values: Any, path: str = "") -> list[tuple[str, object]]:
    if not isinstance(values, Mapping):
        shown = f"{values:.4g}" if isinstance(values, float) else values
        return [(path or "value", shown)]
    return [row for key, value in values.items() for row in _flatten(value, f"{path} {key}".strip())]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:300]


def _run(command: list[str], timeout_s: float) -> str:
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *command], cwd=REPO, env=environ, capture_output=True, text=True, timeout=timeout_s
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def _measure(code: str, setup: Setup, timeout_s: float) -> Any:
    """Run Python code that prints one JSON object as its last line; `setup` is there."""
    head = (
        f"import json, time, torch\nfrom mmdet.testing.card_parts import *\n"
        f"setup = json.loads({json.dumps({**vars(setup), 'out': str(setup.out)})!r})\n"
    )
    return json.loads(_run(["-c", head + code], timeout_s).strip().splitlines()[-1])


def device_tests(setup: Setup, time_s: float) -> dict[str, str]:
    """Run the tests marked for this kind of device."""
    kind = _measure("print(json.dumps(device_of(setup).type))", setup, time_s)
    if find_spec("pytest") is None:
        raise Missing("pytest is not installed")
    if kind == "cpu":
        raise Missing("no tests are marked for the CPU")
    text = _run(["-m", "pytest", "-q", "-m", kind, "test/unit", "-p", "no:cacheprovider"], time_s / 3)
    return {"pytest": _last_line(text)}


def precision(setup: Setup, time_s: float) -> Any:
    """Compare losses of a few steps at O0, O1 and O2 with the CPU's at O0."""
    return _measure("print(json.dumps(compare_levels(setup)))", setup, time_s / 2)


def step(setup: Setup, time_s: float) -> Any:
    """Time steps, plain and with each option of `speed`, each in a process of its own."""
    found = {}
    for variant in ("plain", "channels_last", "graph", "compile"):
        try:
            found[variant] = _measure(f"print(json.dumps(time_steps(setup, {variant!r})))", setup, time_s / 6)
        except subprocess.TimeoutExpired:
            found[variant] = f"left out: not done after {time_s / 6:.0f} s"
    return found


def to_device(setup: Setup, time_s: float) -> Any:
    """Time the copy of batches, fp32 and uint8, from ordinary and page-locked memory."""
    return _measure("print(json.dumps(time_copies(setup)))", setup, time_s / 2)


def training(setup: Setup, time_s: float) -> Any:
    """Train on drawn faces and report the FPS that the launchers report."""
    from mmdet.testing.card_parts import train_command

    data = setup.out / "toy"
    if not (data / "train").is_dir():
        _run(["-m", "mmdet", "toy", "--out", str(data), "--train", "64", "--val", "0"], time_s)
    _run(train_command(setup, data), time_s)
    return json.loads((setup.out / "run" / "metrics.json").read_text())


PARTS: dict[str, Part] = {
    "device_tests": device_tests,
    "precision": precision,
    "step": step,
    "to_device": to_device,
    "training": training,
}
