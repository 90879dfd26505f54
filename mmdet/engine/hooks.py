"""Hooks that change or save state: the average of the weights, and checkpoints.

The figures' hooks are in log_hook.py and eval_hook.py; `Hook` itself is beside the loop, in trainer.py.
"""

import os
import shutil
from pathlib import Path

from mmdet.checkpoint import files as checkpoint
from mmdet.config.types import CheckpointConfig
from mmdet.distributed import is_main
from mmdet.engine.resume import epoch_of
from mmdet.engine.state import make_checkpoint
from mmdet.engine.trainer import Hook, Losses, Trainer
from mmdet.errors import CheckpointError, WriteError
from mmdet.files import atomic_write


class EMAHook(Hook):
    """Averages the weights after each iteration. Stands before all hooks that save or evaluate."""

    name = "ema"

    def after_iter(self, trainer: Trainer, losses: Losses) -> None:
        """Take in the new weights."""
        assert trainer.ema is not None
        trainer.ema.update(trainer.step.precision.named_masters())


class CheckpointHook(Hook):
    """Saves epoch_N.pth and latest.pth, and keeps the newest few.

    epoch_N.pth is written every `interval` epochs and after the last; latest.pth is another name of the
    newest one (a hard link, or a copy where the file system has none), or a file of its own when saved
    in the middle of an epoch: every `interval_iters`, on a signal, at --max-iters.

    Stands before the evaluation, so that no failure there costs an epoch.
    """

    name = "checkpoint"

    def __init__(self, cfg: CheckpointConfig) -> None:
        self.cfg = cfg
        self.last = ""  # for error messages
        self._saved_iter = -1

    def describe(self) -> str:
        """Return where to continue from, for the message of an error."""
        if not self.last:
            return "No checkpoint was saved"
        return f"Last checkpoint: {self.last}; --resume-from auto continues there"

    def before_train(self, trainer: Trainer) -> None:
        """Note what was resumed."""
        if trainer.iter:
            self._saved_iter = trainer.iter
            self.last = f"the one resumed (iter {trainer.iter})"
            if is_main():
                self._remove_old(trainer)  # a kill may have come between saving and removing

    def after_iter(self, trainer: Trainer, losses: Losses) -> None:
        """Save latest.pth inside an epoch."""
        if self._is_due_by_iters(trainer) and trainer.iter % trainer.facts.iters_per_epoch:
            self._save(trainer, "latest.pth")

    def after_epoch(self, trainer: Trainer) -> None:
        """Save epoch_N.pth when due."""
        is_last = trainer.iter == trainer.facts.total_iters
        if trainer.epoch % self.cfg.interval == 0 or is_last:
            self._save(trainer, f"epoch_{trainer.epoch}.pth")
        elif self._is_due_by_iters(trainer):
            self._save(trainer, "latest.pth")

    def after_train(self, trainer: Trainer) -> None:
        """Save latest.pth if training ended inside an epoch."""
        if self._saved_iter != trainer.iter:
            self._save(trainer, "latest.pth")

    def on_stop(self, trainer: Trainer) -> None:
        """Save latest.pth."""
        self.after_train(trainer)

    def _is_due_by_iters(self, trainer: Trainer) -> bool:
        interval = self.cfg.interval_iters
        return interval is not None and trainer.iter % interval == 0

    def _save(self, trainer: Trainer, name: str) -> None:
        trainer.step.guard.check()  # never overwrite good weights with what comes after a NaN
        content = make_checkpoint(trainer)
        self._saved_iter = trainer.iter
        self.last = f"{name} (iter {trainer.iter})"
        if not is_main():
            return
        assert content is not None
        path = trainer.facts.work_dir / name
        checkpoint.save(path, content)
        if name != "latest.pth":
            give_second_name(path, trainer.facts.work_dir / "latest.pth")
            self._remove_old(trainer)

    def _remove_old(self, trainer: Trainer) -> None:
        if self.cfg.max_keep < 1:
            return
        paths = trainer.facts.work_dir.glob("epoch_*.pth")
        numbered = [(number, path) for path in paths if (number := epoch_of(path))]
        mine = sorted((number, path) for number, path in numbered if number <= trainer.epoch)
        for _, path in mine[: -self.cfg.max_keep]:
            path.unlink(missing_ok=True)


def give_second_name(path: Path, other: Path) -> None:
    """Make `other` a second name of a file, replacing what was there in one step.

    Raises:
        CheckpointError: the folder cannot be written; what `other` was before is untouched.
    """
    try:
        with atomic_write(other) as part:
            try:
                os.link(path, part)
            except OSError:  # no hard links on this file system
                shutil.copyfile(path, part)
    except (WriteError, shutil.SpecialFileError) as error:
        raise CheckpointError(f"{error}; {path} is complete") from error
