"""What a run tells: lines on the console and in the text log; figures go to the writers of scalar_writers.py.

Words and order of a line are mmcv's, with images per second at the end: the Ascend folders' scripts read
`time:` from column 15 and the total loss from the last column but two, so the estimated time is written
without days and the loss stands before img/s.
"""

import contextlib
import logging
import logging.handlers
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmdet.engine.scalar_writers import ScalarWriter

logger = logging.getLogger("mmdet")

LINE = "%(asctime)s - mmdet - %(levelname)s - %(message)s"


class _TellsOnce(logging.Handler):
    """Says once that its lines are lost (the disk is full, nobody reads the console); the run goes on."""

    is_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Say it."""
        if not self.is_told:
            self.is_told = True
            with suppress(OSError, ValueError, AttributeError):  # stderr is gone, too
                what = getattr(self, "baseFilename", "the console")
                sys.stderr.write(f"{what} cannot be written: {sys.exc_info()[1]}\n")


class _TextLog(_TellsOnce, logging.FileHandler):
    """A log file."""

    def close(self) -> None:
        """Close the file; lines that are still waiting are lost."""
        with suppress(OSError):
            super().close()


class _Console(_TellsOnce, logging.StreamHandler):
    """Writes lines above a progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")  # loaded where a bar is shown; an image of a vendor may lack it
        with bars.tqdm.external_write_mode(self.stream) if bars else contextlib.nullcontext():
            super().emit(record)


class RunLog:
    """Console and log files of one run; until `open` says where, lines are kept in memory.

    All ranks start alike, so until `open` the others show errors only; then they show warnings, too, which
    are about their own images. Python's warnings become one line each, from rank 0.

    Args:
        level: of the lines to show, "INFO" for example.
        rank: of this process; only rank 0 writes files.
    """

    def __init__(self, level: str = "INFO", rank: int = 0) -> None:
        self.rank = rank
        self._writers: Sequence[ScalarWriter] = ()
        self._is_open = False
        self._told: set[str] = set()  # what is said once
        form = LINE if rank == 0 else f"rank {rank} - {LINE}"
        console = _Console(sys.stdout)
        console.setFormatter(logging.Formatter(form))
        self._early = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = [console, self._early]
        for handler in self._handlers:
            logger.addHandler(handler)
        self._kept = (logger.level, logger.propagate)
        logger.propagate = False
        self._python_warnings = warnings.catch_warnings()
        self._python_warnings.__enter__()
        warnings.showwarning = self._log_warning  # type: ignore[assignment]
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Show lines from this level on."""
        lowest = 0 if self.rank == 0 else logging.WARNING if self._is_open else logging.ERROR
        logger.setLevel(max(logging.getLevelName(level), lowest))
        self._level = level

    def set_writers(self, writers: Sequence[ScalarWriter]) -> None:
        """Choose where figures go; before `open`."""
        self._writers = writers

    def open(self, work_dir: Path, stamp: str) -> None:
        """Start <stamp>.log and the writers of the figures; all ranks call it, rank 0 writes."""
        self._is_open = True
        self.set_level(self._level)
        if self.rank != 0:
            return
        text = _TextLog(work_dir / f"{stamp}.log", encoding="utf-8")
        text.setFormatter(logging.Formatter(LINE))
        self._early.setTarget(text)
        self._early.flush()
        logger.removeHandler(self._early)
        logger.addHandler(text)
        self._handlers.append(text)
        for writer in self._writers:
            writer.open(work_dir, stamp)

    def write(self, record: Mapping[str, Any], step: int | None = None) -> None:
        """Give a record to the writers; `step` is the iteration, None for what describes the run itself."""
        for writer in self._writers if self._is_open and self.rank == 0 else ():
            try:
                writer.write(record, step)
            except OSError as error:
                self._tell_once(f"figures cannot be written ({error}); the training goes on without them")

    def _log_warning(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        text = f"{category.__name__}: {' '.join(str(message).split())}"
        if self.rank == 0:
            self._tell_once(text)

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.warning(text)

    def close(self) -> None:
        """Close the files and leave Python's logging as it was."""
        for writer in self._writers:
            writer.close()
        for handler in self._handlers:
            logger.removeHandler(handler)
            handler.close()
        level, logger.propagate = self._kept
        logger.setLevel(level)
        self._python_warnings.__exit__(None, None, None)


def train_line(record: Mapping[str, Any], iters_per_epoch: int, eta_s: float) -> str:
    """Return the console line of a training record: epoch, iter, rates, times, memory, losses, speed."""
    parts = [
        f"lr: {record['lr']:.3e}",
        f"eta: {format_duration(eta_s)}",
        f"time: {record['time']:.3f}",
        f"data_time: {record['data_time']:.3f}",
        f"memory: {record['memory']:.0f}",
        *(f"{key}: {value:.4f}" for key, value in record.items() if key.startswith("loss_")),
        f"loss: {record['loss']:.4f}",
        f"img/s: {record['img_s']:.1f}",
    ]
    return f"Epoch [{record['epoch']}][{record['iter']}/{iters_per_epoch}]\t" + ", ".join(parts)


def format_duration(seconds: float) -> str:
    """Return H:MM:SS; hours may exceed 24."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
