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

INPUT_S = 20  # one input may take; then it counts as endless
MEMORY = 3 << 30  # address space beyond what the process has when it begins
BYTES = (0, 1, 0x7F, 0x80, 0xFF)
WORDS = (
    b"-1",
    b"0",
    b"nan",
    b"inf",
    b"1e308",
    b"9" * 30,
    b"\n",
    b" ",
    b"\0",
    b"../",
    b"[" * 60,
    b'"',
    b"{}",
    b"%s",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"#",
    b":",
    b"=",
    b"\xef\xbb\xbf",
    b"\r",
)


def mutate(data: bytes, seeds: list[bytes], choose: random.Random) -> bytes:
    """Return an input with one to six changes: bits, bytes, words, parts moved, doubled, cut or mixed."""
    out = bytearray(data)
    for _ in range(choose.randint(1, 6)):
        kind, at = choose.randrange(8), choose.randrange(len(out) + 1)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << choose.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = choose.choice(BYTES) if choose.random() < 0.7 else choose.randrange(256)
        elif kind == 2:
            out[at:at] = choose.choice(WORDS)
        elif kind == 3:
            word = choose.choice(WORDS)
            out[at : at + len(word)] = word
        elif kind == 4:
            del out[at : at + choose.randint(1, 16)]
        elif kind == 5:
            out[at:at] = out[at : at + choose.randint(1, 64)] * choose.randint(1, 4)
        elif kind == 6 and choose.random() < 0.3:
            del out[at:]
        else:
            other = choose.choice(seeds)
            start = choose.randrange(len(other) + 1)
            out[at : at + 16] = other[start : start + choose.randint(1, 64)]
    return bytes(out[: 1 << 20])


def fuzz(target: Any, name: str, seed: int, budget_s: float, folder: Path) -> dict[str, Any]:
    """Run a target for some seconds; return counts, and one input per kind of finding in `folder`.

    Returns:
        "inputs", "accepted", "named" (errors of ours), "unnamed" {text: count}, "crashes" {signal: count},
        "endless", "peak_mib" of the child, "seconds".
    """
    total: dict[str, Any] = {
        "inputs": 0,
        "accepted": 0,
        "named": 0,
        "unnamed": {},
        "crashes": {},
        "endless": 0,
    }
    total |= {"peak_mib": 0, "slowest_s": 0.0}
    start = time.monotonic()
    for part in range(10_000):
        left_s = budget_s - (time.monotonic() - start)
        if left_s <= 0:
            break
        status = _run_child(lambda p=part, s=left_s: _loop(target, f"{seed} {name} {p}", s, folder))  # type: ignore[misc]
        result = json.loads((folder / "result.json").read_text())
        _add(total, result)
        if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            kind = signal.Signals(number).name if number else f"exit {os.WEXITSTATUS(status)}"
            if number == signal.SIGALRM:
                total["endless"] += 1
            else:
                total["crashes"][kind] = total["crashes"].get(kind, 0) + 1
            _keep(folder, name, kind, (folder / "current").with_suffix(target.suffix).read_bytes())
    return total | {"seconds": round(time.monotonic() - start, 1)}


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


def _loop(target: Any, seed: str, budget_s: float, folder: Path) -> None:
    from mmdet.errors import MMDetError

    choose, end = random.Random(seed), time.monotonic() + budget_s
    path = (folder / "current").with_suffix(target.suffix)
    result: dict[str, Any] = {"inputs": 0, "accepted": 0, "named": 0, "unnamed": {}, "slowest_s": 0.0}
    _limit_memory()
    base_mib = _peak_mib()
    pool = list(target.seeds)
    while time.monotonic() < end:
        data = mutate(choose.choice(pool), target.seeds, choose) if result["inputs"] else target.seeds[0]
        path.write_bytes(data)
        if result["inputs"] % 20 == 0:  # what is known if the next input ends the process
            (folder / "result.json").write_text(json.dumps(result | {"peak_mib": _peak_mib() - base_mib}))
        result["inputs"] += 1
        began = time.monotonic()
        signal.alarm(INPUT_S)
        try:
            target.read(path)
            result["accepted"] += 1
            if len(pool) < 200 and choose.random() < 0.05:
                pool.append(data)
        except (MMDetError, *target.named) as error:
            result["named"] += 1
            if "\n" in str(error).strip():
                _note(result, folder, seed, f"a message of several lines: {type(error).__name__}", data)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            _note(result, folder, seed, f"{type(error).__name__} at {where}: {str(error)[:60]}", data)
        signal.alarm(0)
        result["slowest_s"] = max(result["slowest_s"], time.monotonic() - began)
    (folder / "result.json").write_text(json.dumps(result | {"peak_mib": _peak_mib() - base_mib}))


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
