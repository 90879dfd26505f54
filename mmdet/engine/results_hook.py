"""ResultsHook: results.csv and results.png of work_dir, on rank 0."""

import time
from collections.abc import Callable, Sequence

from mmdet.distributed import is_main
from mmdet.engine.logger import logger
from mmdet.engine.trainer import Hook, Trainer
from mmdet.errors import DataError
from mmdet.evaluation.metrics import PredictionDict
from mmdet.visualize.results import Row, draw_results, read_results, write_results

SHARE = 0.02  # most of a run's time that live pictures may take


class Painter:
    """Draws, again and again, what is not worth much time and never worth a run.

    A drawing is left out until fifty times its last cost has gone by; one that fails is told in one line and
    not tried again.
    """

    def __init__(self, what: str) -> None:
        self.what, self.is_broken = what, False
        self._due_s = 0.0

    def draw(self, draw: Callable[[], None], is_last: bool = False) -> None:
        """Call `draw`, if it is due or the last one."""
        start_s = time.perf_counter()
        if self.is_broken or (start_s < self._due_s and not is_last):
            return
        try:
            draw()
        except Exception as error:  # whatever it is, training goes on
            self.is_broken = True
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("%s cannot be written, and is not tried again: %s", self.what, reason)
        now_s = time.perf_counter()
        self._due_s = now_s + (now_s - start_s) / SHARE


class ResultsHook(Hook):
    """Writes a row per epoch, with the figures of its evaluation; a resumed run continues the table.

    Stands after the hooks that log and evaluate. A row is known by its iter: rows beyond the iteration
    that is resumed are left out, and the same iteration never has two.

    Args:
        figures: names of the figures that are drawn, if they occur; None: no results.png.
    """

    name = "results"

    def __init__(self, figures: Sequence[str] | None) -> None:
        self.figures = figures
        self.rows: list[Row] = []
        self._evaluated: Row = {}
        self._table, self._plot = Painter("results.csv"), Painter("results.png")
        self._start_s = 0.0

    def before_train(self, trainer: Trainer) -> None:
        """Take over the rows before the iteration that is resumed."""
        path = trainer.facts.work_dir / "results.csv"
        if trainer.iter and is_main() and path.exists():
            try:
                self.rows = [row for row in read_results(path) if row["iter"] <= trainer.iter]
            except DataError as error:
                logger.warning("%s; the table starts anew", error)
        self._start_s = time.time() - (self.rows[-1].get("time_s", 0.0) if self.rows else 0.0)
        if self._evaluated:  # an epoch that was saved, but not evaluated before
            self._write(trainer)

    def after_eval(self, trainer: Trainer, figures: Row, predictions: PredictionDict) -> None:
        """Keep the figures for the row."""
        self._evaluated = {name: float(value) for name, value in figures.items()}

    def after_epoch(self, trainer: Trainer) -> None:
        """Write the row of the epoch."""
        self._write(trainer)

    def after_train(self, trainer: Trainer) -> None:
        """Complete the table and the plot."""
        self._write(trainer, is_last=True)

    def _write(self, trainer: Trainer, is_last: bool = False) -> None:
        if not is_main():
            return
        older = self.rows.pop() if self.rows and self.rows[-1]["iter"] == trainer.iter else {}
        fresh: Row = {
            "epoch": round(trainer.iter / trainer.facts.iters_per_epoch, 3),
            "iter": trainer.iter,
            "time_s": round(time.time() - self._start_s, 1),
            "lr": float(trainer.step.optimizer.param_groups[0]["lr"]),  # a tensor in a recorded step
        }
        self.rows.append({**fresh, **older, **trainer.epoch_losses, **self._evaluated})
        self._evaluated = {}
        folder = trainer.facts.work_dir
        self._table.draw(lambda: write_results(self.rows, folder / "results.csv"), is_last=True)
        if (figures := self.figures) is not None:
            self._plot.draw(lambda: draw_results(self.rows, figures, folder / "results.png"), is_last)
