"""Packaging: `pip install -e .`; nothing is compiled.

The distribution is not called mmdet, because PyPI has one; the package it installs is.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SEARCH = ["optuna>=4"]  # campaigns on PostgreSQL: also psycopg[binary]
HEIC = ["pillow-heif"]  # photographs of iPhones, for detection
ONNX = ["onnx", "onnxslim", "onnxruntime"]  # export; detection needs only the last
IGNORED = shutil.ignore_patterns("__pycache__")


def read_requirements() -> list[str]:
    """Return the lines of requirements.txt that are not comments."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_version() -> str:
    """Return mmdet.__version__ without importing the package."""
    match = re.search(r'^__version__ = "(.+)"', (ROOT / "mmdet/__init__.py").read_text(), re.MULTILINE)
    assert match, "mmdet/__init__.py has no __version__"
    return match[1]


class BuildWithConfigs(build_py):
    """Put configs/ of the checkout into the package, where mmdet/config/find.py looks for them."""

    def run(self) -> None:
        """Build as always, then copy; a development installation reads the checkout's own."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "mmdet/configs")
            shutil.copytree(ROOT / "configs", target, ignore=IGNORED, dirs_exist_ok=True)


setup(
    name="scrfd-trainer",
    version=read_version(),
    description="SCRFD face detector training on Ascend NPU, CUDA and CPU",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["mmdet", "mmdet.*"]),
    package_data={
        "mmdet": ["py.typed"],
        "mmdet.deploy.web": ["*.html", "*.css", "*.js", "*.json"],
        "mmdet.testing": ["ascend_tables/*.txt"],
        "mmdet.testing.ascend_sim": ["csrc/*", "inject/*"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["scrfd = mmdet.commands.main:main"]},
    install_requires=read_requirements(),
    extras_require={
        "heic": HEIC,
        "npu": ["torch-npu"],
        "npu-sim": ["torch==2.13.0", "torch-npu==2.13.0"],  # for python -m mmdet.testing.ascend_sim
        "onnx": ONNX,
        "search": SEARCH,
        "tensorboard": ["tensorboard"],
        "wandb": ["wandb"],
        "albumentations": ["albumentations"],  # YAML configs that name other colour transforms than ours
        "test": [*ONNX, *SEARCH, *HEIC, "schemathesis", "pytest>=8", "pytest-xdist", "ruff", "mypy"],
    },
)
