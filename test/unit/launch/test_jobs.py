"""Child trainings: commands, logs, exit codes, and that nothing of them stays."""

import os
import sys
import time
from pathlib import Path

import pytest

from mmdet.launch import jobs

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"


def start(tmp_path: Path, code: str) -> jobs.Child:
    return jobs.start([sys.executable, "-c", code], tmp_path / "log", jobs.child_env(os.environ))


def wait_for(tmp_path: Path, word: str) -> str:
    """Return the log once it holds a word."""
    for _ in range(3000):
        text = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        if word in text:
            return text
        time.sleep(0.02)
    raise AssertionError(f"{word!r} is not in the log: {text}")


def test_commands_name_what_they_run():
    train = jobs.train_command(Path("c.py"), Path("w"), device="cpu", train_args=["--perf"], options=["a=1"])
    assert train[1:] == [
        jobs.COMMAND, "train", "c.py", "--work-dir", "w", "--device", "cpu",
        "--launcher", "none", "--perf", "--cfg-options", "a=1",
    ]  # fmt: skip
    evaluate = jobs.eval_command(Path("c.py"), Path("w.pth"), Path("out"))
    assert evaluate[1:] == [
        jobs.COMMAND, "test", "c.py", "w.pth", "--mode", "0", "--out", "out",
        "--device", "auto", "--cfg-options",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "expected"),
    [("print('a')", 0), ("import sys; sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_exit_codes_are_those_of_a_shell(tmp_path, code, expected):
    assert start(tmp_path, code).wait(30) == expected


def test_output_is_appended_to_the_log(tmp_path):
    for word in ("one", "two"):
        child = start(tmp_path, f"import sys; print('{word}'); print('warning', file=sys.stderr)")
        assert child.wait(30) == 0
    assert child.log_file.read_text().split() == ["one", "warning", "two", "warning"]


def test_wait_gives_up_and_stop_lets_the_child_save(tmp_path):
    saves = "import signal, sys; signal.signal(15, lambda *_: (print('saved', flush=True), sys.exit(75)));"
    child = start(tmp_path, saves + SLEEP)
    wait_for(tmp_path, "ready")
    assert child.wait(0.05) is None
    assert child.stop() == 75
    assert "saved" in child.log_file.read_text()
    assert child.stop() == 75  # again: it has ended


def test_stop_kills_a_child_that_does_not_listen_and_its_children(tmp_path):
    deaf = "import signal, subprocess, sys; signal.signal(15, signal.SIG_IGN);"
    grandchild = f"p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"
    child = start(tmp_path, deaf + grandchild + "print(f'pid {p.pid} end', flush=True);" + SLEEP)
    text = wait_for(tmp_path, " end")  # a line may arrive in pieces
    pid = int(text.split("pid ")[1].split()[0])
    wait_for(tmp_path, "ready")
    assert child.stop(grace_s=0.2) == 137
    for _ in range(250):
        if not is_running(pid):
            return
        time.sleep(0.02)
    raise AssertionError("the grandchild still runs")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
