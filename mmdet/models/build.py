"""From config dicts to objects: one visible table per kind of part.

A dict `dict(type="PAFPN", in_channels=..., ...)` names a class of its table; the class's keyword-only
constructor is the schema of the dict. A module named in `custom_imports` adds a class of its own by
assignment: `BACKBONES["Mine"] = Mine`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mmdet.checkpoint.keys import load_weights
from mmdet.core.anchors import AnchorGenerator
from mmdet.core.assigners import ATSSAssigner
from mmdet.errors import ConfigError, unknown_name
from mmdet.models.backbones.masternet import MasterNet
from mmdet.models.backbones.mobilenet import MobileNetV1
from mmdet.models.backbones.resnet import ResNetV1e
from mmdet.models.criteria.scrfd import SCRFDCriterion, identity
from mmdet.models.dense_heads.scrfd_head import SCRFDHead
from mmdet.models.detectors.dense import SCRFD
from mmdet.models.losses import (
    CIoULoss,
    DIoULoss,
    DistributionFocalLoss,
    GIoULoss,
    IoULoss,
    QualityFocalLoss,
    SmoothL1Loss,
)
from mmdet.models.necks.pafpn import PAFPN

BACKBONES: dict[str, Callable] = {"ResNetV1e": ResNetV1e, "MobileNetV1": MobileNetV1, "MasterNet": MasterNet}
NECKS: dict[str, Callable] = {"PAFPN": PAFPN}
HEADS: dict[str, Callable] = {"SCRFDHead": SCRFDHead}
DETECTORS: dict[str, Callable] = {"SCRFD": SCRFD}
ANCHOR_GENERATORS: dict[str, Callable] = {"AnchorGenerator": AnchorGenerator}
ASSIGNERS: dict[str, Callable] = {"ATSSAssigner": ATSSAssigner}
LOSSES: dict[str, Callable] = {
    "QualityFocalLoss": QualityFocalLoss,
    "DIoULoss": DIoULoss,
    "GIoULoss": GIoULoss,
    "CIoULoss": CIoULoss,
    "IoULoss": IoULoss,
    "DistributionFocalLoss": DistributionFocalLoss,
    "SmoothL1Loss": SmoothL1Loss,
}

MODEL_KEYS = ("type", "pretrained", "backbone", "neck", "bbox_head", "train_cfg", "test_cfg")
DEFAULT_LOSS_KPS = dict(type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=0.1)


def build_from(table: Mapping[str, Callable], cfg: Mapping, path: str) -> Any:
    """Return table[cfg["type"]](**the rest of cfg); cfg is not changed, its dicts and lists are copied.

    Args:
        table: class (or function) by name.
        cfg: a dict with the key "type".
        path: where the dict stands in the config file, for messages.

    Raises:
        ConfigError: unknown type, unknown or missing argument, or arguments the class refuses.
    """
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        known = ", ".join(sorted(table))
        raise ConfigError(f"{path} = {cfg!r} must be a dict with a key 'type', one of: {known}")
    name = cfg["type"]
    if name not in table:
        raise ConfigError(unknown_name(f"{path}.type", name, table))
    arguments = {key: _copy(value) for key, value in cfg.items() if key != "type"}
    _check_arguments(table[name], name, arguments, path)
    try:
        return table[name](**arguments)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {name} refuses its arguments: {error}") from error


def build_detector(
    model_cfg: Mapping, train_cfg: Mapping | None = None, test_cfg: Mapping | None = None
) -> nn.Module:
    """Build a detector on the CPU and draw its weights from torch's global generator.

    Args:
        model_cfg: `model` of a config file; not changed.
        train_cfg: the top-level one; it wins over the one inside model_cfg, and that one over the one
            inside model_cfg["bbox_head"].
        test_cfg: likewise.

    Raises:
        ConfigError: an unknown or missing key, named with its path.
        CheckpointError: model.pretrained cannot be loaded into the backbone.
    """
    check_keys(model_cfg, MODEL_KEYS, "model")
    parts = {
        "backbone": build_from(BACKBONES, _required(model_cfg, "backbone"), "model.backbone"),
        "neck": build_from(NECKS, _required(model_cfg, "neck"), "model.neck"),
        "bbox_head": _build_head(_required(model_cfg, "bbox_head")),
    }
    model = build_from(DETECTORS, {"type": model_cfg.get("type"), **parts}, "model")
    for part in parts.values():
        part.init_weights()
    if model_cfg.get("pretrained"):
        load_weights(model.backbone, model_cfg["pretrained"], strict=False)
    model.train_cfg = _copy(choose_cfg("train_cfg", model_cfg, train_cfg))
    model.test_cfg = _copy(choose_cfg("test_cfg", model_cfg, test_cfg))
    return model


def build_criterion(
    model_cfg: Mapping, train_cfg: Mapping | None = None, mean_across_ranks: Callable = identity
) -> SCRFDCriterion:
    """Build the training loss of a model.

    Args:
        model_cfg: `model` of a config file; its bbox_head names losses and anchors.
        train_cfg: the top-level one; names the assigner.
        mean_across_ranks: see SCRFDCriterion.

    Raises:
        ConfigError: an unknown or missing key, named with its path.
    """
    head = _required(model_cfg, "bbox_head")
    train_cfg = choose_cfg("train_cfg", model_cfg, train_cfg)
    if not train_cfg or "assigner" not in train_cfg:
        raise ConfigError("train_cfg.assigner is missing: which anchors learn which face?")
    for key in ("allowed_border", "pos_weight"):
        if train_cfg.get(key, -1) != -1:
            raise ConfigError(f"train_cfg.{key} = {train_cfg[key]!r} is not supported; use -1 (no effect)")

    def build_loss(key: str, default: dict | None = None) -> Callable:
        return build_from(LOSSES, head.get(key, default), f"model.bbox_head.{key}")

    return SCRFDCriterion(
        anchor_generator=_build_anchors(head),
        assigner=build_from(ASSIGNERS, train_cfg["assigner"], "train_cfg.assigner"),
        loss_cls=build_loss("loss_cls"),
        loss_bbox=build_loss("loss_bbox"),
        loss_kps=build_loss("loss_kps", DEFAULT_LOSS_KPS) if head.get("use_kps") else None,
        loss_dfl=build_loss("loss_dfl") if head.get("loss_dfl") else None,
        reg_max=head.get("reg_max", 8),
        num_classes=_required(head, "num_classes", "model.bbox_head"),
        mean_across_ranks=mean_across_ranks,
    )


def choose_cfg(name: str, model_cfg: Mapping, top_level: Mapping | None) -> Mapping | None:
    """Return the train_cfg or test_cfg that counts: top level, else model's, else bbox_head's."""
    if top_level is not None:
        return top_level
    inside = model_cfg.get(name)
    return inside if inside is not None else (model_cfg.get("bbox_head") or {}).get(name)


def check_keys(cfg: Mapping, known: tuple[str, ...], path: str) -> None:
    """Refuse keys other than `known`."""
    for key in cfg:
        if key not in known:
            raise ConfigError(unknown_name(f"{path}: key", key, known))


def _build_head(cfg: Any) -> nn.Module:
    if isinstance(cfg, Mapping) and "anchor_generator" in cfg:
        cfg = {**cfg, "anchor_generator": _build_anchors(cfg)}
    return build_from(HEADS, cfg, "model.bbox_head")


def _build_anchors(head_cfg: Mapping) -> AnchorGenerator:
    cfg = _required(head_cfg, "anchor_generator", "model.bbox_head")
    return build_from(ANCHOR_GENERATORS, cfg, "model.bbox_head.anchor_generator")


def _required(cfg: Mapping, key: str, path: str = "model") -> Any:
    if cfg.get(key) is None:
        raise ConfigError(f"{path}.{key} is missing")
    return cfg[key]


def _check_arguments(target: Callable, name: str, arguments: dict, path: str) -> None:
    """Compare arguments with the signature; a constructor with **kwargs takes anything."""
    parameters = inspect.signature(target).parameters.values()
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not any(p.kind == p.VAR_KEYWORD for p in parameters):
        for key in arguments:
            if key not in known:
                raise ConfigError(unknown_name(f"{path}: argument of {name}", key, known))
    required = [p.name for p in parameters if p.default is p.empty and p.name in known]
    for key in required:
        if key not in arguments:
            raise ConfigError(f"{path}.{key} is missing; {name} needs {', '.join(required)}")


def _copy(value: Any) -> Any:
    """Copy dicts and lists, so that nobody changes the config; other objects are shared."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copy(item) for item in value)
    return value
