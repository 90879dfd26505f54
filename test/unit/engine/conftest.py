"""A trainer without data or files, for tests of single steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmdet.config import AmpConfig, SpeedConfig, load_config
from mmdet.engine.graphs import StepRecorder
from mmdet.engine.logger import RunLog
from mmdet.engine.schedule import Schedule
from mmdet.engine.step import build_step
from mmdet.engine.trainer import RunFacts, Trainer
from mmdet.models.build import build_detector

CONFIG = Path(__file__).resolve().parents[3] / "configs/scrfd/scrfd_500m_bnkps.py"


@pytest.fixture
def make_trainer():
    """A function: amp, speed, optimizer ("SGD": as in the config), device, options, recorder -> Trainer.

    Each has the same weights; the learning rate is in its warm-up, so every iteration has another.
    """
    made = []

    def make(
        amp: AmpConfig | None = None,
        speed: SpeedConfig | None = None,
        optimizer: str = "SGD",
        device: torch.device | None = None,
        options: dict | None = None,
        recorder: StepRecorder | None = None,
    ) -> Trainer:
        torch.manual_seed(0)
        cfg = load_config(CONFIG, options or {})
        cfg = replace(cfg, amp=amp or cfg.amp, speed=speed or cfg.speed)
        device = device or torch.device("cpu")
        if optimizer != "SGD":
            cfg = replace(cfg, optimizer={"type": optimizer, "lr": 1e-3, "capturable": True})
        step = build_step(build_detector(cfg.model, cfg.train_cfg), cfg, device)
        if recorder is not None:
            step = replace(step, recorder=recorder)
        trainer = Trainer(
            step=step,
            schedule=Schedule(cfg.lr, 0.02, 4, 640),
            make_loader=None,
            log=RunLog(rank=0),
            facts=RunFacts(
                cfg=cfg, work_dir=Path(), iters_per_epoch=4, total_iters=100, batch_size_per_rank=2
            ),
        )
        made.append(trainer)
        return trainer

    yield make
    for trainer in made:
        trainer.log.close()
