"""Say what is installed, which devices there are, what is missing, and the command that brings it.

Exit code 1 if neither training nor detection can run here.
"""

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mmdet import __version__
from mmdet.cli import make_parser
from mmdet.errors import MMDetError

DISTRIBUTION = "scrfd-trainer"
REQUIREMENT = re.compile(r"([\w.-]+)([^;]*)(?:;.*extra == ['\"]([\w-]+)['\"])?")
# What is needed, as it is imported and as it is installed.
BOTH = {"numpy": "numpy", "cv2": "opencv-python-headless", "tqdm": "tqdm"}
DETECTION = BOTH | {"onnxruntime": "onnxruntime"}
TRAINING = BOTH | {"torch": "torch", "scipy": "scipy", "pycocotools": "pycocotools"}
TRAINING |= {"mmengine": "mmengine-lite", "matplotlib": "matplotlib"}


def main() -> int:
    make_parser(__doc__).parse_args()
    print(f"{DISTRIBUTION} {__version__} in {Path(__file__).parents[1]}")
    print(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    print("\n".join([*package_lines(), "", *provider_lines(), *device_lines(), *program_lines()]))
    lacks = {"detection": _lacking(DETECTION), "training": _lacking(TRAINING)}
    print()
    for what, names in lacks.items():
        print(f"{what}: {'pip install ' + ' '.join(names) if names else 'ready'}")
    return int(all(lacks.values()))


def package_lines() -> list[str]:
    """Return the installed versions, and per extra what is missing and the command that installs it."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [f"{DISTRIBUTION} is not installed: pip install -e . in {Path(__file__).parents[2]}"]
    found, missing = {}, defaultdict(list)
    for line in required:
        match = REQUIREMENT.match(line)
        assert match
        name, limit, extra = match.groups()
        version = _version(name)
        if version:
            found[name] = version
        else:
            missing[extra or "everything"].append(name + limit.strip())
    lines = [", ".join(f"{name} {version}" for name, version in sorted(found.items()))]
    for extra, names in sorted(missing.items()):
        lines.append(f"missing for {extra}: pip install {' '.join(map(shlex.quote, names))}")
    return lines


def provider_lines() -> list[str]:
    """Return what the installed onnxruntime computes on."""
    if not find_spec("onnxruntime"):
        return ["onnxruntime: not installed"]
    from mmdet.deploy.runtime.session import import_onnxruntime

    try:
        return [f"onnxruntime: {', '.join(import_onnxruntime().get_available_providers())}"]
    except MMDetError as error:
        return [f"onnxruntime: {error}"]


def device_lines() -> list[str]:
    """Return for each kind of device what it is, or why it cannot be used."""
    if not find_spec("torch"):
        return ["torch: not installed, so there is no training here"]
    from mmdet.device import DEVICE_CHOICES, device_summary, pick_device

    lines = []
    for kind in DEVICE_CHOICES[1:]:
        try:
            lines.append(f"{kind}: {device_summary(pick_device(kind))}")
        except MMDetError as error:
            lines.append(f"{kind}: no ({str(error).partition(': ')[2] or error})")
    return lines


def program_lines() -> list[str]:
    """Return which programs beside Python's were found, and what is lost without them."""
    programs = {"ffmpeg": "films that are drawn keep no sound", "atc": "no OM files (CANN's set_env.sh)"}
    return [f"{name}: {shutil.which(name) or 'not found, ' + loss}" for name, loss in programs.items()]


def _lacking(modules: Mapping[str, str]) -> list[str]:
    return [name for module, name in modules.items() if not find_spec(module)]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
