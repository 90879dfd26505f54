"""Build the training or test step of a config, on drawn batches, for the operator audit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch.amp.grad_scaler import OptState
from torch.overrides import TorchFunctionMode

from mmdet.config import RunConfig
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.datasets.build import build_pipeline
from mmdet.datasets.device_augment import NUM_OPS, FinishImages
from mmdet.datasets.transforms.color import Normalize
from mmdet.engine.step import TrainStep, build_step, keep
from mmdet.models.build import build_detector
from mmdet.precision import Precision
from mmdet.testing.ascend_ops import operators
from mmdet.testing.audit import Recorder

# What autocast computes in half precision and in fp32, of the functions that networks call.
HALF = (torch.conv1d, torch.conv2d, torch.conv_transpose2d, F.linear, torch.matmul, torch.bmm)
FP32 = (F.group_norm, torch.group_norm, F.layer_norm, torch.layer_norm, F.softplus, torch.softmax, F.softmax)


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


def for_card(cfg: RunConfig, batch: Batch) -> Batch:
    """Return the batch as the loader sends it: under `data.device_augment` bytes and changes to make."""
    if not cfg.data.device_augment or batch.pixel_ops is not None:
        return batch
    pixels = torch.zeros_like(batch.images, dtype=torch.uint8).permute(0, 2, 3, 1).contiguous()
    return replace(batch, images=pixels, pixel_ops=torch.zeros(len(pixels), NUM_OPS))


def build_audited_step(cfg: RunConfig, device: torch.device, is_saturating: bool = False) -> TrainStep:
    """Return a step that works on any device as on an accelerator.

    On META, `is_saturating` means a chip on which an overflow does not show. Of cfg.speed, channels_last and
    fused_optimizer count; graph and compile hide a step's operators.
    """
    speed = replace(cfg.speed, channels_last=bool(cfg.speed.channels_last), compile=False, graph=False)
    optimizer_cfg = cfg.optimizer
    has_foreach = optimizer_cfg["type"] in ("SGD", "Adam", "AdamW", "RMSprop")
    if device.type in ("cpu", "meta") and has_foreach and not speed.fused_optimizer:
        optimizer_cfg = {**optimizer_cfg, "foreach": True}  # torch's choice on a card
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
    cfg = replace(cfg, speed=speed, optimizer=optimizer_cfg)
    step = build_step(model, cfg, device, finish=_finish(cfg), sync_free=True)
    if device.type == "meta":
        imitate_card(step.precision, is_saturating)
    return step


def _finish(cfg: RunConfig) -> Callable[[Batch], Batch]:
    """Return what the config leaves to do to a batch on the device."""
    steps = build_pipeline(cfg.data.train["pipeline"]).transforms if cfg.data.device_augment else []
    return next((FinishImages(step) for step in steps if isinstance(step, Normalize)), keep)


def imitate_card(precision: Precision, is_saturating: bool) -> None:
    """Let shapes take the way that they take with torch_npu: META has neither its scaler nor autocast."""
    if precision.scaler is not None or (precision.is_scaled and is_saturating):
        precision.scaler = _CardScaler("meta", init_scale=precision.scale)
    if precision.cfg.level == "O1":
        precision.autocast = lambda: _CardAutocast(precision.dtype)  # type: ignore[method-assign]


class _CardScaler(torch.amp.GradScaler):
    """The operators of torch_npu's scaler, on META: its reciprocal is fp32, torch's fp64."""

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Unscale the gradients; note whether they were finite."""
        assert self._scale is not None
        state = self._per_optimizer_states[id(optimizer)]
        found_inf = torch.zeros((), device=self._scale.device)
        inverse = self._scale.float().reciprocal()
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, inverse, found_inf, False)
        state["stage"] = OptState.UNSCALED


class _CardAutocast(TorchFunctionMode):
    """Choose dtypes as autocast does on a card; parameters are cast once in a step."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.cast: dict[int, torch.Tensor] = {}

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        dtype = self.dtype if function in HALF else torch.float32 if function in FP32 else None
        if dtype is not None:
            args = tuple(self._to(v, dtype) if isinstance(v, torch.Tensor) else v for v in args)
        return function(*args, **(kwargs or {}))

    def _to(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.dtype == dtype:
            return tensor
        if not tensor.is_leaf or not tensor.requires_grad:
            return tensor.to(dtype)
        return self.cast.setdefault(id(tensor), tensor.to(dtype))


def record_training(
    cfg: RunConfig, device: torch.device, batches: list[Batch], is_saturating: bool = False
) -> list[Recorder]:
    """Run one step to warm up, then record one step per batch, colour changes on the device included.

    Args:
        cfg: of the run.
        device: META, or a card.
        batches: as draw_batch makes them.
        is_saturating: see build_audited_step.
    """
    step = build_audited_step(cfg, device, is_saturating)
    assign = assign_ahead(step.criterion) if cfg.data.assign_ahead else None
    if assign is not None:
        batches = [replace(batch, assigned=assign(batch)) for batch in batches]
    batches = [for_card(cfg, batch) for batch in batches]
    recorders = []
    for iter, batch in enumerate([batches[0], *batches]):
        on_device = batch.to(device)
        with Recorder(operators(), device) as recorder:
            step.update(iter, step.finish(on_device))
        recorders.append(recorder)
    return recorders[1:]


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
