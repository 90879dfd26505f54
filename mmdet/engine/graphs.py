"""A training step recorded once per batch shape and repeated (`speed.graph`), CUDA graphs behind it.

Face slots make shapes repeat: there is one recording per slot size. A recording repeats the same kernels on
the same memory, so all that differs between steps is written into fixed tensors first: the batch and the
learning rate. Everything a step leaves behind (weights, momentum, counters) it changes in place. Exchanges
between ranks stay outside: a recording has a part before and a part after each.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGrid, live_grids
from mmdet.core.structures import Batch
from mmdet.device_graph import Outside
from mmdet.distributed import collectives_through
from mmdet.errors import ConfigError

Losses = dict[str, Tensor]
Key = tuple[Any, ...]

WARM_UP_STEPS = 3  # per shape, before recording; each is a real training step


class StepRecorder(Protocol):
    """What `mmdet.device.GraphRecorder` does; tests have one for the CPU."""

    def warm_up(self, work: Callable[[], Any]) -> Any:
        """Run the work where it will be recorded."""

    def record(self, work: Callable[[Outside], Any]) -> tuple[Callable[[], None], Any]:
        """Record without running; return what repeats it, and its result."""


class RecordedStep:
    """Runs `update` the first times a batch shape comes, then records it, then repeats the recording.

    Args:
        update: batch -> losses; no synchronisation with the host inside.
        optimizer: whose learning rate can be a tensor: fused, or SGD on a device where `sgd_step_if` computes
            it; Adam and AdamW also capturable.
        device: of the step.
        recorder: how to record.
    """

    def __init__(
        self,
        update: Callable[[Batch], Losses],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        recorder: StepRecorder,
    ) -> None:
        self.update = update
        self.optimizer = optimizer
        self.recorder = recorder
        self._device = device
        self._seen: Counter[Key] = Counter()
        self._recorded: dict[Key, tuple[Batch, Callable[[], None], Losses]] = {}
        self._grids: set[AnchorGrid] = set()  # the generator's cache may drop them; recordings read them

    def __call__(self, batch: Batch) -> Losses:
        """Update the weights; return copies of the losses, detached.

        Detached, because a loss that still hangs on its graph would keep autograd's nodes, and the streams
        they remember, from one step to the next.

        Raises:
            ConfigError: the step cannot be recorded.
        """
        self._lr_to_device()
        key = _shapes(batch)
        if key not in self._recorded and self._seen[key] < WARM_UP_STEPS:
            self._seen[key] += 1
            return _copy(self.recorder.warm_up(lambda: self.update(batch)))
        if key not in self._recorded:
            self._recorded[key] = self._record(batch)
        own, repeat, losses = self._recorded[key]
        for mine, given in zip(own.tensors(), batch.tensors(), strict=True):
            mine.copy_(given, non_blocking=True)
        repeat()
        return _copy(losses)

    def _record(self, batch: Batch) -> tuple[Batch, Callable[[], None], Losses]:
        own = batch.map(torch.clone)

        def work(outside: Outside) -> Losses:
            with collectives_through(outside):
                return self.update(own)

        try:
            repeat, losses = self.recorder.record(work)
        except RuntimeError as error:
            cause = _first(error)
            if type(cause).__name__ == "OutOfMemoryError":
                raise cause from None
            reason = str(cause).partition("\n")[0] or type(cause).__name__
            raise ConfigError(
                f"speed.graph: this step cannot be recorded ({reason}, {_place(cause)}); "
                "set speed.graph=False"
            ) from cause
        self._grids.update(live_grids())
        return own, repeat, {name: loss.detach() for name, loss in losses.items()}

    def _lr_to_device(self) -> None:
        """Make the learning rate a tensor on the device; the schedule then writes into it."""
        for group in self.optimizer.param_groups:
            lr = group["lr"]
            if not (isinstance(lr, Tensor) and lr.device == self._device):
                group["lr"] = torch.tensor(float(lr), device=self._device)


def _first(error: BaseException) -> BaseException:
    """Return what went wrong first: ending a failed recording raises another error over it."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _place(error: BaseException) -> str:
    """Return file:line where the error was raised, in the innermost frame that is no installed library's."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/lib/python" not in f.filename]
    frame = (ours or frames)[-1] if frames else None
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}" if frame else "unknown place"


def _shapes(batch: Batch) -> Key:
    """Return what a recording depends on."""
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in batch.tensors())


def _copy(losses: Losses) -> Losses:
    return {name: loss.detach().clone() for name, loss in losses.items()}
