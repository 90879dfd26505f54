"""What a run tells: lines on the console and in the text log; figures go to the writers of scalar_writers.py.

Words and order of a line are mmcv's, with images per second at the end: the Ascend folders' scripts read
`time:` from column 15 and the total loss from the last column but two, so the estimated time is written
without days and the loss stands before img/s.
"""

import logging
import logging.handlers
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.engine.scalar_writers import ScalarWriter

logger = logging.getLogger("mmdet")

LINE = "%(asctime)s - mmdet - %(levelname)s - %(message)s"


class RunLog:
    """Console and log files of one run; until `open` says where, lines are kept in memory.

    Args:
        level: of the lines to show, "INFO" for example; other ranks show warnings and errors only.
        rank: of this process; only rank 0 writes files.
    """

    def __init__(self, level: str = "INFO", rank: int = 0) -> None:
        self.rank = rank
        self._writers: Sequence[ScalarWriter] = ()
        self._is_open = False
        form = LINE if rank == 0 else f"rank {rank} - {LINE}"
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(logging.Formatter(form))
        self._early = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = [console, self._early]
        for handler in self._handlers:
            logger.addHandler(handler)
        self._kept = (logger.level, logger.propagate)
        logger.propagate = False
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Show lines from this level on."""
        logger.setLevel(level if self.rank == 0 else max(logging.getLevelName(level), logging.WARNING))

    def set_writers(self, writers: Sequence[ScalarWriter]) -> None:
        """Choose where figures go; before `open`."""
        self._writers = writers

    def open(self, work_dir: Path, stamp: str) -> None:
        """Start <stamp>.log and the writers of the figures (rank 0 only)."""
        if self.rank != 0:
            return
        text = logging.FileHandler(work_dir / f"{stamp}.log", encoding="utf-8")
        text.setFormatter(logging.Formatter(LINE))
        self._early.setTarget(text)
        self._early.flush()
        logger.removeHandler(self._early)
        logger.addHandler(text)
        self._handlers.append(text)
        for writer in self._writers:
            writer.open(work_dir, stamp)
        self._is_open = True

    def write(self, record: Mapping[str, Any], step: int | None = None) -> None:
        """Give a record to the writers; `step` is the iteration, None for what describes the run itself."""
        for writer in self._writers if self._is_open else ():
            writer.write(record, step)

    def close(self) -> None:
        """Close the files and leave Python's logging as it was."""
        for writer in self._writers:
            writer.close()
        for handler in self._handlers:
            logger.removeHandler(handler)
            handler.close()
        level, logger.propagate = self._kept
        logger.setLevel(level)


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
