"""Feed a parser mutated inputs in a child process with limits, and count what happens."""

import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

INPUT_S = 20  # of CPU time one input may take; then it counts as endless
WAITING_S = 120  # by the clock: it waits for something that never comes
MEMORY = 3 << 30  # address space beyond what the process has when it begins
POOL = 300  # inputs that were accepted and are changed further


def fuzz(target: Any, name: str, seed: int, limits: tuple[float, int], folder: Path) -> dict[str, Any]:
    """Feed a target until a limit is reached; leave one input per kind of finding in `folder`.

    Args:
        target: of targets.py.
        name: of it.
        seed: of the changes.
        limits: seconds and inputs, whichever comes first.
        folder: for the inputs.

    Returns:
        "inputs", "accepted", "named" (errors of ours), "unnamed" {text: count}, "crashes" {signal: count},
        "endless", "peak_mib" beyond what the process had before, "slowest_s" of CPU time, "seconds",
        "inputs_per_s".
    """
    total: dict[str, Any] = {**_nothing(), "crashes": {}, "endless": 0, "peak_mib": 0}
    start, path = time.monotonic(), folder / target.place
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in range(10_000):
        left = limits[0] - (time.monotonic() - start), limits[1] - total["inputs"]
        if min(left) <= 0:
            break
        status = _run_child(lambda p=part, n=left: _loop(target, f"{seed} {name} {p}", n, folder))  # type: ignore[misc]
        _add(total, json.loads((folder / "result.json").read_text()))
        if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            kind = signal.Signals(number).name if number else f"exit {os.WEXITSTATUS(status)}"
            if number in (signal.SIGALRM, signal.SIGPROF):
                total["endless"] += 1
            else:
                total["crashes"][kind] = total["crashes"].get(kind, 0) + 1
            _keep(folder, f"{name} {part}", kind, path.read_bytes())
    spent_s = time.monotonic() - start
    return total | {"seconds": round(spent_s, 1), "inputs_per_s": round(total["inputs"] / spent_s)}


def _nothing() -> dict[str, Any]:
    return {"inputs": 0, "accepted": 0, "named": 0, "unnamed": {}, "slowest_s": 0.0}


def _run_child(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            work()
            os._exit(0)
        except BaseException:
            os._exit(9)
    return os.waitpid(pid, 0)[1]


def _loop(target: Any, seed: str, limits: tuple[float, int], folder: Path) -> None:
    """Feed inputs and write what happened to result.json, now and then: the next one may end the process."""
    choose, end, path = random.Random(seed), time.monotonic() + limits[0], folder / target.place
    result, pool = _nothing(), list(target.seeds)
    _limit_memory()
    base_mib = _peak_mib()

    def save() -> None:
        (folder / "result.json").write_text(json.dumps(result | {"peak_mib": _peak_mib() - base_mib}))

    while time.monotonic() < end and result["inputs"] < limits[1]:
        number = result["inputs"]
        is_seed = number < len(target.seeds)
        data = target.seeds[number] if is_seed else target.change(choose.choice(pool), target.seeds, choose)
        path.write_bytes(data)
        if number % 20 == 0:
            save()
        result["inputs"] += 1
        began_s = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, INPUT_S)
        signal.alarm(WAITING_S)
        kind, text = _read(target, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        result["slowest_s"] = max(result["slowest_s"], time.process_time() - began_s)
        if is_seed and kind == "named":
            kind, text = "unnamed", f"a good input is refused: {text}"
        if kind == "unnamed":
            _note(result, folder, seed, text, data)
        else:
            result[kind] += 1
        if kind == "accepted" and len(pool) < POOL and choose.random() < 0.05:
            pool.append(data)
    save()


def _read(target: Any, path: Path) -> tuple[str, str]:
    """Return "accepted", "named" or "unnamed", and the error."""
    from mmdet.errors import MMDetError

    try:
        target.read(path)
        return "accepted", ""
    except (MMDetError, *target.named) as error:
        text = str(error).strip()
        if "\n" in text:
            return "unnamed", f"several lines: {type(error).__name__} {text[:60]}"
        return "named", text
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return "unnamed", f"{type(error).__name__} at {where}: {str(error)[:60]}"


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _note(result: dict[str, Any], folder: Path, name: str, text: str, data: bytes) -> None:
    if text not in result["unnamed"]:
        _keep(folder, name.split(" ", 1)[1], text, data)
    result["unnamed"][text] = result["unnamed"].get(text, 0) + 1


def _keep(folder: Path, name: str, kind: str, data: bytes) -> None:
    findings = folder / "findings"
    findings.mkdir(exist_ok=True)
    stem = f"{name.replace(' ', '_')[:40]}_{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
    (findings / f"{stem}.input").write_bytes(data)
    (findings / f"{stem}.txt").write_text(kind + "\n")


def _add(total: dict[str, Any], result: dict[str, Any]) -> None:
    for key in ("inputs", "accepted", "named"):
        total[key] += result[key]
    for key in ("peak_mib", "slowest_s"):
        total[key] = max(total[key], result[key])
    for text, count in result["unnamed"].items():
        total["unnamed"][text] = total["unnamed"].get(text, 0) + count
