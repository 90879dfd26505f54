"""`scrfd`: one name for all commands; the scripts in tools/ are the same code; doctor."""

import ast
import importlib
import re
import subprocess
import sys

import pytest

from mmdet import __version__
from mmdet.commands import doctor
from mmdet.commands.main import COMMANDS, run
from mmdet.errors import ConfigError

NOT_INSTALLED = {"benchmark", "scaling_model", "launch"}  # need benchmark/ or are test/*.sh's other half


def test_every_command_has_a_main_and_every_tool_is_one(repo):
    modules = {name: module for name, (module, _) in COMMANDS.items()}
    assert {"train", "test", "export", "detect", "check", "search", "web", "doctor"} <= set(modules)
    for module in modules.values():
        assert callable(importlib.import_module(f"mmdet.commands.{module}").main)
    for path in (repo / "tools").glob("*.py"):
        if path.stem not in NOT_INSTALLED:
            text = path.read_text()
            name = re.search("`scrfd (.+?)`", text)[1]
            assert f"from mmdet.commands.{modules[name]} import main\n" in text, path
            assert not [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)], path


def test_help_version_and_what_is_no_command(capsys):
    assert run(["--version"]) == 0 and capsys.readouterr().out == f"scrfd-trainer {__version__}\n"
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name}  ", shown, re.MULTILINE) for name in COMMANDS)
    assert run([]) == 2
    capsys.readouterr()
    assert run(["convert"]) == 2 and run(["report", "--help"]) == 0
    assert capsys.readouterr().out.count("convert ") == 3  # usage and two commands
    for words in (["trian"], ["conver"], [""]):
        with pytest.raises(ConfigError, match=r"command = '.*' is unknown"):
            run(words)
    assert run(["convert", "label"]) == 2 and "convert labels" in capsys.readouterr().out


def test_a_command_gets_its_own_arguments(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    run(["flops", "scrfd_500m", "--shape", "64"])
    assert "one image of 64x64" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(["convert", "weights", "--help"])
    assert capsys.readouterr().out.startswith("usage: scrfd convert weights ")


def test_help_loads_nothing_heavy(repo):
    code = (
        "import sys\nfrom mmdet.commands.main import run\n"
        "try:\n    run(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'cv2', 'mmengine', 'onnxruntime'} & set(sys.modules)))"
    )
    for words in (["--help"], ["train", "--help"], ["detect", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=repo)
        assert done.stdout.splitlines()[-1] == "[]", (words, done.stderr)


def test_the_package_and_its_file_run_as_the_command(repo, tmp_path):
    for start in (["-m", "mmdet"], [str(repo / "mmdet/__main__.py")]):
        where = repo if start[0] == "-m" else tmp_path
        done = subprocess.run(
            [sys.executable, *start, "--version"], capture_output=True, text=True, cwd=where, env={}
        )
        assert done.stdout == f"scrfd-trainer {__version__}\n", done.stderr


def test_doctor_names_devices_and_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scrfd doctor"])
    assert doctor.main() == 0
    shown = capsys.readouterr().out
    assert "detection: ready" in shown and "training: ready" in shown
    assert re.search(r"^cpu: cpu \(\d+ threads\), torch ", shown, re.MULTILINE)
    monkeypatch.setattr(
        doctor, "find_spec", lambda name: None if name in ("torch", "onnxruntime") else object()
    )
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.main() == 1
    shown = capsys.readouterr().out
    assert "detection: pip install onnxruntime\ntraining: pip install torch\n" in shown
    assert "torch: not installed" in shown and "ffmpeg: not found" in shown


def test_doctor_lists_the_extras_that_are_missing(monkeypatch):
    required = ["torch>=2.1", "away>=3", 'gone-too; extra == "npu"', 'gone-too; extra == "sim"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: required)
    monkeypatch.setattr(doctor, "_version", lambda name: {"torch": "2.13.0"}.get(name, ""))
    assert doctor.package_lines() == [
        "torch 2.13.0", "missing for everything: pip install 'away>=3'",
        "missing for npu: pip install gone-too", "missing for sim: pip install gone-too",
    ]  # fmt: skip
