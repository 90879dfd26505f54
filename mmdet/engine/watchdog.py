"""End a run that hangs, and say which rank hangs where. Imports no torch.

A thread of each rank looks at what the main thread has said last: `beat(iter, place)`. It also writes a file
that the other ranks of this machine read, because a rank that was stopped cannot speak for itself. And it
hears of SIGTERM at once, while Python's own handlers wait for the main thread to come back from C.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType

STOPPED, HUNG = 75, 3  # exit codes, as of Interrupted and TrainError
FIRST_STEP_S = 1800.0  # more time for the first step: compilation, connections of cards
FIRST_BATCH_S = 300.0  # more time for the first batch: the start of workers, a cold storage
OBEY_S = 8.0  # from a signal to the end without an iteration; torchrun kills after 30 s
OBEY_AT_MOST_S = 25.0  # while iterations go on, until all ranks have agreed
SAVE_S = 20.0
PAUSED_S = 5.0  # this thread has not run for so long: SIGSTOP, a sleeping machine. It is nobody's fault
PAUSE_S = 600.0  # a longer one is not told from C code that lets no thread run, and ends the process
SAID, SAID_S = "said", 2.0  # the file that tells the other ranks that one has spoken; how long they wait
LOADER, STEP, EVALUATION = "next(loader)", "the step", "the evaluation"
UNCHANGED = (LOADER, EVALUATION)  # places where the state is that of the last iteration
# Rank -> pid, time of its last sign, seconds left, iter, place.
Ranks = dict[int, tuple[int, float, float, int, str]]


class Watchdog:
    """Watches this process while the `with` block runs.

    Args:
        timeout_s: of no progress, beyond the longest step so far; 0 watches for signals only.
        rank: of this process.
        folder: where the ranks of a machine leave their state; None for a single process.
        describe: returns where to continue from, for the message.
        save: saves the last iteration; called where the state is that, and only without `folder`: the other
            ranks would have to take part.
    """

    def __init__(
        self,
        timeout_s: float,
        rank: int = 0,
        folder: Path | None = None,
        describe: Callable[[], str] = lambda: "",
        save: Callable[[], None] | None = None,
    ) -> None:
        self.timeout_s, self.rank, self.folder = timeout_s, rank, folder
        self.describe, self.save = describe, save
        self._iter, self._place, self._allowed_s = 0, "the start", FIRST_STEP_S
        self._beat_s = self._step_s = time.monotonic()
        self._longest_s: float | None = None  # of a step; None before the first has ended
        self._gate = threading.Lock()  # held by whoever ends the process: the main thread goes no further
        self._signalled_s: float | None = None
        self._woken_s = 0.0  # end of the last pause
        self._is_over = threading.Event()
        self._main = threading.main_thread().ident or 0

    def __enter__(self) -> "Watchdog":
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._is_main_thread = threading.current_thread() is threading.main_thread()
        if self._is_main_thread:
            self._kept = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._publish()  # before this rank can keep another one waiting
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if self._is_main_thread:
            signal.set_wakeup_fd(self._kept)
        for end in self._pipe:
            os.close(end)
        if self.folder is not None:
            with suppress(OSError):
                (self.folder / f"rank_{self.rank}").unlink()
                self.folder.rmdir()  # the last one out

    def beat(self, iter: int, place: str, allowed_s: float = 0.0) -> None:
        """Say that the main thread goes on.

        Args:
            iter: iterations done.
            place: what it does next.
            allowed_s: seconds that this may take beyond the timeout.
        """
        with self._gate:
            now = time.monotonic()
            if place == STEP:
                self._step_s = now
            elif self._place == STEP:
                self._longest_s = max(self._longest_s or 0.0, now - self._step_s)
            self._iter, self._place, self._allowed_s, self._beat_s = iter, place, allowed_s, now

    def _left_s(self) -> float:
        """Return the seconds until this rank counts as hung."""
        first_s = FIRST_BATCH_S if self._place == LOADER else FIRST_STEP_S
        longest_s = first_s if self._longest_s is None else self._longest_s
        return self._beat_s + self.timeout_s + longest_s + self._allowed_s - time.monotonic()

    def _watch(self) -> None:
        looked_s = time.monotonic()
        while not self._is_over.wait(0.5):
            now = time.monotonic()
            if now - looked_s > PAUSED_S:
                self._forgive_pause(now, now - looked_s)
            looked_s = now
            self._hear_signals()
            self._publish()
            if self._must_obey():
                self._end(STOPPED, f"stopped by a signal in {self._describe_place()}")
            if self.timeout_s <= 0:
                continue
            # Should C code keep this thread from running, too: faulthandler's needs no interpreter.
            leash_s = self.timeout_s + max(self.timeout_s, PAUSE_S) + max(self._left_s(), 0)
            faulthandler.dump_traceback_later(leash_s, exit=True, file=2)
            ranks = self._read_ranks()
            for limit_s, state in ((self.timeout_s / 2, "T"), (self.timeout_s, "")):  # T: SIGSTOP holds it
                if stale := self._silent_ranks(ranks, limit_s, state):
                    reason = f"{_name(stale)} has not answered for {limit_s:g} s: stopped?"
                    self._end(HUNG, reason, stale)
            if self._left_s() < 0 and not _go_on(ranks):
                self._end(HUNG, f"no progress for {time.monotonic() - self._beat_s:.0f} s: {self._whose()}")

    def _forgive_pause(self, now: float, pause_s: float) -> None:
        """Let the time of a pause count neither here nor for other ranks, which were paused, too."""
        with self._gate:
            self._beat_s, self._step_s = min(self._beat_s + pause_s, now), min(self._step_s + pause_s, now)
            self._woken_s = now

    def _hear_signals(self) -> None:
        with suppress(BlockingIOError):
            numbers = os.read(self._pipe[0], 100)
            if self._signalled_s is None and any(n in (signal.SIGTERM, signal.SIGINT) for n in numbers):
                self._signalled_s = time.monotonic()

    def _must_obey(self) -> bool:
        if self._signalled_s is None:
            return False
        now = time.monotonic()
        last_s = self._signalled_s if self._place == EVALUATION else max(self._signalled_s, self._beat_s)
        return now - last_s > OBEY_S or now - self._signalled_s > OBEY_AT_MOST_S

    def _publish(self) -> None:
        if self.folder is None:
            return
        text = f"{os.getpid()} {time.monotonic():.3f} {self._left_s():.3f} {self._iter} {self._place}"
        with suppress(OSError):
            part = self.folder / f".rank_{self.rank}"
            part.write_text(text)
            os.replace(part, self.folder / f"rank_{self.rank}")

    def _read_ranks(self) -> Ranks:
        """Return the states of this machine's other ranks."""
        found: Ranks = {}
        for path in self.folder.glob("rank_*") if self.folder is not None else ():
            with suppress(OSError, ValueError):
                pid, sign_s, left_s, done, place = path.read_text().split(" ", 4)
                found[int(path.name[5:])] = int(pid), float(sign_s), float(left_s), int(done), place
        found.pop(self.rank, None)
        return found

    def _silent_ranks(self, ranks: Ranks, limit_s: float, state: str) -> dict[int, int]:
        """Return rank -> pid of those without a sign for so long, in a state if one is given."""
        now = time.monotonic()
        silent = {
            rank: pid
            for rank, (pid, sign_s, *_) in ranks.items()
            if now - max(sign_s, self._woken_s) > limit_s
        }
        return {rank: pid for rank, pid in silent.items() if not state or _state(pid) == state}

    def _whose(self) -> str:
        """Return which rank the others wait for, as far as this machine knows, and where it is."""
        states = {rank: (done, place) for rank, (_, _, _, done, place) in self._read_ranks().items()}
        apart = [rank for rank, (_, place) in states.items() if place != STEP]
        if self._place != STEP or not apart:
            return f"rank {self.rank} in {self._describe_place()}"
        done, place = states[apart[0]]
        return f"rank {apart[0]} in {place} at iter {done}"

    def _describe_place(self) -> str:
        """Return place, iteration, the innermost line of ours, and child processes that are stopped."""
        frame: FrameType | None = sys._current_frames().get(self._main)
        while frame is not None and f"{os.sep}mmdet{os.sep}" not in frame.f_code.co_filename:
            frame = frame.f_back
        line = "" if frame is None else f" ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
        stopped = [child.pid for child in multiprocessing.active_children() if _state(child.pid) in "TD"]
        workers = f"; loader workers that are stopped or wait for storage: {stopped}" if stopped else ""
        return f"{self._place} at iter {self._iter}{line}{workers}"

    def _end(self, code: int, reason: str, stale: dict[int, int] | None = None) -> None:
        """Say why, save if that is exact, end this process, its children and stopped ranks."""
        if not self._gate.acquire(timeout=1.0):
            return  # the main thread goes on after all
        if self._is_over.is_set():
            self._gate.release()
            return
        folder = self.folder or Path(tempfile.mkdtemp(prefix="scrfd-"))
        stacks = folder / f"stacks_{self.rank}.txt"
        with suppress(OSError), open(stacks, "w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        saver = threading.Thread(target=self._save, daemon=True)
        if self.folder is None and self.save is not None and self._place in UNCHANGED:
            saver.start()
            saver.join(SAVE_S)
        alive = [rank for rank in self._read_ranks() if rank not in (stale or {})]
        if self.rank < min(alive, default=self.rank + 1):
            kind = "Interrupted" if code == STOPPED else "TrainError"
            line = f"{kind}: {reason}. {self.describe()}. Stacks of all threads: {folder}/stacks_*.txt\n"
            os.write(2, line.encode(errors="replace"))
            with suppress(OSError):
                (folder / SAID).touch()
        else:  # that line first
            said_s = time.monotonic() + SAID_S
            while time.monotonic() < said_s and not (folder / SAID).exists():
                time.sleep(0.05)
        pids = [child.pid for child in multiprocessing.active_children()] + list((stale or {}).values())
        for pid in filter(None, pids):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        os._exit(code)

    def _save(self) -> None:
        try:
            assert self.save is not None
            self.save()
        except Exception as error:  # the message says what was saved before
            os.write(2, f"cannot save: {type(error).__name__}: {error}\n".encode(errors="replace"))


def make_folder(path: str) -> Path:
    """Return the folder of `Watchdog`, made where it is missing: rank 0 has made it on its machine only."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    return Path(path)


def _go_on(ranks: Ranks) -> bool:
    return any(left_s > 0 for _, _, left_s, _, _ in ranks.values())


def _name(ranks: dict[int, int]) -> str:
    return ", ".join(f"rank {rank} (process {pid})" for rank, pid in sorted(ranks.items()))


def _state(pid: int | None) -> str:
    """Return the letter of a process's state; "?" where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "?"
