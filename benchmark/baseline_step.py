"""A training step as the reference takes it, for comparison.

The same network on images in the usual memory order (B, C, H, W); raw maps per level; targets one image at a
time (baseline_targets.py); every loss read back for the log in every step; SGD parameter by parameter.
"""

import time

import torch
from torch import Tensor

from benchmark import baseline_targets
from mmdet.config import RunConfig
from mmdet.core.structures import Batch
from mmdet.device import synchronize
from mmdet.engine.optim import build_optimizer
from mmdet.errors import ConfigError
from mmdet.models.build import build_detector
from mmdet.precision import Precision


class BaselineStep:
    """The reference's step; precision levels and loss scale are ours, the reference needs apex for them.

    Args:
        cfg: a published config: quality focal, DIoU and SmoothL1 losses with their usual weights, no DFL.
        batch: on its device; slots behind the faces are dropped, as the reference's lists have none.
        device: of the step.
        nearest: how the assignment breaks ties.
    """

    def __init__(
        self,
        cfg: RunConfig,
        batch: Batch,
        device: torch.device,
        nearest: baseline_targets.Nearest = baseline_targets.nearest_any_tie,
    ) -> None:
        self.nearest = nearest
        self.model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).to(device).train()
        head = self.model.bbox_head
        if head.use_dfl or head.num_classes != 1:
            raise ConfigError(f"{cfg.filename}: the baseline knows one class and no distribution focal loss")
        self.device, self.images = device, batch.images
        self.precision = Precision(self.model, cfg.amp, device)
        optimizer_cfg = (
            {**cfg.optimizer, "foreach": False} if cfg.optimizer["type"] == "SGD" else cfg.optimizer
        )
        self.optimizer = build_optimizer(self.precision.optimizer_params(), optimizer_cfg)
        self.faces = [
            baseline_targets.Face(batch.gt_bboxes[b][valid], batch.gt_kps[b][valid])
            for b, valid in enumerate(batch.gt_valid)
        ]

    def losses(self) -> dict[str, Tensor]:
        """Return the losses of the batch; runs the network."""
        return self._losses(self._maps())

    def _maps(self) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        with self.precision.autocast():
            cls, bbox, kps = self.model.raw(self.precision.cast_input(self.images))
        has_kps = self.model.bbox_head.num_kps > 0
        floats = [[level.float() for level in maps if level is not None] for maps in (cls, bbox, kps)]
        return floats[0], floats[1], floats[2] if has_kps else None

    def _losses(self, maps: tuple[list[Tensor], list[Tensor], list[Tensor] | None]) -> dict[str, Tensor]:
        grid = self.model.anchor_generator.grid([m.shape[2:] for m in maps[0]], self.device)
        return baseline_targets.targets_and_losses(grid, *maps, self.faces, self.nearest)

    def __call__(self) -> dict[str, float]:
        """Take one step; return the seconds of its parts."""
        synchronize(self.device)
        times = [time.perf_counter()]

        def mark() -> None:
            synchronize(self.device)
            times.append(time.perf_counter())

        self.precision.zero_grad()
        maps = self._maps()
        mark()
        losses = self._losses(maps)
        _ = [float(loss.detach()) for loss in losses.values()]
        mark()
        self.precision.backward(sum(losses.values()))  # type: ignore[arg-type]
        mark()
        self.precision.step(self.optimizer)
        mark()
        names = ("forward", "targets_and_losses", "backward", "optimizer")
        parts = {name: end - start for name, start, end in zip(names, times, times[1:], strict=False)}
        return {**parts, "step": times[-1] - times[0]}
