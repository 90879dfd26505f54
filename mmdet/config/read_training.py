"""Readers of what decides the result of training: data, optimizer, learning rate, length."""

from mmdet.config.options import copy_plain
from mmdet.config.section import REQUIRED, Section
from mmdet.config.types import DataConfig, LrConfig
from mmdet.errors import ConfigError

OPTIMIZER_KEYS = {
    "SGD": ("momentum", "dampening", "weight_decay", "nesterov"),
    "Adam": ("betas", "eps", "weight_decay", "amsgrad"),
    "AdamW": ("betas", "eps", "weight_decay", "amsgrad"),
}
OPTIMIZER_KEYS["NpuFusedSGD"] = OPTIMIZER_KEYS["SGD"]

_POLICIES = {"step": "step", "Step": "step", "fixed": "step", "cosine": "cosine", "CosineAnnealing": "cosine"}


def read_data(top: Section) -> DataConfig:
    """Read `data`; samples_per_gpu is required if the file trains, imgs_per_gpu (old name) wins over it."""
    data = top.section("data")
    trains = data.has("train")
    samples = data.take("samples_per_gpu", int, None, least=1)
    samples = data.take("imgs_per_gpu", int, samples, least=1)
    if samples is None and trains:
        raise ConfigError("data.samples_per_gpu is missing: how many images per device and step?")
    datasets = {name: copy_plain(data.take(name, dict, None)) for name in ("train", "val", "test")}
    val_samples = 1
    for name in ("test", "val"):  # val wins
        dataset = Section(f"data.{name}", datasets[name], top.unused)
        val_samples = dataset.take("samples_per_gpu", int, val_samples, least=1)
        (datasets[name] or {}).pop("samples_per_gpu", None)
    config = DataConfig(
        samples_per_gpu=samples or 1,
        workers_per_gpu=data.take("workers_per_gpu", int, 2, least=0),
        train=datasets["train"] or {},
        val=datasets["val"],
        test=datasets["test"],
        gt_slots=data.ints("gt_slots", DataConfig.gt_slots),
        val_samples_per_gpu=val_samples,
        device_augment=data.take("device_augment", bool, False),
    )
    data.close()
    if not config.gt_slots:
        raise ConfigError("data.gt_slots = () must name at least one size")
    return config


def read_optimizer(top: Section, trains: bool) -> dict:
    """Read `optimizer`; its keys are checked here for the common types, else by the constructor."""
    optimizer = top.take("optimizer", dict, REQUIRED if trains else {})
    if not optimizer:
        return {}
    section = Section("optimizer", optimizer, top.unused)
    kind = section.take("type", str)
    if section.take("lr", float) <= 0:
        raise ConfigError(f"optimizer.lr = {optimizer['lr']!r} must be above 0")
    if section.has("paramwise_cfg"):
        raise ConfigError("optimizer.paramwise_cfg is not supported (one rule for all); remove it")
    if kind in OPTIMIZER_KEYS:
        for key in OPTIMIZER_KEYS[kind]:
            section.take(key, None, None)
        section.close()
    return {key: value for key, value in copy_plain(optimizer).items() if key != "paramwise_cfg"}


def read_grad_clip(top: Section) -> dict | None:
    """Read `optimizer_config.grad_clip`: dict(max_norm, norm_type) or None."""
    section = top.section("optimizer_config")
    clip = section.section("grad_clip")
    has_clip = section.has("grad_clip")
    section.close()
    if not has_clip:
        return None
    max_norm = clip.take("max_norm", float)
    norm_type = clip.take("norm_type", float, 2.0)
    clip.close()
    if max_norm <= 0:
        raise ConfigError(f"optimizer_config.grad_clip.max_norm = {max_norm!r} must be above 0")
    return {"max_norm": max_norm, "norm_type": norm_type}


def read_lr(top: Section, base_lr: float, total_epochs: int) -> LrConfig:
    """Read `lr_config`; a single number n as `step` means every n epochs."""
    section = top.section("lr_config")
    policy = section.choose("policy", _POLICIES, "fixed")
    step = section.take("step", (int, list, tuple), ())
    if isinstance(step, int):
        step = tuple(range(section.take("step", int, least=1), total_epochs, step))
    else:
        step = section.ints("step", ())
    min_lr = section.take("min_lr", float, None, least=0)
    if section.has("min_lr_ratio"):
        min_lr = base_lr * section.take("min_lr_ratio", float, least=0)
    config = LrConfig(
        policy=_POLICIES[policy],
        step=() if policy == "fixed" else step,
        gamma=section.take("gamma", float, 0.1, least=0),
        min_lr=min_lr,
        warmup=section.choose("warmup", ("linear", "constant", "exp"), None),
        warmup_iters=section.take("warmup_iters", int, 0, least=0),
        warmup_ratio=section.take("warmup_ratio", float, 0.1, least=0),
        warmup_by_epoch=section.take("warmup_by_epoch", bool, False),
        by_epoch=section.take("by_epoch", bool, True),
    )
    section.close()
    if config.warmup and not (config.warmup_iters > 0 and 0 < config.warmup_ratio <= 1):
        raise ConfigError(
            f"lr_config.warmup = {config.warmup!r} needs warmup_iters > 0 and 0 < warmup_ratio <= 1, "
            f"not {config.warmup_iters} and {config.warmup_ratio}"
        )
    return config


def read_total_epochs(top: Section, trains: bool) -> int:
    """Read `total_epochs`, or max_epochs of mmdet 2.x's `runner`."""
    runner = top.section("runner")
    runner.choose("type", ("EpochBasedRunner",), None)
    epochs = runner.take("max_epochs", int, None, least=1)
    runner.close()
    total = top.take("total_epochs", int, epochs, least=1)
    if total is None and trains:
        raise ConfigError("total_epochs is missing")
    if epochs is not None and epochs != total:
        raise ConfigError(f"total_epochs = {total} contradicts runner.max_epochs = {epochs}; keep one")
    return total or 0
