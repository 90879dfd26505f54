"""How tools end."""

import subprocess
import sys

import pytest

from mmdet.errors import ConfigError, run_cli, unknown_name


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_a_tool_quietly(repo, lines):
    code = (
        "import sys, time\nfrom mmdet.errors import run_cli\n"
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


def test_our_own_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)


def test_an_unknown_name_is_told_with_the_nearest_known_one():
    known = ["json", "txt"]
    assert unknown_name("--format", "jsn", known) == (
        "--format = 'jsn' is unknown; did you mean 'json'? Known: json, txt."
    )
    assert unknown_name("--format", "pdf", known) == "--format = 'pdf' is unknown. Known: json, txt."
