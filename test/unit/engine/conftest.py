"""A trainer without data or files, for tests of single steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmdet.build import build_criterion, build_detector
from mmdet.config import AmpConfig, SpeedConfig, load_config
from mmdet.engine.finite import FiniteGuard
from mmdet.engine.logger import RunLog
from mmdet.engine.optim import build_optimizer
from mmdet.engine.schedule import Schedule
from mmdet.engine.speed import choose_memory_format, compile_network, fuse_optimizer, start_momentum
from mmdet.engine.trainer import Trainer
from mmdet.precision import Precision

CONFIG = Path(__file__).resolve().parents[3] / "configs/scrfd/scrfd_500m_bnkps.py"


@pytest.fixture
def make_trainer():
    """A function: amp, speed, optimizer ("SGD": as in the config), device, options -> Trainer.

    Each has the same weights; the learning rate is in its warm-up, so every iteration has another.
    """
    made = []

    def make(
        amp: AmpConfig | None = None,
        speed: SpeedConfig | None = None,
        optimizer: str = "SGD",
        device: torch.device | None = None,
        options: dict | None = None,
    ) -> Trainer:
        torch.manual_seed(0)
        cfg = load_config(CONFIG, options or {})
        cfg = replace(cfg, amp=amp or cfg.amp, speed=speed or cfg.speed)
        device = device or torch.device("cpu")
        memory_format = choose_memory_format(cfg.speed, device)
        model = build_detector(cfg.model, cfg.train_cfg).train().to(device, memory_format=memory_format)
        precision = Precision(model, cfg.amp, device)
        optimizer_cfg = cfg.optimizer if optimizer == "SGD" else {"type": optimizer, "lr": 1e-3}
        stepper = build_optimizer(precision.optimizer_params(), fuse_optimizer(optimizer_cfg, cfg.speed))
        start_momentum(stepper)
        trainer = Trainer(
            cfg=cfg,
            net=compile_network(model, cfg.speed),
            criterion=build_criterion(cfg.model, cfg.train_cfg),
            precision=precision,
            optimizer=stepper,
            schedule=Schedule(cfg.lr, 0.02, 4, 640),
            guard=FiniteGuard(device, precision),
            make_loader=None,
            hooks=[],
            log=RunLog(rank=0),
            device=device,
            work_dir=Path(),
            iters_per_epoch=4,
            total_iters=100,
            batch_size=2,
            memory_format=memory_format,
        )
        made.append(trainer)
        return trainer

    yield make
    for trainer in made:
        trainer.log.close()
