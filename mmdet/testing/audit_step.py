"""Build the training or test step of a config, on drawn batches, for the operator audit."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from mmdet.config import RunConfig
from mmdet.core.structures import Batch
from mmdet.engine.finite import FiniteGuard
from mmdet.engine.logger import RunLog
from mmdet.engine.schedule import Schedule
from mmdet.engine.step import build_step
from mmdet.engine.trainer import Trainer
from mmdet.models.build import build_criterion, build_detector
from mmdet.precision.grads import step_and_put_back
from mmdet.testing.ascend_ops import operators
from mmdet.testing.audit import Recorder

ITERS_PER_EPOCH = 1000


def draw_batch(batch_size: int, size: int, num_faces: int, slots: int, seed: int = 0) -> Batch:
    """Return a batch of noise with `num_faces` faces in every image.

    Args:
        batch_size: B.
        size: height and width of the images.
        num_faces: at most `slots`.
        slots: G.
        seed: of the numbers.
    """
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch_size, slots, 2, generator=rng) * size * 0.8
    wh = 4 + torch.rand(batch_size, slots, 2, generator=rng) * size * 0.2
    kps = corner[:, :, None] + wh[:, :, None] * torch.rand(batch_size, slots, 5, 2, generator=rng)
    is_face = (torch.arange(slots) < num_faces).expand(batch_size, slots)
    return Batch(
        images=torch.randn(batch_size, 3, size, size, generator=rng),
        gt_bboxes=torch.cat([corner, corner + wh], dim=-1) * is_face[..., None],
        gt_labels=torch.zeros(batch_size, slots, dtype=torch.int64),
        gt_kps=torch.cat([kps, torch.ones(batch_size, slots, 5, 1)], dim=-1),
        gt_valid=is_face.clone(),
        gt_ignore=torch.zeros(batch_size, slots, dtype=torch.bool),
        valid_hw=torch.full((batch_size, 2), size, dtype=torch.int64),
    )


class _GuardOfACard(FiniteGuard):
    """Watches the losses as on a card, on a CPU too: without looking at them after every step."""

    def remember(self, iter: int, names: Sequence[str] = ()) -> None:
        """Leave the host's part out; an audited step has no log line."""


def build_trainer(cfg: RunConfig, device: torch.device) -> Trainer:
    """Return a trainer whose `train_step` is the one of a card, without data or files.

    Of cfg.speed, channels_last and fused_optimizer count; graph and compile hide a step's operators.
    """
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).train()
    speed = replace(cfg.speed, channels_last=bool(cfg.speed.channels_last), compile=False, graph=False)
    cfg = replace(cfg, speed=speed)
    optimizer_cfg = cfg.optimizer
    has_foreach = optimizer_cfg["type"] in ("SGD", "Adam", "AdamW", "RMSprop")
    if device.type == "cpu" and has_foreach and not speed.fused_optimizer:
        optimizer_cfg = {**optimizer_cfg, "foreach": True}  # torch's choice on a card
    step = build_step(model, cfg, device, optimizer_cfg)
    return Trainer(
        cfg=cfg,
        net=model,
        criterion=build_criterion(cfg.model, cfg.train_cfg),
        **step._asdict(),
        schedule=Schedule(cfg.lr, cfg.optimizer["lr"], ITERS_PER_EPOCH, cfg.total_epochs),
        guard=_GuardOfACard(device, step.precision),
        make_loader=_no_loader,
        hooks=[],
        log=RunLog(rank=0),
        device=device,
        work_dir=Path(),
        iters_per_epoch=ITERS_PER_EPOCH,
        total_iters=ITERS_PER_EPOCH,
        batch_size=1,
    )


def _no_loader(start_iter: int):  # noqa: ANN202
    raise AssertionError("an audit draws its own batches")


def record_training(cfg: RunConfig, device: torch.device, batches: list[Batch]) -> list[Recorder]:
    """Run one step to warm up, then record one step per batch."""
    trainer = build_trainer(cfg, device)
    with ExitStack() as stack:
        stack.callback(trainer.log.close)
        if device.type == "cpu":  # there the optimizer's step asks the host, which costs nothing
            stack.enter_context(patch("mmdet.precision.levels.step_if", step_and_put_back))
        trainer.train_step(batches[0].to(device))
        recorders = []
        for batch in batches:
            on_device = batch.to(device)
            on_card = [*_tensors(on_device), *trainer.net.parameters(), *trainer.net.buffers()]
            with Recorder(operators(), device, on_card) as recorder:
                trainer.train_step(on_device)
            recorders.append(recorder)
    return recorders


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]


def record_test(cfg: RunConfig, device: torch.device, batch: Batch) -> Recorder:
    """Record the forward pass of testing; what follows it runs on the host."""
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).to(device).eval()
    images = batch.images.to(device)
    with torch.no_grad():
        model(images)
        with Recorder(operators(), device) as recorder:
            model(images)
    return recorder


def with_amp(cfg: RunConfig, level: str | None, dtype: str | None) -> RunConfig:
    """Return the config with another precision level or dtype."""
    amp = replace(cfg.amp, **{k: v for k, v in (("level", level), ("dtype", dtype)) if v is not None})
    return replace(cfg, amp=amp)
