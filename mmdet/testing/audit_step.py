"""Build the training or test step of a config, on drawn batches, for the operator audit."""

from dataclasses import replace

import torch

from mmdet.config import RunConfig
from mmdet.core.structures import Batch
from mmdet.engine.step import TrainStep, build_step
from mmdet.models.build import build_detector
from mmdet.testing.ascend_ops import operators
from mmdet.testing.audit import Recorder


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


def build_audited_step(cfg: RunConfig, device: torch.device) -> TrainStep:
    """Return a step that works on any device as on an accelerator, for batches that need no finishing.

    Of cfg.speed, channels_last and fused_optimizer count; graph and compile hide a step's operators.
    """
    speed = replace(cfg.speed, channels_last=bool(cfg.speed.channels_last), compile=False, graph=False)
    optimizer_cfg = cfg.optimizer
    has_foreach = optimizer_cfg["type"] in ("SGD", "Adam", "AdamW", "RMSprop")
    if device.type == "cpu" and has_foreach and not speed.fused_optimizer:
        optimizer_cfg = {**optimizer_cfg, "foreach": True}  # torch's choice on a card
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
    return build_step(model, replace(cfg, speed=speed, optimizer=optimizer_cfg), device, sync_free=True)


def record_training(cfg: RunConfig, device: torch.device, batches: list[Batch]) -> list[Recorder]:
    """Run one step to warm up, then record one step per batch."""
    step = build_audited_step(cfg, device)
    step.update(0, batches[0].to(device))
    recorders = []
    for iter, batch in enumerate(batches, start=1):
        on_device = batch.to(device)
        on_card = [*_tensors(on_device), *step.net.parameters(), *step.net.buffers()]
        with Recorder(operators(), device, on_card) as recorder:
            step.update(iter, on_device)
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
