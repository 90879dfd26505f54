"""From a config file to a `Trainer` with all its parts. Writes nothing: all input is checked here first."""

import logging
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdet.checkpoint.keys import load_weights
from mmdet.config.types import RunConfig
from mmdet.core.assigners import assign_ahead
from mmdet.datasets.build import build_dataset
from mmdet.datasets.collate import Collate
from mmdet.datasets.device_augment import leave_colours_to_device
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.loader import TrainLoader, build_loader
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.device import pick_device, pin_options, seed_all, set_deterministic, set_npu_options
from mmdet.distributed import DistInfo, broadcast_object, init_distributed
from mmdet.engine.batch_size import FIT, choose_batch_size
from mmdet.engine.ema import WeightAverage
from mmdet.engine.eval_hook import EvalData, EvalHook
from mmdet.engine.hooks import CheckpointHook, EMAHook
from mmdet.engine.log_hook import LogHook
from mmdet.engine.logger import RunLog
from mmdet.engine.options import (
    TrainOptions,
    choose_log_interval,
    choose_lr,
    choose_power,
    choose_seed,
    choose_work_dir,
    count_iters,
    read_config,
)
from mmdet.engine.profile_hook import ProfileHook
from mmdet.engine.progress_hook import ProgressHook
from mmdet.engine.results_hook import ResultsHook
from mmdet.engine.resume import identity, load_resumable
from mmdet.engine.scalar_writers import build_writers
from mmdet.engine.schedule import Schedule, shorten_warmup
from mmdet.engine.sheet_hook import SheetHook, TrainView
from mmdet.engine.speed import check_speed
from mmdet.engine.state import restore
from mmdet.engine.step import TrainStep, build_step, keep
from mmdet.engine.trainer import Hook, RunFacts, Trainer
from mmdet.engine.watchdog import Watchdog, make_folder
from mmdet.errors import ConfigError
from mmdet.models.build import build_detector
from mmdet.models.freeze import freeze

logger = logging.getLogger("mmdet")


def build_trainer(options: TrainOptions, info: DistInfo, log: RunLog) -> Trainer:
    """Build all parts of a run; writes nothing."""
    cfg = read_config(options)
    log.set_level(cfg.log_level)
    log.set_writers(build_writers(cfg.log_hooks))
    work_dir = choose_work_dir(cfg)
    device = _join(cfg, options, info)
    resumed = load_resumable(cfg.resume_from, work_dir) if cfg.resume_from else None
    seed = choose_seed(cfg.seed, resumed)
    seed_all(seed)

    dataset = build_dataset(cfg.data.train, seed=seed, path="data.train")
    if not len(dataset):
        raise ConfigError(f"data.train: {dataset.ann_file} has no image to train on")
    if cfg.data.samples_per_gpu == FIT:
        cfg = _with_batch_size(cfg, dataset, device, info, resumed)
        seed_all(seed)
    dataset.total_epochs = cfg.total_epochs
    finish = leave_colours_to_device(dataset) if cfg.data.device_augment else keep
    eval_data = EvalData(cfg) if options.validate and not options.perf and cfg.evaluation else None
    sampler = GroupBatchSampler(
        dataset.group_flags, cfg.data.samples_per_gpu, info.world_size, info.rank, seed
    )
    facts = RunFacts(
        cfg=cfg,
        work_dir=work_dir,
        iters_per_epoch=sampler.iters_per_epoch,
        total_iters=count_iters(options, cfg.total_epochs, sampler.iters_per_epoch),
        batch_size_per_rank=cfg.data.samples_per_gpu,
        world_size=info.world_size,
        seed=seed,
        classes=dataset.CLASSES,
        commit=read_commit(),
        identity=identity(cfg, dataset.labels),
    )
    cfg = replace(cfg, optimizer=_choose_optimizer(cfg, options, facts.batch_size_total))
    saving = CheckpointHook(cfg.checkpoint)
    model = _build_model(cfg, is_new=resumed is None)
    check_labels_fit(model.bbox_head, dataset)
    step = build_step(model, cfg, device, finish=finish, describe=saving.describe)
    view = _view(cfg, dataset, sampler, step)
    trainer = Trainer(
        step=step,
        schedule=_build_schedule(cfg, options, facts.iters_per_epoch),
        make_loader=_loader_factory(cfg, view, facts.total_iters, device),
        log=log,
        facts=facts,
        hooks=_build_hooks(cfg, options, facts.total_iters, saving, eval_data, view),
        ema=WeightAverage(cfg.ema, step.precision.named_masters()) if cfg.ema else None,
    )
    if resumed is not None:
        restore(trainer, resumed)
    trainer.watch = _build_watchdog(options, info, saving, trainer)
    return trainer


def _with_batch_size(
    cfg: RunConfig, dataset: FacesDataset, device: torch.device, info: DistInfo, resumed: dict | None
) -> RunConfig:
    """Return the config with a number for samples_per_gpu = -1: the resumed run's, or what fits."""
    if resumed is not None and resumed["position"]["batch_size"] % info.world_size == 0:
        chosen = resumed["position"]["batch_size"] // info.world_size
    else:
        chosen = choose_batch_size(cfg, dataset, device, info.world_size)
    return replace(cfg, data=replace(cfg.data, samples_per_gpu=chosen))


def check_labels_fit(head: Any, dataset: FacesDataset) -> None:
    """Compare classes and keypoints of the head with those of the training labels.

    Raises:
        ConfigError: a class or the points of the labels have no output.
    """
    labels = dataset.labels
    highest = int(labels.labels.max(initial=0))
    if highest >= head.num_classes:
        raise ConfigError(
            f"data.train has faces of class {highest} ({labels.classes[highest]!r}), but "
            f"model.bbox_head.num_classes = {head.num_classes}"
        )
    if head.num_kps not in (0, labels.num_kps):
        raise ConfigError(
            f"model.bbox_head.num_kps = {head.num_kps}, but data.train.num_kps = {labels.num_kps}; take one"
        )
    if len(labels.classes) != head.num_classes:
        logger.warning(
            "model.bbox_head.num_classes = %d, but data.train.classes are %s",
            head.num_classes,
            labels.classes,
        )


def _build_watchdog(
    options: TrainOptions, info: DistInfo, saving: CheckpointHook, trainer: Trainer
) -> Watchdog:
    """Return what ends a hanging run; all ranks must call it."""
    folder = None
    if info.world_size > 1:
        folder = make_folder(broadcast_object(tempfile.mkdtemp(prefix="scrfd-") if info.rank == 0 else ""))
    save = None if options.perf else partial(saving.on_stop, trainer)
    return Watchdog(options.hang_timeout, info.rank, folder, saving.describe, save)


def _join(cfg: RunConfig, options: TrainOptions, info: DistInfo) -> torch.device:
    """Return this rank's device, checked and set up, after joining the process group."""
    set_deterministic(options.deterministic)
    torch.backends.cudnn.benchmark = cfg.cudnn_benchmark and not options.deterministic
    device = pick_device(options.device, info.local_rank, first_npu=info.first_npu)
    check_speed(cfg, device, info.world_size)
    set_npu_options(device, cfg.speed.hf32, cfg.speed.internal_format, cfg.speed.jit_compile)
    init_distributed(info, device)
    return device


def _build_model(cfg: RunConfig, is_new: bool) -> nn.Module:
    """Return the detector with the weights that a new run starts from."""
    model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
    if cfg.load_from and is_new:
        load_weights(model, cfg.load_from, strict=not cfg.load_fitting)
    if cfg.freeze:
        freeze(model, cfg.freeze)
    return model


def _choose_optimizer(cfg: RunConfig, options: TrainOptions, batch_size_total: int) -> dict:
    """Return the optimizer's dict; an automatic schedule scales the rate if the config has auto_scale_lr."""
    is_auto = cfg.lr.policy == "auto" and cfg.base_batch_size is not None and not options.auto_scale_lr
    power = choose_power(cfg) if is_auto else 1.0
    return choose_lr(cfg, batch_size_total, is_auto or options.auto_scale_lr, power)


def _build_schedule(cfg: RunConfig, options: TrainOptions, iters_per_epoch: int) -> Schedule:
    """Return the schedule; say so if it does not fit the planned run."""
    epochs = options.epochs or cfg.total_epochs
    lr = cfg.lr if options.epochs is None else shorten_warmup(cfg.lr, iters_per_epoch, epochs)
    schedule = Schedule(lr, cfg.optimizer["lr"], iters_per_epoch, epochs)
    planned = round(epochs * iters_per_epoch)
    if not options.perf and (late := schedule.misfit(planned)):
        logger.warning(
            "this run ends at iter %d, but %s; --epochs N scales a recipe, --schedule auto replaces it",
            planned,
            late,
        )
    return schedule


def _view(cfg: RunConfig, dataset: FacesDataset, sampler: GroupBatchSampler, step: TrainStep) -> TrainView:
    """Return what makes the batches of this rank."""
    assign = assign_ahead(step.criterion)
    ahead = assign if cfg.data.assign_ahead else None
    return TrainView(dataset, sampler, Collate(cfg.data.gt_slots, dataset.labels.num_kps, ahead), assign)


def _loader_factory(
    cfg: RunConfig, view: TrainView, total_iters: int, device: torch.device
) -> Callable[..., TrainLoader]:
    """Return start_iter -> the stream of batches of this rank, for one step each."""
    return partial(
        build_loader,
        view.dataset,
        view.sampler,
        workers=cfg.data.workers_per_gpu,
        collate=view.collate,
        total_iters=total_iters,
        pin=pin_options(device),
    )


def _build_hooks(
    cfg: RunConfig,
    options: TrainOptions,
    total_iters: int,
    saving: CheckpointHook,
    eval_data: EvalData | None,
    view: TrainView,
) -> list[Hook]:
    """Return the hooks in the order they need: see the docstring of each."""
    hooks: list[Hook] = [ProfileHook()] if options.profiling else []
    hooks += [EMAHook()] if cfg.ema else []
    hooks.append(LogHook(choose_log_interval(cfg, total_iters)))
    hooks += [] if options.perf else [saving]
    if eval_data is not None:
        model = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg)
        hooks.append(EvalHook(cfg, eval_data, model))
    if not options.perf:
        names = [name for metric in eval_data.metrics for name in metric.names] if eval_data else []
        hooks.append(ResultsHook(names if cfg.visualize.plots else None))
        hooks.append(SheetHook(cfg.visualize, view, eval_data))
    hooks += [ProgressHook()] if cfg.visualize.progress else []
    return hooks


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
