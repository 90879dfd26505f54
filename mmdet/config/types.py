"""The keys of a config file: what `mmdet.config.load_config` returns, and the schema it reads by.

Each key has its type, default, limits and meaning here and nowhere else (`python tools/print_config.py
--help-keys` prints them). Other spellings of mmdet 2.x are translated first, see legacy.py. Dicts inside
(model, datasets, optimizer) keep the mmdet form `dict(type="Name", ...)`: the keyword-only constructor of the
named class is their schema. Nobody changes a dict of a RunConfig; take a copy to change one.
"""

from dataclasses import dataclass

from mmdet.config.schema import REQUIRED, key
from mmdet.config.values import PRECISION_LEVELS
from mmdet.evaluation.metrics import METRICS

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class DataConfig:
    """Datasets and batches; `train` is {} and the others None where the file has none."""

    samples_per_gpu: int = key(
        1,
        "training images per device and step, -1: as many as fit (16 on a CPU); a file that trains must "
        "have it",
        least=-1,
        most=10**6,
    )
    val_split: float | None = key(
        None,
        "share of the images of data.train, by a hash of their names, that is left out there and takes the "
        "place of data.val and data.test",
        above=0,
        most=0.9,
    )
    workers_per_gpu: int = key(2, "loader processes per device", least=0, most=1024)
    train: dict = key({}, "dataset to train on")
    val: dict | None = key(None, "dataset of the evaluations while training")
    test: dict | None = key(None, "dataset of tools/test_widerface.py")
    gt_slots: tuple[int, ...] = key(
        (32, 64, 128, 256, 512, 1024, 2048),
        "sizes the faces of a batch are padded to, ascending; each should be twice the one before",
        least=1,
        most=10**6,
        ascending=True,
        min_items=1,
    )
    val_samples_per_gpu: int = key(1, "images per forward pass of validation and test", least=1, most=10**6)
    assign_ahead: bool = key(
        True,
        "the loader decides which anchors learn which face, where that needs no predictions; False: the "
        "device does",
    )
    device_augment: bool = key(
        False,
        "change colours and normalise on the device, a batch at once; the loader resizes in 8 bits, which "
        "rounds pixels (docs/data.md)",
    )


@dataclass(frozen=True)
class LrConfig:
    """Learning rate over time, relative to optimizer.lr."""

    policy: str = key(
        "step",
        "a name of SCHEDULES (mmdet/engine/schedule.py): step: times gamma at each of `step`; cosine: down "
        "to min_lr over all epochs; CosineRestarts: the same in T_0 epochs, then in T_0 * T_mult, and so on; "
        "auto, also in a file without lr_config: warm-up and cosine that fit the run's iters, a rate scaled "
        "to its batch size (auto_scale_lr), and intervals, where the file has none, that fit its epochs",
    )
    step: tuple[int, ...] = key(
        (), "epochs (iters if not by_epoch), ascending, counted from 0", least=1, ascending=True
    )
    gamma: float = key(0.1, "factor of each step", least=0)
    min_lr: float | None = key(None, "lower bound of the regular learning rate", least=0)
    T_0: int = key(0, "first period of CosineRestarts, in epochs (iters if not by_epoch)", least=0)
    T_mult: int = key(1, "each period of CosineRestarts is this many times as long as the last", least=1)
    warmup: str | None = key(
        None, "how the first warmup_iters grow to the regular rate", choices=("linear", "constant", "exp")
    )
    warmup_iters: int = key(0, "length of the warm-up in iters (epochs if warmup_by_epoch)", least=0)
    warmup_ratio: float = key(0.1, "the warm-up starts at this share of the regular rate", least=0)
    warmup_by_epoch: bool = key(False, "warmup_iters counts epochs")
    by_epoch: bool = key(True, "the rate changes between epochs, not between iters")


@dataclass(frozen=True)
class AmpConfig:
    """Mixed precision."""

    level: str = key(
        "O0",
        "O0: fp32; O1: autocast; O2: half-precision model with fp32 master weights",
        choices=PRECISION_LEVELS,
    )
    dtype: str = key("float16", "the half precision", choices=("float16", "bfloat16"))
    loss_scale: float | str = key(128.0, "static, or dynamic", above=0, choices=("dynamic",))
    backend: str = key("native", "apex uses an installed apex", choices=("native", "apex"))


@dataclass(frozen=True)
class SpeedConfig:
    """How a step is carried out; beyond rounding, none of it changes the result (docs/speed.md)."""

    channels_last: bool | None = key(
        None, "keep feature maps as (B, H, W, C) in memory; default: yes, but on an NPU, which cannot"
    )
    compile: bool = key(False, "compile the network with torch.compile; the first step then takes minutes")
    fused_optimizer: bool = key(False, "one kernel for all weights (SGD, Adam, AdamW)")
    graph: bool = key(
        False,
        "record the step once per slot size, then repeat it (CUDA, one rank); includes fused_optimizer",
    )
    hf32: bool = key(
        False,
        "Ascend A2: training convolves fp32 with 12 bits of the mantissa less; evaluation never does",
    )
    internal_format: bool | None = key(
        None,
        "Ascend: convolutions leave results in the format NC1HWC0; default: the vendor's for the chip",
    )
    jit_compile: bool | None = key(
        None, "Ascend: compile operators per shape; default: the vendor's for the chip"
    )


@dataclass(frozen=True)
class EmaConfig:
    """Moving average of the weights."""

    momentum: float = key(0.0002, "share of the newest weights", least=0, most=1)
    warm_up: int = key(
        100,
        "updates of the warm-up: the share is larger at first, (warm_up - 1) / (warm_up + update)",
        least=0,
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save and how many files to keep."""

    interval: int = key(1, "epochs between checkpoints", least=1)
    max_keep: int = key(-1, "number of checkpoints to keep (-1: all)", name="max_keep_ckpts", least=-1)
    interval_iters: int | None = key(None, "also save every so many iters, as latest.pth", least=1)


@dataclass(frozen=True)
class EvalConfig:
    """Validation while training; `save_best` is never "auto" once read."""

    interval: int = key(1, "epochs between evaluations", least=1)
    start: int | None = key(None, "first epoch to evaluate, counted from 1", least=0)
    metric: tuple[str, ...] = key(
        ("widerface",),
        "widerface: easy, medium, hard AP; heights: AP and recall by face height; mAP: VOC style, on the "
        "label file; retinaface: as ternaus counts",
        choices=METRICS,
        min_items=1,
    )
    save_best: str = key(
        "auto",
        "figure whose best checkpoint is kept; auto: AP_hard of widerface, else the first of the metric",
    )
    rule: str = key("greater", "which value of save_best is better", choices=("greater", "less"))
    iou_thr: float = key(
        0.5, "IoU from which the metric retinaface counts a detection as true", above=0, most=1
    )
    gt_dir: str | None = key(
        None, "folder of the WIDER .mat files; default: gt/ beside the images of data.val"
    )
    patience: int | None = key(
        None, "end training after so many evaluations in a row without a better save_best", least=1
    )


@dataclass(frozen=True)
class VisualizeConfig:
    """Pictures of a run in work_dir, on rank 0; results.csv is always written."""

    progress: bool = key(True, "a bar with the losses, where training runs on a terminal")
    plots: bool = key(True, "results.png (losses, figures, learning rate) and the curves of val/")
    batches: int = key(3, "first batches drawn with labels and positive anchors", least=0, most=1000)
    detections: int = key(16, "validation images drawn with what was found", least=0, most=1000)


@dataclass(frozen=True)
class SgdKeys:
    """`optimizer` of type SGD or NpuFusedSGD; what is left out is torch's default."""

    type: str = key(REQUIRED, "class of torch.optim, or NpuFusedSGD")
    lr: float = key(REQUIRED, "learning rate", above=0, most=1000)
    momentum: float | None = key(None, "momentum", least=0, most=1)
    dampening: float | None = key(None, "dampening of the momentum", least=0, most=1)
    weight_decay: float | None = key(None, "weight decay", least=0)
    nesterov: bool | None = key(None, "Nesterov momentum")


@dataclass(frozen=True)
class AdamKeys:
    """`optimizer` of type Adam or AdamW; what is left out is torch's default."""

    type: str = key(REQUIRED, "class of torch.optim")
    lr: float = key(REQUIRED, "learning rate", above=0, most=1000)
    betas: tuple[float, float] | None = key(None, "decay of the running averages", least=0, most=0.999999)
    eps: float | None = key(None, "added to the denominator", least=0)
    weight_decay: float | None = key(None, "weight decay", least=0)
    amsgrad: bool | None = key(None, "AMSGrad variant")


OPTIMIZER_KEYS = {"SGD": SgdKeys, "NpuFusedSGD": SgdKeys, "Adam": AdamKeys, "AdamW": AdamKeys}


@dataclass(frozen=True)
class GradClipKeys:
    """`optimizer_config.grad_clip`."""

    max_norm: float = key(REQUIRED, "gradients of a larger norm are scaled down to it", above=0)
    norm_type: float = key(2.0, "order of the norm", above=0)


@dataclass(frozen=True)
class TrainCfgKeys:
    """`train_cfg`."""

    assigner: dict | None = key(None, "which anchors learn which face: dict(type=...)")


@dataclass(frozen=True)
class NmsKeys:
    """`test_cfg.nms`; what is left out is the default of the post-processing."""

    type: str | None = key(None, "non-maximum suppression", choices=("nms",))
    iou_threshold: float | None = key(
        None, "a bbox whose IoU with a better one is above it is dropped", least=0, most=1
    )
    offset: float | None = key(None, "added to widths and heights when bboxes are compared", least=0, most=1)


@dataclass(frozen=True)
class TestCfgKeys:
    """`test_cfg`; what is left out is the default of the post-processing."""

    nms_pre: int | None = key(None, "anchors kept per level and image, best first (-1: all)", least=-1)
    score_thr: float | None = key(None, "scores above it are kept", least=0, most=1)
    nms: dict | None = key(None, "suppression of duplicates", keys=NmsKeys)
    max_per_img: int | None = key(None, "detections kept per image, best first (-1: all)", least=-1)
    clip_border: bool | None = key(None, "clamp bboxes and keypoints to the image")


@dataclass(frozen=True)
class ImportKeys:
    """`custom_imports`."""

    imports: tuple[str, ...] | None = key(None, "modules to import; they may add classes to the tables")
    allow_failed_imports: bool | None = key(None, "a module that cannot be imported is a warning only")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole config file, checked.

    Attributes (those that are no keys of the file):
        filename: path of the file.
        text: the resolved file as python text; loading it again gives an equal config.
        unused: keys that published files carry and nobody reads, already logged.
    """

    filename: str
    text: str
    unused: tuple[str, ...] = ()
    model: dict = key(REQUIRED, "detector: dict(type=..., backbone=..., neck=..., bbox_head=...)")
    train_cfg: dict = key({}, "what only training needs; wins over the one inside model", keys=TrainCfgKeys)
    test_cfg: dict = key({}, "post-processing; wins over the one inside model", keys=TestCfgKeys)
    data_root: str | None = key(None, "folder that --data-root replaces in all paths below it")
    data: DataConfig = key(DataConfig(), "datasets and batches")
    optimizer: dict = key(
        {}, "dict(type=a class of torch.optim or NpuFusedSGD, lr=..., ...); a file that trains must have it"
    )
    grad_clip: dict | None = key(
        None, "clipping of the gradients", name="optimizer_config.grad_clip", keys=GradClipKeys
    )
    lr: LrConfig = key(LrConfig(), "learning rate over time", name="lr_config")
    total_epochs: int = key(0, "length of training; a file that trains must have it", least=1, most=10**6)
    base_batch_size: int | None = key(
        None,
        "images per step, over all devices, that optimizer.lr was chosen for",
        name="auto_scale_lr.base_batch_size",
        least=1,
    )
    amp: AmpConfig = key(AmpConfig(), "mixed precision")
    speed: SpeedConfig = key(SpeedConfig(), "how a step is carried out")
    ema: EmaConfig | None = key(None, "moving average of the weights; without it there is none")
    checkpoint: CheckpointConfig = key(
        CheckpointConfig(), "when to save; the end is always saved", name="checkpoint_config"
    )
    evaluation: EvalConfig | None = key(None, "validation while training; without it there is none")
    visualize: VisualizeConfig = key(VisualizeConfig(), "pictures of a run")
    log_interval: int | None = key(
        None,
        "iters between log lines; default: 50, or a hundredth of the run if that is less and "
        "lr_config.policy is auto",
        name="log_config.interval",
        least=1,
    )
    log_hooks: tuple[dict, ...] = key(
        (),
        "where figures go besides the JSON log: dicts of WRITERS (mmdet/engine/scalar_writers.py), such as "
        "dict(type='TensorboardLoggerHook')",
        name="log_config.hooks",
    )
    log_level: str = key("INFO", "lowest level that is shown", choices=LOG_LEVELS)
    freeze: tuple[str, ...] = key(
        (), "modules that keep their weights and statistics: backbone, neck, bbox_head.cls_stride_convs, ..."
    )
    load_from: str | None = key(None, "weights to start from")
    load_fitting: bool = key(
        False, "take from load_from the weights that fit by name and shape, and log what was left out"
    )
    resume_from: str | None = key(None, "checkpoint to continue")
    work_dir: str | None = key(None, "folder of all that a run writes")
    seed: int | None = key(None, "of weights and data", least=0)
    sync_bn: bool = key(False, "batch statistics over all ranks")
    find_unused_parameters: bool = key(False, "of DistributedDataParallel")
    cudnn_benchmark: bool = key(False, "let cuDNN choose its algorithms by trying")
    custom_imports: dict | None = key(None, "modules of one's own", keys=ImportKeys)
