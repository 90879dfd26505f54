"""The training loop and the interface of its hooks. assemble.py builds a `Trainer` from a config file."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.config.types import RunConfig
from mmdet.core.structures import Batch
from mmdet.datasets.loader import TrainLoader, raise_if_worker_died
from mmdet.engine.ema import WeightAverage
from mmdet.engine.graphs import Losses
from mmdet.engine.logger import RunLog
from mmdet.engine.schedule import Schedule
from mmdet.engine.signals import StopSignal
from mmdet.engine.step import TrainStep
from mmdet.engine.watchdog import LOADER, STEP, Watchdog
from mmdet.errors import Interrupted, TrainError
from mmdet.evaluation.metrics import PredictionDict


class Hook:
    """What happens beside the loop: log, save, evaluate, average weights. Never touches the loss."""

    name = ""

    def before_train(self, trainer: "Trainer") -> None:
        """Run once, before the first iteration; trainer.iter may be above 0 (resumed)."""

    def after_iter(self, trainer: "Trainer", losses: Losses) -> None:
        """Run after each iteration; trainer.iter counts it already. Losses are on the device."""

    def after_epoch(self, trainer: "Trainer") -> None:
        """Run after the last iteration of an epoch."""

    def after_eval(self, trainer: "Trainer", figures: dict[str, float], predictions: PredictionDict) -> None:
        """Run after each evaluation, on rank 0 alone: no communication here."""

    def after_train(self, trainer: "Trainer") -> None:
        """Run once after the last iteration."""

    def on_stop(self, trainer: "Trainer") -> None:
        """Run instead of after_train when a signal ends training."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps of the hook."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it; {} if the checkpoint has nothing."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is decided before a run starts and stays.

    Attributes:
        work_dir: where hooks write; it exists when training starts.
        total_iters: where training ends; the schedule may be planned for more.
        batch_size_per_rank: images per iteration of one rank.
        commit: of the source tree; "" outside a checkout.
        identity: what a checkpoint keeps of the run, see `resume.identity`.
    """

    cfg: RunConfig
    work_dir: Path
    iters_per_epoch: int
    total_iters: int
    batch_size_per_rank: int
    world_size: int = 1
    seed: int = 0
    classes: tuple[str, ...] = ("face",)
    commit: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_size_total(self) -> int:
        """Images per iteration over all ranks."""
        return self.batch_size_per_rank * self.world_size


@dataclass(kw_only=True)
class Trainer:
    """One training run: takes batches, updates the weights, calls the hooks.

    Attributes:
        make_loader: start_iter -> the stream of this rank's batches; called when training starts.
        hooks: called in this order.
        ema: average of the weights, which is what is evaluated and saved; None without `ema`.
        iter: iterations done.
        metrics: figures for metrics.json, filled by hooks.
        epoch_losses: means over the current epoch up to the last log line, of all ranks.
        stop_reason: why training ends before its time, set by a hook on all ranks alike; "" to go on.
        watch: ends this process when nothing goes on.
        iter_start_s, data_time_s: of the current iteration: when it began, and how long its batch took.
    """

    step: TrainStep
    schedule: Schedule
    make_loader: Callable[..., TrainLoader]
    log: RunLog
    facts: RunFacts
    hooks: list[Hook] = field(default_factory=list)
    ema: WeightAverage | None = None
    iter: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    epoch_losses: dict[str, float] = field(default_factory=dict)
    stop_reason: str = ""
    watch: Watchdog = field(default_factory=lambda: Watchdog(timeout_s=0))
    loader: TrainLoader = field(init=False)
    iter_start_s: float = field(init=False, default=0.0)
    data_time_s: float = field(init=False, default=0.0)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.iter // self.facts.iters_per_epoch

    def train(self) -> None:
        """Train from `iter` to `facts.total_iters`.

        Raises:
            TrainError: a loss is not finite, memory is exhausted, or a loader worker died. Interrupted: a
                signal came; the state is saved.
        """
        with self.watch:
            try:
                self._train()
            except RuntimeError as error:  # of the workers of torch's loader, wherever Python hears of it
                raise_if_worker_died(error)
                raise

    def _train(self) -> None:
        self.call("before_train")
        self.loader = self.make_loader(start_iter=self.iter)
        with StopSignal(every=1 if self.step.device.type == "cpu" else 10) as stop:
            while self.iter < self.facts.total_iters and not self.stop_reason:
                losses = self._next_step()
                self.iter += 1
                self.call("after_iter", losses)
                if self.iter % self.facts.iters_per_epoch == 0:
                    self.call("after_epoch")
                if stop.is_agreed(self.iter) and self.iter < self.facts.total_iters:
                    self.call("on_stop")
                    self.loader.close()
                    raise Interrupted(f"{stop.name} at iter {self.iter}. {self.step.guard.describe()}")
        self.step.guard.check()
        self.call("after_train")
        self.loader.close()

    def _next_step(self) -> Losses:
        self.iter_start_s = time.perf_counter()
        self.watch.beat(self.iter, LOADER)
        batch = next(self.loader)
        self.watch.beat(self.iter, STEP)
        try:
            batch = self.step.load(batch)
            self.data_time_s = time.perf_counter() - self.iter_start_s
            return self.train_step(batch)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # its name on every device
                raise
            raise TrainError(_out_of_memory(error, self.iter, batch)) from error

    def train_step(self, batch: Batch) -> Losses:
        """Update the weights once at this iteration's learning rate; return the losses, on the device."""
        self.schedule.apply(self.step.optimizer, self.iter)
        return self.step.update(self.iter, batch)

    def call(self, moment: str, *args: Any) -> None:
        """Call a method of all hooks, in their order."""
        self.watch.beat(self.iter, moment)
        for hook in self.hooks:
            getattr(hook, moment)(self, *args)


def _out_of_memory(error: RuntimeError, iter: int, batch: Batch) -> str:
    """Return one line with the sizes: what the step worked on, and what the device says."""
    num, _, height, width = batch.images.shape
    step = f"iter {iter}, {num} images of {height}x{width}, {batch.gt_valid.shape[1]} face slots"
    reason = str(error).partition("\n")[0]
    return f"{step}: {reason} Lower data.samples_per_gpu, or use amp.level=O2."
