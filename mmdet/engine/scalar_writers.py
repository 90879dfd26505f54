"""Where a run's figures go besides the console: JSON lines, TensorBoard, Weights & Biases.

One table, WRITERS, by the names of mmcv's log hooks; `log_config.hooks` of a config file chooses. A writer is
constructed on every rank, before anything is written, and opened on rank 0.
"""

import errno
import importlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmdet.config.table import build_from
from mmdet.errors import ConfigError
from mmdet.files import without_nan

logger = logging.getLogger("mmdet")

Figures = Mapping[str, Any]


class ScalarWriter(Protocol):
    """What RunLog asks of a writer. A record holds "mode" ("train", "val") and figures by name."""

    def open(self, work_dir: Path, stamp: str) -> None:
        """Start writing into a folder that exists; `stamp` is the run's start time, for file names."""

    def write(self, record: Figures, step: int | None) -> None:
        """Write a record; `step` is the iteration, None for what describes the run itself."""

    def close(self) -> None:
        """Finish; also called if `open` was not."""


class JsonWriter:
    """<stamp>.log.json: a line per record, as mmcv's TextLoggerHook; NaN becomes null."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def open(self, work_dir: Path, stamp: str) -> None:
        """Choose the file's name."""
        self._path = work_dir / f"{stamp}.log.json"

    def write(self, record: Figures, step: int | None) -> None:
        """Append a line, all of it or nothing.

        Raises:
            OSError: the disk is full.
        """
        assert self._path is not None
        line = (json.dumps(without_nan(record)) + "\n").encode()
        with open(self._path, "ab", buffering=0) as file:
            end = file.tell()
            if file.write(line) < len(line):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def close(self) -> None:
        """Nothing is left open between lines."""


class TensorBoardWriter:
    """tf_logs/ for TensorBoard; where that is not installed, a warning and no files."""

    def __init__(self) -> None:
        self._writer: Any = None

    def open(self, work_dir: Path, stamp: str) -> None:
        """Start an event file."""
        try:
            summary_writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            logger.warning("TensorBoard is configured but not installed (%s): pip install tensorboard", error)
            return
        self._writer = summary_writer(str(work_dir / "tf_logs"))

    def write(self, record: Figures, step: int | None) -> None:
        """Add a point to the curve of each figure."""
        if self._writer is not None and step is not None:
            for name, value in _curves(record):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the event file."""
        if self._writer is not None:
            self._writer.close()


class WandbWriter:
    """A Weights & Biases run, in work_dir/wandb; with init_kwargs=dict(mode="offline") nothing is sent.

    Args:
        init_kwargs: arguments of wandb.init: project, name, mode, ...

    Raises:
        ConfigError: wandb is not installed, or refuses init_kwargs.
    """

    def __init__(self, *, init_kwargs: Mapping[str, Any] | None = None) -> None:
        self.init_kwargs = dict(init_kwargs or {})
        self._run: Any = None
        try:
            self._wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise ConfigError(
                f"WandbLoggerHook needs the package wandb ({error}): pip install wandb, or remove the hook"
            ) from error

    def open(self, work_dir: Path, stamp: str) -> None:
        """Start the run."""
        try:
            self._run = self._wandb.init(**{"dir": str(work_dir), "name": stamp, **self.init_kwargs})
        except (TypeError, ValueError, self._wandb.Error) as error:
            raise ConfigError(f"WandbLoggerHook: wandb.init: {str(error).splitlines()[0]}") from error

    def write(self, record: Figures, step: int | None) -> None:
        """Log the figures at this iteration."""
        if self._run is not None and step is not None:
            self._run.log(dict(_curves(record)), step=step)

    def close(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


WRITERS: dict[str, Callable[..., ScalarWriter]] = {
    "TextLoggerHook": JsonWriter,
    "TensorboardLoggerHook": TensorBoardWriter,
    "WandbLoggerHook": WandbWriter,
}


def build_writers(hooks: Sequence[Mapping[str, Any]]) -> list[ScalarWriter]:
    """Return the writers of `log_config.hooks`; the JSON log is always among them, other tools read it.

    Raises:
        ConfigError: unknown name or argument, or a package is missing.
    """
    writers = [build_from(WRITERS, hook, f"log_config.hooks.{index}") for index, hook in enumerate(hooks)]
    return [JsonWriter(), *(writer for writer in writers if type(writer) is not JsonWriter)]


def _curves(record: Figures) -> Iterator[tuple[str, float]]:
    """Yield "mode/name" and value of the figures that can be drawn."""
    for name, value in record.items():
        if isinstance(value, float) and not math.isnan(value):
            yield f"{record.get('mode', 'run')}/{name}", value
