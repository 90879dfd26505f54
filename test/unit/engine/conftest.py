"""A trainer without data or files, for tests of single steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmdet.config import AmpConfig, SpeedConfig, load_config
from mmdet.engine.finite import FiniteGuard
from mmdet.engine.logger import RunLog
from mmdet.engine.schedule import Schedule
from mmdet.engine.speed import compile_network
from mmdet.engine.step import build_step
from mmdet.engine.trainer import Trainer
from mmdet.models.build import build_criterion, build_detector

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
        model = build_detector(cfg.model, cfg.train_cfg).train()
        optimizer_cfg = cfg.optimizer if optimizer == "SGD" else {"type": optimizer, "lr": 1e-3}
        step = build_step(model, cfg, device, optimizer_cfg)
        trainer = Trainer(
            cfg=cfg,
            net=compile_network(model, cfg.speed),
            criterion=build_criterion(cfg.model, cfg.train_cfg),
            **step._asdict(),
            schedule=Schedule(cfg.lr, 0.02, 4, 640),
            guard=FiniteGuard(device, step.precision),
            make_loader=None,
            hooks=[],
            log=RunLog(rank=0),
            device=device,
            work_dir=Path(),
            iters_per_epoch=4,
            total_iters=100,
            batch_size=2,
        )
        made.append(trainer)
        return trainer

    yield make
    for trainer in made:
        trainer.log.close()
