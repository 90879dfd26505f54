"""One training step: `TrainStep` holds what takes part in it, `build_step` puts it together from a config.

Training, the benchmark of a step, the operator audit and the tests all build their step here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from mmdet.config.types import RunConfig
from mmdet.core.structures import Batch
from mmdet.device_graph import GraphRecorder
from mmdet.distributed import mean_across_ranks, wrap_ddp
from mmdet.engine.finite import FiniteGuard
from mmdet.engine.graphs import Losses, RecordedStep, StepRecorder
from mmdet.engine.optim import build_optimizer
from mmdet.engine.speed import choose_memory_format, compile_network, fuse_optimizer, start_momentum
from mmdet.models.batch_counter import BatchCounter
from mmdet.models.build import build_criterion
from mmdet.precision import Precision


def keep(batch: Batch) -> Batch:
    """Return the batch unchanged."""
    return batch


@dataclass(kw_only=True)
class TrainStep:
    """What updates the weights once per batch, on one rank.

    Attributes:
        net: the model in training mode, compiled if `speed.compile`, in DDP if there are several ranks and
            `precision` does not average their gradients.
        criterion: (fp32 outputs, batch) -> losses.
        precision: knows the model itself, without DDP.
        guard: stops training at a loss that is not finite.
        finish: what is left to do to a batch on the device (`data.device_augment`).
        memory_format: order of the network's input and feature maps in memory (`speed.channels_last`).
        grad_clip: dict(max_norm, norm_type) or None.
        recorder: records the step once per batch shape and repeats it (`speed.graph`); None: no recording.
        counter: counts the batches of BatchNorm layers; None: they do.
    """

    net: nn.Module
    criterion: Callable[..., Losses]
    precision: Precision
    optimizer: torch.optim.Optimizer
    guard: FiniteGuard
    device: torch.device
    finish: Callable[[Batch], Batch] = keep
    memory_format: torch.memory_format = torch.contiguous_format
    grad_clip: dict | None = None
    recorder: StepRecorder | None = None
    counter: BatchCounter | None = None
    _update: Callable[[Batch], Losses] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._update = self._work
        if self.recorder is not None:
            self._update = RecordedStep(self._work, self.optimizer, self.device, self.recorder)

    def load(self, batch: Batch) -> Batch:
        """Return the batch on the device, ready for `update`."""
        return self.finish(batch.to(self.device, non_blocking=True))

    def update(self, iter: int, batch: Batch) -> Losses:
        """Update the weights once; return the losses, fp32 scalars on the device.

        Raises:
            TrainError: on a CPU, a loss is not finite. Elsewhere `guard.check` raises it.
        """
        losses = self._update(batch)
        self.guard.remember(iter, batch.names)
        return losses

    def _work(self, batch: Batch) -> Losses:
        """Do the device's part; all state that it changes, it changes in place."""
        self.precision.zero_grad()
        images = batch.images.to(memory_format=self.memory_format)
        with self.precision.autocast():
            outputs = self.net(self.precision.cast_input(images))  # (B, A, .), half under O2
        if self.counter is not None:
            self.counter.add()
        losses = self.criterion(outputs.float(), batch)  # assign -> targets -> masked losses, fp32
        self.precision.backward(self.guard.watch(losses), self.guard.seed)
        self.precision.step(self.optimizer, self.grad_clip)
        return losses


def build_step(
    model: nn.Module,
    cfg: RunConfig,
    device: torch.device,
    *,
    finish: Callable[[Batch], Batch] = keep,
    describe: Callable[[], str] = lambda: "",
    sync_free: bool | None = None,
) -> TrainStep:
    """Build the step that a config asks for.

    Args:
        model: fp32, its weights loaded; moved to the device in place, and to half precision under O2.
        cfg: model, train_cfg, optimizer, grad_clip, amp and speed; `check_speed` has accepted it.
        device: of the step.
        finish: see TrainStep.
        describe: see FiniteGuard.
        sync_free: never read the device's values on the host; None: except on a CPU, where it costs nothing.
    """
    criterion = build_criterion(cfg.model, cfg.train_cfg, mean_across_ranks)
    if getattr(criterion, "needs_features", False):
        model.keeps_features = True  # type: ignore[assignment]
    memory_format = choose_memory_format(cfg.speed, device)
    model = model.to(device, memory_format=memory_format).train()  # type: ignore[call-overload]
    precision = Precision(model, cfg.amp, device, sync_free=sync_free)
    fused_cfg = fuse_optimizer(cfg.optimizer, cfg.speed, device)
    optimizer = build_optimizer(precision.optimizer_params(), fused_cfg, cfg.amp.backend)
    start_momentum(optimizer)
    optimizer = precision.prepare(optimizer)
    net = wrap_ddp(
        model,
        device,
        cfg.sync_bn,
        find_unused=cfg.find_unused_parameters,
        is_averaged=precision.averages_gradients,
    )
    return TrainStep(
        net=compile_network(net, cfg.speed),
        criterion=criterion,
        precision=precision,
        optimizer=optimizer,
        guard=FiniteGuard(device, precision, describe, sync_free=sync_free),
        device=device,
        finish=finish,
        memory_format=memory_format,
        grad_clip=cfg.grad_clip,
        recorder=GraphRecorder(device) if cfg.speed.graph else None,
        counter=BatchCounter(net),
    )
