"""Config files of ternaus/retinaface (YAML), translated to the keys of types.py: a dict in, a dict out.

Every key has a meaning here, is known to be read by nobody in that project either, or is an error. The paths
of images and labels come from four environment variables, as there.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mmdet.config.values import shorten
from mmdet.errors import ConfigError, unknown_name

PATH_VARIABLES = ("TRAIN_LABEL_PATH", "TRAIN_IMAGE_PATH", "VAL_LABEL_PATH", "VAL_IMAGE_PATH")
SIGNATURES = (("prior_box", "train_parameters"), ("checkpoint_callback", "model", "loss_weights"))
# Read by nobody there either, or of no use here.
UNREAD = {
    "": (
        "sync_bn", "num_classes", "weights", "experiment_name", "image_size", "test_aug",
        "train_image_path", "val_image_path", "train_annotation_path", "val_annotation_path",
    ),
    "trainer": (
        "type", "gpus", "distributed_backend", "accelerator", "strategy", "devices", "num_nodes",
        "amp_backend",
        "num_sanity_val_steps", "progress_bar_refresh_rate", "early_stop_callback", "checkpoint_callback",
        "logger", "weights_summary", "deterministic",
    ),
    "checkpoint_callback": ("type", "verbose", "monitor", "mode", "filename"),
    "val_parameters": ("rotate90", "box_min_size"),
    "loss": ("type", "prior_for_matching", "bkg_label", "neg_mining", "neg_overlap", "encode_target"),
}  # fmt: skip
STAGES = {f"layer{number}": number - 1 for number in range(1, 5)}
OWN_COLOURS = ("RandomBrightnessContrast", "HueSaturationValue", "RandomGamma")


def is_ternaus(values: Mapping[str, object]) -> bool:
    """Return whether the top-level keys are those of a ternaus config."""
    return any(all(key in values for key in keys) for keys in SIGNATURES)


def translate_ternaus(values: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[dict, list[str]]:
    """Return the values in our spelling, and the paths of the keys that nobody reads.

    Args:
        values: of the YAML file.
        environment: for PATH_VARIABLES; where one is missing its name stands in for the path, "$NAME".

    Raises:
        ConfigError: a key of unknown meaning, or a value that asks for what is not supported.
    """
    file = _Section(dict(values), "")
    train_parameters = file.section("train_parameters")
    paths = {name: environment.get(name) or f"${name}" for name in PATH_VARIABLES}
    rotation = [dict(type="RandomRotate90")] if train_parameters.take("rotate90", False) else []
    train_pipeline: list[dict] = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
        dict(type="ClipLabels"),
        *rotation,
        dict(type="RetinaFaceCrop"),
        dict(type="PadToSquare"),
        dict(type="RandomFlip", flip_ratio=0.5),
        *_augmentation(file.section("train_aug")),
    ]
    val_parameters = file.section("val_parameters")
    val = _dataset("VAL", paths, _val_pipeline(_augmentation(file.section("val_aug"))))
    translated = {
        "model": _model(file),
        "train_cfg": dict(assigner=_assigner(file.section("loss"))),
        "test_cfg": dict(score_thr=0.1, nms=dict(type="nms", iou_threshold=0.4)),
        "data": dict(
            samples_per_gpu=train_parameters.take("batch_size", 1),
            val_samples_per_gpu=val_parameters.take("batch_size", 1),
            workers_per_gpu=file.take("num_workers", 2),
            train=dict(_dataset("TRAIN", paths, train_pipeline), filter_empty_gt=False),
            val=val,
            test=val,
        ),
        "optimizer": _optimizer(file.section("optimizer")),
        "lr_config": _schedule(file.section("scheduler")),
        "evaluation": dict(metric=["retinaface"], iou_thr=val_parameters.take("iou_threshold", 0.5)),
        "checkpoint_config": dict(interval=1),
        **_trainer(file.section("trainer")),
    }
    _checkpoints(file.section("checkpoint_callback"), translated)
    if (seed := file.take("seed", None)) is not None:
        translated["seed"] = seed
    train_parameters.close()
    val_parameters.close()
    file.close()
    return translated, file.unread


class _Section:
    """A dict of the file whose keys are taken one by one; what is left over at the end is an error."""

    def __init__(self, values: dict, path: str, unread: list[str] | None = None):
        self.values, self.path = values, path
        self.unread: list[str] = [] if unread is None else unread
        self._known: list[str] = []

    def take(self, name: str, default: Any) -> Any:
        """Return a value and forget it."""
        self._known.append(name)
        return self.values.pop(name, default)

    def section(self, name: str) -> "_Section":
        """Return the dict of this name, empty if it is missing."""
        value = self.take(name, {}) or {}
        path = self.join(name)
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} = {shorten(value)} must be a dict")
        return _Section(dict(value), path, self.unread)

    def expect(self, name: str, *allowed: Any) -> None:
        """Take a value that may be missing or one of those."""
        value = self.take(name, allowed[0])
        if value not in allowed:
            choices = " or ".join(map(str, allowed))
            raise ConfigError(f"{self.join(name)} = {shorten(value)} is not supported; use {choices}")

    def close(self) -> None:
        """Report keys that nobody reads; refuse others."""
        unread = UNREAD.get(self.path, ())
        for name in self.values:
            if name not in unread:
                raise ConfigError(
                    unknown_name(f"key {self.path}".strip(), str(name), [*self._known, *unread])
                )
            self.unread.append(self.join(name))

    def join(self, name: str) -> str:
        """Return the path of a key."""
        return f"{self.path}.{name}" if self.path else name


def _last(name: Any) -> str:
    """Return the class of an import path."""
    return str(name).rsplit(".", maxsplit=1)[-1]


def _dataset(part: str, paths: Mapping[str, str], pipeline: list[dict]) -> dict:
    return dict(
        type="FacesDataset",
        label_format="ternaus-json",
        ann_file=paths[f"{part}_LABEL_PATH"],
        img_prefix=paths[f"{part}_IMAGE_PATH"],
        pipeline=pipeline,
    )


def _model(file: _Section) -> dict:
    model, priors, weights = file.section("model"), file.section("prior_box"), file.section("loss_weights")
    model.expect("type", "retinaface.network.RetinaFace")
    model.expect("name", "Resnet50")
    if model.take("pretrained", False):
        file.unread.append("model.pretrained (give ImageNet weights by --cfg-options model.pretrained=FILE)")
    layers = model.take("return_layers", {"layer2": 1, "layer3": 2, "layer4": 3})
    for name in layers:
        if name not in STAGES:
            raise ConfigError(unknown_name("model.return_layers: layer", str(name), STAGES))
    width, channels = model.take("in_channels", 256), model.take("out_channels", 256)
    model.close()
    stages = sorted(STAGES[name] for name in layers)
    anchors = dict(
        type="PriorGenerator",
        strides=priors.take("steps", [8, 16, 32]),
        min_sizes=priors.take("min_sizes", [[16, 32], [64, 128], [256, 512]]),
    )
    priors.expect("type", "retinaface.prior_box.priorbox")
    priors.expect("clip", False)
    priors.close()
    test = file.section("test_parameters")
    coder = dict(type="PriorCoder", variances=test.take("variance", [0.1, 0.2]))
    test.close()
    head = dict(
        type="RetinaFaceHead",
        in_channels=channels,
        use_kps=True,
        anchor_generator=anchors,
        bbox_coder=coder,
        loss_bbox=dict(type="SmoothL1Loss", loss_weight=weights.take("localization", 1)),
        loss_kps=dict(type="SmoothL1Loss", loss_weight=weights.take("landmarks", 1)),
    )
    criterion = dict(type="MultiBoxCriterion", cls_weight=weights.take("classification", 1))
    weights.close()
    criterion["neg_pos_ratio"] = file.values.get("loss", {}).get("neg_pos", 7)
    neck = dict(type="SSHFPN", in_channels=[width << stage for stage in stages], out_channels=channels)
    backbone = dict(type="ResNet50", out_indices=stages)
    return dict(type="RetinaFace", backbone=backbone, neck=neck, bbox_head=head, criterion=criterion)


def _assigner(loss: _Section) -> dict:
    loss.expect("num_classes", 2)
    loss.take("neg_pos", 7)  # read by _model
    for name, value in (("prior_for_matching", True), ("neg_mining", True), ("encode_target", False)):
        loss.expect(name, value)
    threshold = loss.take("overlap_thresh", 0.35)
    loss.close()
    return dict(type="MultiBoxAssigner", pos_iou_thr=threshold)


def _optimizer(section: _Section) -> dict:
    return dict(section.values, type=_last(section.values.get("type", "SGD")))


def _schedule(section: _Section) -> dict:
    name = _last(section.take("type", None))
    takes: dict[str, Callable[[], dict]] = {
        "CosineAnnealingWarmRestarts": lambda: dict(
            policy="CosineRestarts", T_0=section.take("T_0", 10), T_mult=section.take("T_mult", 1),
            min_lr=section.take("eta_min", 0),
        ),
        "MultiStepLR": lambda: dict(
            policy="step", step=section.take("milestones", []), gamma=section.take("gamma", 0.1)
        ),
        "StepLR": lambda: dict(
            policy="step", step=section.take("step_size", 1), gamma=section.take("gamma", 0.1)
        ),
    }  # fmt: skip
    if name not in takes:
        raise ConfigError(unknown_name("scheduler.type", name, takes))
    found = takes[name]()
    section.close()
    return found


def _trainer(section: _Section) -> dict:
    found: dict[str, Any] = dict(
        total_epochs=section.take("max_epochs", 1000),
        sync_bn=bool(section.take("sync_batchnorm", False)),
        cudnn_benchmark=bool(section.take("benchmark", False)),
    )
    level = section.take("amp_level", "O1")
    half = section.take("precision", 32) in (16, "16") or section.take("use_amp", False)
    section.take("use_amp", False)
    if half:
        found["amp"] = dict(level=level, loss_scale="dynamic")
    if clip := section.take("gradient_clip_val", 0):
        found["optimizer_config"] = dict(grad_clip=dict(max_norm=clip))
    section.expect("accumulate_grad_batches", 1)
    section.close()
    return found


def _checkpoints(section: _Section, translated: dict) -> None:
    """Add the folder and the number of checkpoints to keep."""
    folder = section.take("filepath", None) or section.take("dirpath", None)
    section.take("dirpath", None)
    keep = section.take("save_top_k", -1)
    if folder is not None:
        translated["work_dir"] = folder
    translated["checkpoint_config"]["max_keep_ckpts"] = keep if keep else 1
    section.close()


def _val_pipeline(steps: list[dict]) -> list[dict]:
    """Return a test pipeline that fits whole images into the size of the file's Resize."""
    size = next(step["img_scale"] for step in steps if step["type"] == "Resize")
    inner = [dict(step, keep_ratio=True) if step["type"] == "Resize" else step for step in steps]
    inner.append(dict(type="Pad", size_divisor=1))  # none, unless --mode asks for it
    scaled = dict(type="MultiScaleFlipAug", img_scale=size, flip=False, transforms=inner)
    return [dict(type="LoadImageFromFile"), scaled]


def _augmentation(section: _Section) -> list[dict]:
    """Return the transforms of an albumentations.Compose in our spelling."""
    compose = section.section("transform")
    section.close()
    if _last(compose.take("__class_fullname__", "Compose")) != "Compose":
        raise ConfigError(f"{compose.path}.__class_fullname__ must be albumentations' Compose")
    for name in ("bbox_params", "keypoint_params"):
        compose.expect(name, None)
    compose.expect("additional_targets", {}, None)
    compose.expect("p", 1, 1.0)
    cfgs = compose.take("transforms", [])
    steps = [_transform(cfg, f"{compose.path}.transforms[{index}]") for index, cfg in enumerate(cfgs)]
    compose.close()
    if not any(step["type"] == "Resize" for step in steps):
        raise ConfigError(f"{compose.path} has no Resize: which size does the network see?")
    return steps


def _transform(cfg: Any, path: str) -> dict:
    if not isinstance(cfg, Mapping) or "__class_fullname__" not in cfg:
        raise ConfigError(f"{path} = {shorten(cfg)} must be a dict with __class_fullname__")
    arguments = dict(cfg)
    name = _last(arguments.pop("__class_fullname__"))
    if arguments.pop("always_apply", False):
        arguments["p"] = 1.0
    if name == "Resize":
        return dict(type="Resize", img_scale=(arguments["width"], arguments["height"]), keep_ratio=False)
    if name == "Normalize":
        peak = arguments.get("max_pixel_value", 255.0)
        mean, std = ([peak * value for value in arguments[key]] for key in ("mean", "std"))
        return dict(type="Normalize", mean=mean, std=std, to_rgb=True)
    if name in OWN_COLOURS:
        return dict(arguments, type=name)
    return dict(type="Albumentations", steps=[dict(arguments, type=name)])
