"""ProfileHook: a trace of a few steps, for tools/train.py --profiling."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.device import make_profiler, synchronize
from mmdet.distributed import is_main
from mmdet.engine.trainer import Hook, Losses, Trainer

logger = logging.getLogger("mmdet")

WRITE_S = 1800.0
FIRST_STEP, LAST_STEP = 10, 15  # of this run, counted from 1: by then everything is compiled and allocated


class ProfileHook(Hook):
    """Records steps 10 to 15 of the run on rank 0 and writes the trace to work_dir/profile.

    Stands before all other hooks, so that recording begins and ends right after a step; what they do
    between the recorded steps is in the trace too. A run that ends early leaves what it has. A vendor's
    profiler may fail with no more than a line of its own in the log, so the folder is looked at.

    Args:
        make: stand-in for device.make_profiler, for tests.
    """

    name = "profile"

    def __init__(self, make: Callable[..., Any] = make_profiler) -> None:
        self.make = make
        self._first_iter = 0
        self._profiler: Any = None
        self._old_traces: set[Path] = set()

    def before_train(self, trainer: Trainer) -> None:
        """Prepare the recording; it begins by itself."""
        self._first_iter = trainer.iter
        num = trainer.facts.total_iters - trainer.iter
        if num < FIRST_STEP:
            logger.warning("--profiling: no trace, it begins at step %d and the run has %d", FIRST_STEP, num)
        elif is_main():
            folder = trainer.facts.work_dir / "profile"
            self._old_traces = _traces(folder)
            self._profiler = self.make(trainer.step.device, folder, FIRST_STEP, LAST_STEP)
            self._profiler.start()

    def after_iter(self, trainer: Trainer, losses: Losses) -> None:
        """Count the step; write the trace after the last."""
        if self._profiler is None:
            return
        step = trainer.iter - self._first_iter
        if step in (FIRST_STEP - 1, LAST_STEP):
            synchronize(trainer.step.device)  # a step's work belongs to it
        if step == LAST_STEP:  # a vendor's profiler reads its records for minutes
            trainer.watch.beat(trainer.iter, "writing the trace", allowed_s=WRITE_S)
        self._profiler.step()
        if step == LAST_STEP:
            self._finish(trainer)

    def after_train(self, trainer: Trainer) -> None:
        """Write what a short run recorded."""
        self._finish(trainer)

    def on_stop(self, trainer: Trainer) -> None:
        """Write what was recorded until the signal."""
        self._finish(trainer)

    def _finish(self, trainer: Trainer) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        self._profiler = None
        last, folder = trainer.iter - self._first_iter, trainer.facts.work_dir / "profile"
        if last < FIRST_STEP:
            return
        new = sorted(_traces(folder) - self._old_traces)
        if new:
            logger.info("trace of steps %d to %d: %s; it slowed them down", FIRST_STEP, last, new[0])
        else:
            logger.warning(
                "--profiling: no trace of steps %d to %d was written into %s; the profiler's own lines above "
                "say why",
                *(FIRST_STEP, last, folder),
            )


def _traces(folder: Path) -> set[Path]:
    """Return the trace files below `folder` that hold anything: *.pt.trace.json, trace_view.json."""
    return {path for path in folder.rglob("*trace*.json") if path.stat().st_size}
