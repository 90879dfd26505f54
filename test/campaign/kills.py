"""Kill -9: trainings at random moments, and a checkpoint's write at every system call.

Everything is imported once and each victim is a fork of this process, which has one thread: a kill costs
what the victim does, not the three seconds in which torch is imported.
"""

import ctypes
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

TRACEME, SYSCALL = 0, 24  # of ptrace
CLOCKS = (
    "time",
    "data_time",
    "memory",
    "img_s",
    "eta",
    "stamp",
    "work_dir",
)  # keys that two runs may differ in
TINY = (
    "data.samples_per_gpu=1",
    "data.train.pipeline.3.img_scale=(64,64)",
    "data.val.pipeline.1.img_scale=(64,64)",
    "data.val.pipeline.1.transforms.3.size=(64,64)",
    "total_epochs=2",
    "log_config.interval=1",
    "checkpoint_config.interval_iters=2",
    "checkpoint_config.max_keep_ckpts=2",
)


def start(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process, silently; return its id. Exit code 0, or 1 if it raises."""
    import torch

    torch.set_num_threads(1)  # a fork copies no threads of an operator, and would wait for them
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        work()
        code = 0
    finally:
        os._exit(code)


def finish(pid: int) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kills_in_training(folder: Path, seed: int, limits: tuple[float, int]) -> Iterator[dict[str, Any]]:
    """Kill trainings at random moments; each ends with the state, rows and figures of one never killed.

    Yields what there is after each training that has ended.
    """
    from runs import make_options, train

    from mmdet.datasets.toy.faces import write_toy_faces

    repo, choose = Path(__file__).resolve().parents[2], random.Random(seed)
    write_toy_faces(folder / "data", 6, 2, seed=1, size=(64, 80))
    whole, torn = (
        make_options(repo, folder / "data", folder / name, *TINY, resume_from="auto")
        for name in ("whole", "torn")
    )
    began, spent_s = time.monotonic(), 0.0
    for _ in range(2):  # the first one imports what the others find
        shutil.rmtree(folder / "whole", ignore_errors=True)
        code, spent_s = _kill_after(start(lambda: train(whole)), math.inf)
        assert code == 0, "a run that nobody kills fails"
    found: dict[str, Any] = {"kills": 0, "runs": 0, "findings": []}
    while found["kills"] < limits[1] and time.monotonic() - began < limits[0] and not found["findings"]:
        code, _ = _kill_after(start(lambda: train(torn)), choose.uniform(0.02, 1.2) * spent_s)
        found["kills"] += code == -signal.SIGKILL
        if code == 0:
            found["runs"] += 1
            found["findings"] += differences(folder / "whole", folder / "torn")
            shutil.rmtree(folder / "torn")
            yield found
        elif code != -signal.SIGKILL:
            found["findings"].append(f"a resumed run ended with {code} after {found['kills']} kills")
    if finish(start(lambda: train(torn))) != 0:
        found["findings"].append("the last run failed")
    found["findings"] += differences(folder / "whole", folder / "torn")
    yield found | {"runs": found["runs"] + 1, "findings": found["findings"][:10]}


def _kill_after(pid: int, seconds: float) -> tuple[int, float]:
    """Kill a process after so much CPU time, or wait for its end; return exit code and CPU time."""
    clock, spent_s = ~pid << 3 | 2, 0.0  # the process's clock, as clock_getcpuclockid makes it
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        spent_s = time.clock_gettime(clock)
        if spent_s > seconds:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.003)
    return finish(pid), spent_s


def differences(whole: Path, torn: Path) -> list[str]:
    """Compare the ends of two runs: state bit by bit, rows of the log, metrics.json."""
    from runs import assert_same_state

    found = []
    try:
        assert_same_state(whole / "latest.pth", torn / "latest.pth")
    except AssertionError as error:
        found.append(f"another state: {error}")
    rows, others = dict(_rows(whole)), list(_rows(torn))
    found += [f"row {key} is {row}, not {rows.get(key)}" for key, row in others if rows.get(key) != row]
    found += [f"row {key} is missing" for key in rows if key not in dict(others)]
    figures = [_steady(json.loads((path / "metrics.json").read_text())) for path in (whole, torn)]
    found += [] if figures[0] == figures[1] else [f"metrics.json: {figures[0]} became {figures[1]}"]
    names = [sorted(path.name for path in run.glob("*.pth")) for run in (whole, torn)]
    found += [] if names[0] == names[1] else [f"checkpoints: {names[0]} became {names[1]}"]
    return found + [f"left behind: {path.name}" for path in torn.glob(".*") if path.name != ".lock"]


def _rows(run: Path) -> Iterator[tuple[Any, dict]]:
    """Yield (mode, epoch, iter) and the figures of each line of the logs that a kill has not cut."""
    for path in sorted(run.glob("*.log.json")):
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                if "mode" in row:
                    yield (row["mode"], row["epoch"], row["iter"]), _steady(row)


def _steady(row: dict) -> dict:
    """Leave out what depends on the clock or the folder."""
    return {k: v for k, v in row.items() if k not in CLOCKS and not k.endswith("_s") and "fps" not in k}


def kills_at_calls(folder: Path, seed: int, limits: tuple[float, int]) -> dict[str, Any]:  # noqa: ARG001
    """Kill a write before and after each of its system calls: the old or the new file is there, whole."""
    import torch

    from mmdet.checkpoint import files as checkpoint
    from mmdet.engine.hooks import give_second_name
    from mmdet.engine.resume import find_checkpoints

    def write(epoch: int) -> None:
        path = folder / f"epoch_{epoch}.pth"
        checkpoint.save(path, {"epoch": epoch, "w": torch.arange(50_000.0) * epoch})
        give_second_name(path, folder / "latest.pth")
        (folder / f"epoch_{epoch - 1}.pth").unlink(missing_ok=True)

    findings, kills = [], 0
    for number in range(1, 5000):
        for file in folder.iterdir():
            file.unlink()
        write(1)
        code = _kill_at_call(lambda: write(2), number)
        for path in find_checkpoints(folder):
            found = checkpoint.load(path)  # every file that has its name is whole
            if not torch.equal(found["w"], torch.arange(50_000.0) * found["epoch"]):
                findings.append(f"killed at call {number}: {path.name} is another file")
        if not (folder / "latest.pth").exists():
            findings.append(f"killed at call {number}: latest.pth is gone")
        if code == 0:
            break
        kills += 1
    return {"kills": kills, "findings": findings}


def _kill_at_call(work: Callable[[], Any], number: int) -> int:
    """Kill a process at its n-th stop, each system call being two; return its exit code.

    The child asks to be traced (ptrace) and stops itself; from there the kernel stops it at each call.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def traced() -> None:
        libc.ptrace(TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()

    pid = start(traced)
    status = os.waitpid(pid, 0)[1]
    while os.WIFSTOPPED(status):
        if number == 0:
            os.kill(pid, signal.SIGKILL)
        elif libc.ptrace(SYSCALL, pid, None, None):
            raise OSError(ctypes.get_errno(), "ptrace")
        number -= 1
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)
