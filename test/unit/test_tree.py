"""Rules of the tree that a review would otherwise have to remember."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from dataclasses import MISSING, is_dataclass
from pathlib import Path

import pytest

from mmdet.config import types
from mmdet.config.schema import key_fields, key_name

REPO = Path(__file__).resolve().parents[2]
PACKAGE = sorted((REPO / "mmdet").rglob("*.py"))
TOOLS = sorted((REPO / "tools").glob("*.py"))
DEVICE_WORD = re.compile(r"\b(torch_npu|npu|cuda|hccl|nccl)\b")
MAX_LINES = 400


def docstring_lines(source: str) -> set[int]:
    """Return the first lines of all docstrings."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(ast.parse(source)) if isinstance(node, owners) and node.body]
    firsts = [body[0] for body in bodies if isinstance(body[0], ast.Expr)]
    return {first.lineno for first in firsts if isinstance(first.value, ast.Constant)}


def device_words(source: str) -> list[str]:
    """Return "line: token" for each name or string of the code, not of its prose, that names a device."""
    prose = docstring_lines(source)
    kinds = (tokenize.NAME, tokenize.STRING)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [
        f"{token.start[0]}: {token.string}"
        for token in tokens
        if token.type in kinds and token.start[0] not in prose and DEVICE_WORD.search(token.string)
    ]


def test_only_device_py_names_a_device():
    named = {str(path.relative_to(REPO)): device_words(path.read_text()) for path in PACKAGE}
    # Training never imports testing; the help of --device must not wait for torch, which device.py imports.
    allowed = ("mmdet/device.py", "mmdet/device_", "mmdet/testing/", "mmdet/cli.py", "mmdet/commands/")
    allowed += ("mmdet/deploy/export/om.py",)  # asks npu-smi for the chip it converts for
    assert {path: words for path, words in named.items() if words and not path.startswith(allowed)} == {}


@pytest.mark.parametrize("path", [*PACKAGE, *TOOLS], ids=lambda path: str(path.relative_to(REPO)))
def test_files_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "no module docstring"


def test_test_folder_is_no_package():
    assert list((REPO / "test").rglob("__init__.py")) == []


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.name)
def test_tools_answer_help_without_loading_torch(path):
    code = (
        f"import runpy, sys\nsys.argv = [{path.name!r}, '--help']\n"
        f"try:\n    runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.stdout.splitlines()[-1:] == ["0 False"], done.stderr
    assert "usage" in done.stdout


def test_a_public_class_name_exists_once():
    found: dict[str, list[str]] = {}
    for path in [*PACKAGE, *sorted((REPO / "benchmark").glob("*.py"))]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(REPO)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_a_default_of_the_schema_stands_nowhere_else():
    """No reader of a config writes `.get("gt_slots", (32, 64))`: the schema has filled the default in."""
    defaults = {
        key_name(item)
        for schema in vars(types).values()
        if is_dataclass(schema)
        for item in key_fields(schema)
        if item.default not in (None, MISSING) or item.default_factory is not MISSING
    }
    assert "norm_type" in defaults
    again = [
        f"{path.relative_to(REPO)}:{node.lineno} {node.args[0].value}"
        for path in PACKAGE
        if "config" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get" and len(node.args) == 2
        if isinstance(node.args[0], ast.Constant) and node.args[0].value in defaults
    ]
    assert again == []
