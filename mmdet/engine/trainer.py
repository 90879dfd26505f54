"""The training loop. mmdet/engine/run.py puts its parts together from a config file."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.config.types import RunConfig
from mmdet.core.structures import Batch
from mmdet.datasets.loader import TrainLoader
from mmdet.engine.ema import WeightAverage
from mmdet.engine.finite import FiniteGuard
from mmdet.engine.graphs import RecordedStep
from mmdet.engine.logger import RunLog
from mmdet.engine.schedule import Schedule
from mmdet.engine.signals import StopSignal
from mmdet.errors import Interrupted, TrainError
from mmdet.precision import Precision

Losses = dict[str, Tensor]


class Hook:
    """What happens beside the loop: log, save, evaluate, average weights. Never touches the loss."""

    name = ""

    def before_train(self, trainer: "Trainer") -> None:
        """Run once, before the first iteration; trainer.iter may be above 0 (resumed)."""

    def after_iter(self, trainer: "Trainer", losses: Losses) -> None:
        """Run after each iteration; trainer.iter counts it already. Losses are on the device."""

    def after_epoch(self, trainer: "Trainer") -> None:
        """Run after the last iteration of an epoch."""

    def after_train(self, trainer: "Trainer") -> None:
        """Run once after the last iteration."""

    def on_stop(self, trainer: "Trainer") -> None:
        """Run instead of after_train when a signal ends training."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps of the hook."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it; {} if the checkpoint has nothing."""


def _keep(batch: Batch) -> Batch:
    return batch


@dataclass(kw_only=True)
class Trainer:
    """One training run.

    Attributes:
        net: the model, in DDP if there are several ranks; `precision` knows the model itself.
        make_loader: start_iter -> the stream of this rank's batches.
        finish: what is left to do to a batch on the device (`data.device_augment`); by default nothing.
        memory_format: order of the network's input and feature maps in memory (`speed.channels_last`).
        recorded: repeats a recorded `update` (`speed.graph`); None runs it.
        batch_size: images per iteration over all ranks.
        total_iters: where training ends; `total_epochs` is the schedule's idea of it.
        work_dir: where hooks write; it exists when training starts.
        metrics: figures for metrics.json, filled by hooks.
        iter: iterations done.
    """

    cfg: RunConfig
    net: nn.Module
    criterion: Callable[..., Losses]
    precision: Precision
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    guard: FiniteGuard
    make_loader: Callable[..., TrainLoader]
    hooks: list[Hook]
    log: RunLog
    device: torch.device
    work_dir: Path
    iters_per_epoch: int
    total_iters: int
    batch_size: int
    finish: Callable[[Batch], Batch] = _keep
    memory_format: torch.memory_format = torch.contiguous_format
    recorded: RecordedStep | None = None
    world_size: int = 1
    seed: int = 0
    classes: tuple[str, ...] = ("face",)
    commit: str = ""
    ema: WeightAverage | None = None
    iter: int = 0
    data_time_s: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.iter // self.iters_per_epoch

    def position(self) -> dict[str, int]:
        """Return where the data stream stands, and what it depends on."""
        return {
            "iter": self.iter,
            "iters_per_epoch": self.iters_per_epoch,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def train(self) -> None:
        """Train from `iter` to `total_iters`.

        Raises:
            TrainError: a loss is not finite. Interrupted: a signal came; the state is saved.
        """
        self.net.train()
        self._call("before_train")
        self.loader = self.make_loader(start_iter=self.iter)
        with StopSignal(every=1 if self.device.type == "cpu" else 10) as stop:
            while self.iter < self.total_iters:
                self.iter_start_s = time.perf_counter()
                batch = next(self.loader)
                try:
                    batch = self.finish(batch.to(self.device, non_blocking=True))
                    self.data_time_s = time.perf_counter() - self.iter_start_s
                    losses = self.train_step(batch)
                except RuntimeError as error:
                    if type(error).__name__ != "OutOfMemoryError":  # its name on every device
                        raise
                    raise TrainError(_out_of_memory(error, self.iter, batch)) from error
                self.iter += 1
                self._call("after_iter", losses)
                if self.iter % self.iters_per_epoch == 0:
                    self._call("after_epoch")
                if stop.is_agreed(self.iter) and self.iter < self.total_iters:
                    self._call("on_stop")
                    self.loader.close()
                    raise Interrupted(f"{stop.name} at iter {self.iter}. {self.guard.describe()}")
        self.guard.check()
        self._call("after_train")
        self.loader.close()

    def train_step(self, batch: Batch) -> Losses:
        """Update the weights once; return the losses, on the device."""
        self.schedule.apply(self.optimizer, self.iter)
        update = self.update if self.recorded is None else self.recorded
        losses = update(self.iter, batch)
        self.guard.remember(self.iter, batch.names)
        return losses

    def update(self, iter: int | Tensor, batch: Batch) -> Losses:
        """Do the device's work of one iteration; all state that it changes, it changes in place."""
        self.precision.zero_grad()
        images = batch.images.to(memory_format=self.memory_format)
        with self.precision.autocast():
            outputs = self.net(self.precision.cast_input(images))  # (B, A, .), half under O2
        losses = self.criterion(outputs.float(), batch)  # assign -> targets -> masked losses, fp32
        self.precision.backward(self.guard.watch(iter, losses))
        self.precision.step(self.optimizer, self.cfg.grad_clip)
        return losses

    def _call(self, moment: str, *args: Any) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self, *args)


def _out_of_memory(error: RuntimeError, iter: int, batch: Batch) -> str:
    """Return one line with the sizes: what the step worked on, and what the device says."""
    num, _, height, width = batch.images.shape
    step = f"iter {iter}, {num} images of {height}x{width}, {batch.gt_valid.shape[1]} face slots"
    reason = str(error).partition("\n")[0]
    return f"{step}: {reason} Lower data.samples_per_gpu, or use amp.level=O2."
