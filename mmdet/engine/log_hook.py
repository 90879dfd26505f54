"""LogHook: losses, speed and memory, with one wait for the device per log line."""

import time
from typing import Any

import torch
from torch import Tensor

from mmdet.device import peak_memory_mib, synchronize
from mmdet.distributed import gather_objects, mean_across_ranks
from mmdet.engine.logger import logger, train_line
from mmdet.engine.trainer import Hook, Losses, Trainer

WARM_UP_ITERS = 5  # compilation, allocation, first reads: not part of FPS


class LogHook(Hook):
    """Writes a line every `interval` iterations of an epoch and at its end, and `* FPS@all` per epoch.

    Losses are means over the iterations since the last line and over all ranks. They are added up on the
    device; only a line waits for it, so that its times include the device's work. FPS counts images of all
    ranks per second, without the first iterations of the run, evaluation and epoch checkpoints.
    """

    name = "log"

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._num_resumed = 0  # of them, before this process began: their time is not known
        self._last_loss: float | None = None
        self._epoch = _EpochMeans()
        self._data_time_s = 0.0
        self._start_s: float | None = None  # of the iterations since the last line
        self._speed = _Speed()
        self._told: dict[str, Any] = {}

    def before_train(self, trainer: Trainer) -> None:
        """Plan the warm-up: never all iterations of a short run."""
        self._speed.begin_after = min(WARM_UP_ITERS, max(trainer.facts.total_iters - trainer.iter - 1, 0))
        if self._last_loss is not None:
            trainer.metrics["loss"] = self._last_loss
        trainer.epoch_losses = self._epoch.means()

    def state_dict(self) -> dict[str, Any]:
        """Return the losses since the last line (of this rank), and those of the line."""
        sums = {key: float(value) for key, value in self._sums.items()}
        return {
            "sums": sums,
            "count": self._count,
            "loss": self._last_loss,
            "epoch": self._epoch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them, so that the figures of a resumed run are those of an uninterrupted one."""
        self._sums = {key: torch.tensor(float(value)) for key, value in state.get("sums", {}).items()}
        self._count = self._num_resumed = int(state.get("count", 0))
        self._last_loss = state.get("loss")
        self._epoch.load_state_dict(state.get("epoch", {}))

    def after_iter(self, trainer: Trainer, losses: Losses) -> None:
        """Add up; write a line when due."""
        if self._start_s is None:
            self._start_s = trainer.iter_start_s
        for key, value in losses.items():
            self._sums[key] = (
                self._sums[key] + value.detach() if key in self._sums else value.detach().clone()
            )
        self._count += 1
        self._data_time_s += trainer.data_time_s
        self._speed.count(trainer)
        inner_iter = (trainer.iter - 1) % trainer.facts.iters_per_epoch + 1
        is_end = inner_iter == trainer.facts.iters_per_epoch or trainer.iter == trainer.facts.total_iters
        if inner_iter % self.interval == 0 or is_end:
            self._write_line(trainer, inner_iter)

    def after_epoch(self, trainer: Trainer) -> None:
        """Write the epoch's speed, and what the loader had to say."""
        self._speed.end_epoch(trainer)
        self._write_notes(trainer)

    def after_train(self, trainer: Trainer) -> None:
        """Leave the figures of the run."""
        if trainer.iter % trainer.facts.iters_per_epoch:
            self._speed.end_epoch(trainer)
            self._write_notes(trainer)
        skipped, _ = trainer.step.precision.skipped_steps()
        trainer.metrics |= {**self._speed.figures(trainer), "skipped_steps": skipped}

    def _write_line(self, trainer: Trainer, inner_iter: int) -> None:
        sums = [value / self._count for value in self._sums.values()]
        values = torch.stack([*sums, trainer.step.precision.grad_norm])
        *means, grad_norm = mean_across_ranks(values).tolist()  # waits for the device
        now = time.perf_counter()
        trainer.step.guard.check()
        assert self._start_s is not None
        num_timed = self._count - self._num_resumed
        time_s = (now - self._start_s) / num_timed
        record: dict[str, Any] = {
            "mode": "train",
            "epoch": (trainer.iter - 1) // trainer.facts.iters_per_epoch + 1,
            "iter": inner_iter,
            "lr": float(trainer.step.optimizer.param_groups[0]["lr"]),  # a tensor in a recorded step
            "memory": int(peak_memory_mib(trainer.step.device)),
            "data_time": self._data_time_s / num_timed,
            **dict(zip(self._sums, means, strict=True)),
            "loss": sum(means),
            "grad_norm": grad_norm,  # of the last iteration, before clipping
            "scale": trainer.step.precision.scale,
            "time": time_s,
            "img_s": trainer.facts.batch_size_total / time_s,
        }
        trainer.metrics["loss"] = self._last_loss = record["loss"]
        self._epoch.add(
            record["epoch"], {**dict(zip(self._sums, means, strict=True)), "loss": sum(means)}, self._count
        )
        trainer.epoch_losses = self._epoch.means()
        eta_s = self._speed.time_left_s(trainer, now, time_s)
        logger.info(train_line(record, trainer.facts.iters_per_epoch, eta_s))
        trainer.log.write(_rounded(record), step=trainer.iter)
        self._speed.now_s = now
        self._sums, self._count, self._data_time_s, self._start_s = {}, 0, 0.0, None
        self._num_resumed = 0
        if trainer.iter % trainer.facts.iters_per_epoch:
            self._start_s = now

    def _write_notes(self, trainer: Trainer) -> None:
        gathered = gather_objects(trainer.loader.notes.summary())
        if gathered is None:
            return
        counts: dict[str, int] = {}
        for summary in gathered:
            for kind, numbers in summary.items():
                counts[kind] = counts.get(kind, 0) + numbers["count"]
        if counts and counts != self._told:
            logger.warning("so far: %s", ", ".join(f"{kind}: {count}" for kind, count in counts.items()))
        self._told = trainer.metrics["image_notes"] = counts


class _EpochMeans:
    """Means of the losses over one epoch, from the lines within it."""

    def __init__(self) -> None:
        self._number, self._count, self._sums = 0, 0, dict[str, float]()

    def add(self, epoch: int, means: dict[str, float], count: int) -> None:
        if epoch != self._number:
            self._number, self._count, self._sums = epoch, 0, {}
        self._count += count
        self._sums = {key: self._sums.get(key, 0.0) + count * value for key, value in means.items()}

    def means(self) -> dict[str, float]:
        return {key: value / self._count for key, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"number": self._number, "count": self._count, "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._number, self._count = int(state.get("number", 0)), int(state.get("count", 0))
        self._sums = (
            {key: float(value) for key, value in state.get("sums", {}).items()} if self._count else {}
        )


class _Speed:
    """Images per second between the warm-up and the last line of an epoch; pauses between epochs."""

    def __init__(self) -> None:
        self.begin_after = WARM_UP_ITERS
        self.now_s = 0.0  # when the device was last waited for
        self._seen = 0
        self._start: tuple[int, float] | None = None  # iter, time
        self._iters, self._time_s = 0, 0.0
        self._ended_s: float | None = None  # when the last epoch ended
        self._pauses, self._pauses_s = 0, 0.0  # between epochs: evaluations, checkpoints

    def count(self, trainer: Trainer) -> None:
        self._seen += 1
        if self._ended_s is not None:
            self._pauses, self._pauses_s = (
                self._pauses + 1,
                self._pauses_s + trainer.iter_start_s - self._ended_s,
            )
            self._ended_s = None
        if self._seen == self.begin_after:
            synchronize(trainer.step.device)
            self._start = (trainer.iter, time.perf_counter())
        elif self._seen > self.begin_after and self._start is None:
            self._start = (trainer.iter - 1, trainer.iter_start_s)

    def end_epoch(self, trainer: Trainer) -> None:
        self._ended_s = self.now_s
        if self._start is None or trainer.iter == self._start[0]:
            self._start = None
            return
        iters, time_s = trainer.iter - self._start[0], self.now_s - self._start[1]
        fps = iters * trainer.facts.batch_size_total / time_s
        logger.info(" * FPS@all %.3f, TIME@all %.3f", fps, time_s / iters)
        self._iters += iters
        self._time_s += time_s
        self._start = None

    def time_left_s(self, trainer: Trainer, now_s: float, default_s: float) -> float:
        """Return the seconds left, by the mean iteration since the warm-up and the mean pause of an epoch.

        Args:
            trainer: of the run.
            now_s: the time.
            default_s: per iteration, during the warm-up.
        """
        iters, time_s = self._iters, self._time_s
        if self._start is not None:
            iters, time_s = iters + trainer.iter - self._start[0], time_s + now_s - self._start[1]
        left = trainer.facts.total_iters - trainer.iter
        pause_s = self._pauses_s / self._pauses if self._pauses else 0.0
        epochs_left = left // trainer.facts.iters_per_epoch
        return left * (time_s / iters if iters else default_s) + epochs_left * pause_s

    def figures(self, trainer: Trainer) -> dict[str, Any]:
        fps = self._iters * trainer.facts.batch_size_total / self._time_s if self._iters else None
        return {"fps": fps, "fps_per_rank": fps and fps / trainer.facts.world_size, "fps_iters": self._iters}


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with 5 decimals, as mmcv's JSON log; the learning rate in full."""
    return {k: round(v, 5) if isinstance(v, float) and k != "lr" else v for k, v in record.items()}
