"""Trainings in bad surroundings: a clock that jumps, a slow disk, a full disk."""

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kills import TINY, differences, finish, start

LIMITS = (300, 5600, 6200, 30_000)  # bytes of a file: the config's dump, the logs, the checkpoints
SLOW_S = 0.2


def surroundings(folder: Path, seed: int, limits: tuple[float, int]) -> dict[str, Any]:  # noqa: ARG001
    """Train in each; the end is that of a run in good surroundings, on a full disk after there is space."""
    from runs import make_options, train

    from mmdet.datasets.toy.faces import write_toy_faces

    repo = Path(__file__).resolve().parents[2]
    write_toy_faces(folder / "data", 6, 2, seed=1, size=(64, 80))

    def run(name: str, before: Callable[[], None] = lambda: None) -> int:
        options = make_options(repo, folder / "data", folder / name, *TINY, resume_from="auto")
        return finish(start(lambda: _named(lambda: (before(), train(options)))))

    findings = [] if run("whole") == 0 else ["a run in good surroundings fails"]
    for name, before in (("clock", lambda: _jumping_clock(seed)), ("slow disk", _slow_disk)):
        code = run(name, before)
        findings += [f"{name}: exit {code}"] if code else _named_differences(folder, name)
    for limit in LIMITS:
        code = run("full disk", lambda limit=limit: _full_disk(limit))  # type: ignore[misc]
        findings += [f"full disk at {limit} bytes: exit {code}"] * (code not in (0, 2))
    findings += [f"after a full disk: exit {code}"] if (code := run("full disk")) else []
    findings += _named_differences(folder, "full disk", rows=False)
    return {"trainings": 3 + len(LIMITS), "findings": findings}


def _named(work: Callable[[], Any]) -> None:
    from mmdet.errors import MMDetError

    try:
        work()
    except MMDetError as error:
        os._exit(error.exit_code if "\n" not in str(error) else 5)


def _named_differences(folder: Path, name: str, rows: bool = True) -> list[str]:
    """Compare with the run in good surroundings; rows are lost while a disk is full."""
    found = differences(folder / "whole", folder / name)
    shutil.rmtree(folder / name)
    return [f"{name}: {text}" for text in found if rows or not text.startswith("row")]


def _jumping_clock(seed: int) -> None:
    choose = random.Random(seed)
    time.time = lambda: choose.uniform(0, 4e9)  # from 1970 to 2096
    time.time_ns = lambda: int(1e9 * time.time())


def _slow_disk() -> None:
    for name in ("fsync", "replace", "link"):
        call = getattr(os, name)

        def slow(*args: Any, call: Callable[..., Any] = call, **kwargs: Any) -> Any:
            time.sleep(SLOW_S)
            return call(*args, **kwargs)

        setattr(os, name, slow)


def _full_disk(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
