"""The typed parts of a config file: what `mmdet.config.load_config` returns.

Field names follow mmdet's keys where there is one. Dicts inside (model, datasets, optimizer) keep the
mmdet form `dict(type="Name", ...)`: the keyword-only constructor of the named class is their schema.
Nobody changes a dict of a RunConfig; take a copy to change one.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Datasets and batches.

    Attributes:
        samples_per_gpu: training images per device and step.
        workers_per_gpu: loader processes per device.
        train, val, test: dataset dicts; train is {} and the others None where the file has none.
        gt_slots: sizes a batch's faces are padded to, ascending; each is twice the one before.
        val_samples_per_gpu: images per forward pass of validation and test.
        device_augment: change colours and normalise on the device, a batch at once; the loader resizes in
            8 bits, which rounds pixels (docs/data.md).
    """

    samples_per_gpu: int
    workers_per_gpu: int
    train: dict
    val: dict | None
    test: dict | None
    gt_slots: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    val_samples_per_gpu: int = 1
    device_augment: bool = False


@dataclass(frozen=True)
class LrConfig:
    """Learning rate over time, relative to optimizer.lr.

    Attributes:
        policy: "step" (times gamma at each of `step`) or "cosine" (down to min_lr).
        step: epochs (iters if not by_epoch), ascending, counted from 0.
        min_lr: lower bound of the regular lr (absolute, not a ratio).
        warmup: "linear", "constant", "exp" or None, for the first `warmup_iters` iters
            (epochs if warmup_by_epoch), starting from warmup_ratio times the regular lr.
    """

    policy: str = "step"
    step: tuple[int, ...] = ()
    gamma: float = 0.1
    min_lr: float | None = None
    warmup: str | None = None
    warmup_iters: int = 0
    warmup_ratio: float = 0.1
    warmup_by_epoch: bool = False
    by_epoch: bool = True


@dataclass(frozen=True)
class AmpConfig:
    """Mixed precision.

    Attributes:
        level: "O0" fp32, "O1" autocast, "O2" half-precision model with fp32 master weights.
        dtype: "float16" or "bfloat16".
        loss_scale: a positive number (static) or "dynamic".
        backend: "native", or "apex" to use an installed apex.
    """

    level: str = "O0"
    dtype: str = "float16"
    loss_scale: float | str = 128.0
    backend: str = "native"


@dataclass(frozen=True)
class SpeedConfig:
    """How a step is carried out; beyond rounding, none of it changes the result (docs/speed.md).

    Attributes:
        channels_last: keep feature maps as (B, H, W, C) in memory; None: where it was measured, on a CPU.
        compile: let torch.compile translate the network; the first step then takes minutes.
        fused_optimizer: one kernel for all weights (SGD, Adam, AdamW).
        graph: record the step once per slot size, then repeat it (CUDA, one rank); fuses the optimizer.
    """

    channels_last: bool | None = None
    compile: bool = False
    fused_optimizer: bool = False
    graph: bool = False


@dataclass(frozen=True)
class EmaConfig:
    """Moving average of the weights: `momentum` is the share of the newest weights."""

    momentum: float = 0.0002
    warm_up: int = 100


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save (epochs; also iters if interval_iters is set) and how many files to keep (-1: all)."""

    interval: int = 1
    max_keep: int = -1
    interval_iters: int | None = None


@dataclass(frozen=True)
class EvalConfig:
    """Validation while training.

    Attributes:
        interval: epochs between evaluations; `start` is the first epoch to evaluate (1-based).
        metric: "widerface" (easy, medium, hard AP) and/or "mAP" (VOC style, on the label file).
        save_best: key of the metrics whose best checkpoint is kept; None keeps none.
        rule: "greater" or "less".
        gt_dir: folder of the WIDER .mat files; None: `<img_prefix of data.val>/../gt`.
    """

    interval: int = 1
    start: int | None = None
    metric: tuple[str, ...] = ("widerface",)
    save_best: str | None = "AP_hard"
    rule: str = "greater"
    gt_dir: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """A whole config file, checked.

    Attributes:
        train_cfg, test_cfg: the top-level ones; those inside `model` count only where the file has
            no top-level ones. Keys nobody reads (debug, min_bbox_size, ...) are left out.
        base_batch_size: images per step, over all devices, that optimizer.lr was chosen for.
        text: the resolved file as python text; loading it again gives an equal config.
        unused: keys that published files carry and nobody reads, already logged.
    """

    filename: str
    model: dict
    train_cfg: dict
    test_cfg: dict
    data: DataConfig
    optimizer: dict
    grad_clip: dict | None
    lr: LrConfig
    total_epochs: int
    amp: AmpConfig
    ema: EmaConfig | None
    checkpoint: CheckpointConfig
    evaluation: EvalConfig | None
    log_interval: int
    log_level: str
    tensorboard: bool
    load_from: str | None
    resume_from: str | None
    work_dir: str | None
    sync_bn: bool
    find_unused_parameters: bool
    base_batch_size: int | None
    custom_imports: dict | None
    text: str
    seed: int | None = None
    cudnn_benchmark: bool = False
    speed: SpeedConfig = SpeedConfig()
    load_fitting: bool = False
    unused: tuple[str, ...] = ()
