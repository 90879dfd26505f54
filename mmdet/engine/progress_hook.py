"""ProgressHook: a bar with the losses on a terminal; nothing in a pipe or a file."""

import sys
from importlib.util import find_spec
from typing import Any

from mmdet.distributed import is_main
from mmdet.engine.trainer import Hook, Losses, Trainer


class ProgressHook(Hook):
    """Shows how far the run is, and the mean losses of the epoch as the last log line had them.

    Reads nothing from the device. The console of `RunLog` writes its lines above the bar.
    """

    name = "progress"

    def __init__(self) -> None:
        self._bar: Any = None

    def before_train(self, trainer: Trainer) -> None:
        """Open the bar, on rank 0 of a run that has a terminal."""
        if is_main() and sys.stderr.isatty() and find_spec("tqdm"):
            from tqdm import tqdm  # here: an image of a vendor may lack it

            total = trainer.facts.total_iters
            self._bar = tqdm(total=total, initial=trainer.iter, unit="it", dynamic_ncols=True, leave=False)

    def after_iter(self, trainer: Trainer, losses: Losses) -> None:
        """Move on."""
        if self._bar is None:
            return
        epoch = (trainer.iter - 1) // trainer.facts.iters_per_epoch + 1
        self._bar.set_description(f"epoch {epoch}", refresh=False)
        shown = {name.removeprefix("loss_"): f"{value:.3f}" for name, value in trainer.epoch_losses.items()}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def after_train(self, trainer: Trainer) -> None:
        """Close the bar."""
        self.close()

    def on_stop(self, trainer: Trainer) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
