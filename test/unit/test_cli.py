"""How tools end, and the options they share."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mmdet.cli import OPTIONS, add_shared, at_least, make_parser, run_cli
from mmdet.errors import ConfigError

# Options that mean something else in each tool that declares them.
OWN_MEANING = {"--images", "--mode", "--out", "--rounds", "--shape", "--size"}


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_a_tool_quietly(repo, lines):
    code = (
        "import sys, time\nfrom mmdet.cli import run_cli\n"
        f"def main():\n    sys.stdin.read()\n    for _ in range({lines}):\n        print('a face')\n"
        "run_cli(main)"
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], cwd=repo, **pipes) as tool:
        tool.stdout.close()  # before the tool writes: it waits for the end of its input
        tool.stdin.close()
        assert tool.stderr.read() == b""
    assert tool.returncode == 141


def test_a_mistake_is_one_line_and_its_exit_code(capsys):
    def main():
        raise ConfigError("--thr 2: from 0 to 1")

    with pytest.raises(SystemExit) as ended:
        run_cli(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "ConfigError: --thr 2: from 0 to 1\n"


def test_a_package_that_is_not_installed_is_one_line_and_code_2(capsys):
    def main():
        import no_such_package.part  # noqa: F401

    with pytest.raises(SystemExit) as ended:
        run_cli(main)
    assert ended.value.code == 2
    message = "no_such_package is not installed; `scrfd doctor` says how to get what is missing\n"
    assert capsys.readouterr().err == message
    with pytest.raises(ModuleNotFoundError):
        run_cli(lambda: __import__("mmdet.no_such_module"))


def test_an_error_of_the_machine_is_one_line_with_its_place(capsys):
    with pytest.raises(SystemExit) as ended:
        run_cli(lambda: Path("n" * 300).exists())
    assert ended.value.code == 2
    assert re.fullmatch(r"OSError: .*File name too long: 'n+' \(in cli.py:\d+\)\n", capsys.readouterr().err)


def test_our_own_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)


def declared(path):
    """Return the option strings that a file passes to add_argument (also as `add`)."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    adds = [
        call
        for call in calls
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("add_argument", "add")
    ]
    values = [arg.value for call in adds for arg in call.args if isinstance(arg, ast.Constant)]
    return [value for value in values if isinstance(value, str) and value.startswith("--")]


def test_a_shared_option_is_declared_once(repo):
    folders = ("mmdet", "tools", "benchmark")
    files = [path for folder in folders for path in sorted((repo / folder).rglob("*.py"))]
    counts = Counter(option for path in files for option in declared(path))
    assert {option for option in counts if option in OPTIONS} - OWN_MEANING == set(), "use add_shared"
    common = {option for option, count in counts.items() if count > 2}  # two tools may use one word by chance
    assert common - OWN_MEANING == set(), "declare it in OPTIONS of mmdet/cli.py"


def test_cfg_options_given_twice_both_count():
    parser = make_parser(None)
    add_shared(parser, "--cfg-options")
    args = parser.parse_args(["--cfg-options", "a=1", "b=2", "--cfg-options", "c=3"])
    assert args.cfg_options == ["a=1", "b=2", "c=3"]
    assert parser.parse_args([]).cfg_options == []  # the default was not extended


def test_a_tool_changes_what_differs():
    parser = make_parser(None)
    add_shared(parser, "--device", default="cpu")
    add_shared(parser, "--seed", default=None)
    assert vars(parser.parse_args([])) == {"device": "cpu", "seed": None}


def test_at_least(capsys):
    parser = make_parser(None)
    parser.add_argument("--n", type=at_least(1))
    assert parser.parse_args(["--n", "1"]).n == 1
    for text in ("0", "-1", "nan", "1.5", ""):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["--n", text])
        assert ended.value.code == 2
    assert "--n" in capsys.readouterr().err
