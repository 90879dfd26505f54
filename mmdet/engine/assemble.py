"""From a config file to a `Trainer` with all its parts. Writes nothing: all input is checked here first."""

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmdet.checkpoint.keys import load_weights
from mmdet.datasets.build import build_dataset
from mmdet.datasets.collate import Collate
from mmdet.datasets.device_augment import leave_colours_to_device
from mmdet.datasets.loader import build_loader
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.device import can_pin, pick_device, seed_all, set_deterministic
from mmdet.distributed import DistInfo, init_distributed, mean_across_ranks, wrap_ddp
from mmdet.engine.ema import WeightAverage
from mmdet.engine.eval_hook import EvalData, EvalHook
from mmdet.engine.finite import FiniteGuard
from mmdet.engine.hooks import CheckpointHook, EMAHook
from mmdet.engine.log_hook import LogHook
from mmdet.engine.logger import RunLog
from mmdet.engine.options import (
    TrainOptions,
    choose_lr,
    choose_seed,
    choose_work_dir,
    count_iters,
    read_config,
)
from mmdet.engine.schedule import Schedule
from mmdet.engine.speed import check_speed, compile_network, record_steps
from mmdet.engine.state import load_resumable, restore
from mmdet.engine.step import build_step
from mmdet.engine.trainer import Hook, Trainer
from mmdet.errors import ConfigError
from mmdet.models.build import build_criterion, build_detector


def build_trainer(options: TrainOptions, info: DistInfo, log: RunLog) -> Trainer:
    """Build all parts of a run; writes nothing."""
    cfg = read_config(options)
    log.set_level(cfg.log_level)
    work_dir = choose_work_dir(cfg)
    set_deterministic(options.deterministic)
    device = pick_device(options.device, info.local_rank, first_npu=info.first_npu)
    check_speed(cfg, device, info.world_size)
    init_distributed(info, device)

    resumed = load_resumable(cfg.resume_from, work_dir) if cfg.resume_from else None
    seed = choose_seed(cfg.seed, resumed)
    torch.backends.cudnn.benchmark = cfg.cudnn_benchmark and not options.deterministic
    seed_all(seed)

    dataset = build_dataset(cfg.data.train, seed=seed, path="data.train")
    if not len(dataset):
        raise ConfigError(f"data.train: {dataset.ann_file} has no image to train on")
    finish: dict[str, Any] = {"finish": leave_colours_to_device(dataset)} if cfg.data.device_augment else {}
    eval_data = EvalData(cfg) if options.validate and not options.perf and cfg.evaluation else None
    sampler = GroupBatchSampler(
        dataset.group_flags, cfg.data.samples_per_gpu, info.world_size, info.rank, seed
    )
    total_iters = count_iters(options, cfg.total_epochs, sampler.iters_per_epoch)

    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
    if cfg.load_from and resumed is None:
        load_weights(model, cfg.load_from, strict=not cfg.load_fitting)
    optimizer_cfg = choose_lr(cfg, sampler.joint_batch_size, options.auto_scale_lr)
    step = build_step(model, cfg, device, optimizer_cfg)
    ema = WeightAverage(cfg.ema, step.precision.named_masters()) if cfg.ema else None
    net = wrap_ddp(model, device, cfg.sync_bn, find_unused=cfg.find_unused_parameters)

    saving = CheckpointHook(cfg.checkpoint)
    hooks: list[Hook] = [EMAHook()] if ema else []
    hooks += [LogHook(cfg.log_interval)] if options.perf else [LogHook(cfg.log_interval), saving]
    if eval_data is not None:
        judge = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).to(device)
        hooks.append(EvalHook(cfg, eval_data, judge))
    trainer = Trainer(
        cfg=cfg,
        net=compile_network(net, cfg.speed),
        criterion=build_criterion(cfg.model, cfg.train_cfg, mean_across_ranks),
        **step._asdict(),
        schedule=Schedule(cfg.lr, optimizer_cfg["lr"], sampler.iters_per_epoch, cfg.total_epochs),
        guard=FiniteGuard(device, step.precision, saving.describe),
        make_loader=partial(
            build_loader,
            dataset,
            sampler,
            workers=cfg.data.workers_per_gpu,
            collate=Collate(cfg.data.gt_slots),
            total_iters=total_iters,
            pin=can_pin(device),
        ),
        hooks=hooks,
        log=log,
        device=device,
        work_dir=work_dir,
        iters_per_epoch=sampler.iters_per_epoch,
        total_iters=total_iters,
        batch_size=sampler.joint_batch_size,
        world_size=info.world_size,
        seed=seed,
        classes=dataset.CLASSES,
        commit=read_commit(),
        ema=ema,
        **finish,
    )
    trainer.recorded = record_steps(trainer.update, step.optimizer, cfg.speed, device)
    if resumed is not None:
        restore(trainer, resumed)
    return trainer


def read_commit() -> str:
    """Return the git commit of this source tree, or "" outside a checkout."""
    command = [
        "git",
        "--no-optional-locks",
        "-C",
        str(Path(__file__).resolve().parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
