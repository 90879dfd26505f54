"""From `model` of a config file to a detector and its criterion.

A config file describes the head, the anchors, the coder and the losses in one dict, `model.bbox_head`, as
mmdet does. Here it is taken apart: layers go to the head, losses to the criterion, anchors and coder to both
the detector and the criterion.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.checkpoint.keys import load_weights
from mmdet.config.table import build_from, check_keys, copy_plain, find, parameters_of, required
from mmdet.core.anchors import ANCHOR_GENERATORS, AnchorGenerator
from mmdet.core.assigners import ASSIGNERS, Assigner
from mmdet.core.coders import CODERS, Coder
from mmdet.errors import ConfigError
from mmdet.models.backbones import BACKBONES
from mmdet.models.criteria import CRITERIA
from mmdet.models.dense_heads import HEADS
from mmdet.models.detectors import DETECTORS
from mmdet.models.losses import LOSSES
from mmdet.models.necks import NECKS
from mmdet.models.teacher import Teacher, digest_of

MODEL_KEYS = ("type", "pretrained", "backbone", "neck", "bbox_head", "criterion", "train_cfg", "test_cfg")
DEFAULT_LOSS_KPS = dict(type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=0.1)
HEAD = "model.bbox_head"
NESTED = ("base", "teacher")  # arguments of a criterion that are built from dicts of their own
NO_LAYERS = ("bbox_coder", "train_cfg", "test_cfg")  # keys of bbox_head, beside loss_*, that others read


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
    find(DETECTORS, model_cfg, "model")
    parts = {
        "backbone": build_from(BACKBONES, required(model_cfg, "backbone", "model"), "model.backbone"),
        "neck": build_from(NECKS, required(model_cfg, "neck", "model"), "model.neck"),
        "bbox_head": build_from(HEADS, _layers_of(model_cfg), HEAD),
    }
    geometry = {"anchor_generator": _build_anchors(model_cfg), "coder": _build_coder(model_cfg)}
    model = build_from(DETECTORS, {"type": model_cfg["type"], **parts, **geometry}, "model")
    for part in parts.values():
        part.init_weights()
    if model_cfg.get("pretrained"):
        load_weights(model.backbone, model_cfg["pretrained"], strict=False)
    model.train_cfg = copy_plain(choose_cfg("train_cfg", model_cfg, train_cfg))
    model.test_cfg = copy_plain(choose_cfg("test_cfg", model_cfg, test_cfg))
    return model


def build_criterion(
    model_cfg: Mapping,
    train_cfg: Mapping | None = None,
    mean_across_ranks: Callable[[Tensor], Tensor] | None = None,
) -> Callable[..., dict[str, Tensor]]:
    """Build the training loss of a model: model.criterion, else the default of the detector's type.

    The criterion's constructor says what it takes. `anchor_generator`, `coder`, `num_classes`, `assigner`
    and every `loss_*` come from model.bbox_head and train_cfg; `base` is another criterion, `teacher` a
    trained detector, each from its dict in model.criterion; anything else from model.criterion.

    Args:
        model_cfg: `model` of a config file; its bbox_head names losses and anchors.
        train_cfg: the top-level one; names the assigner.
        mean_across_ranks: averages a tensor over the ranks; None for one rank.

    Raises:
        ConfigError: an unknown or missing key, named with its path.
    """
    cfg = _criterion_cfg(model_cfg)
    base = {**model_cfg, "criterion": cfg.get("base")}
    takes = parameters_of(find(CRITERIA, cfg, "model.criterion"))
    offers: dict[str, Callable[[], Any]] = {
        "anchor_generator": lambda: _build_anchors(model_cfg),
        "coder": lambda: _build_coder(model_cfg),
        "num_classes": lambda: required(_head_cfg(model_cfg), "num_classes", HEAD),
        "assigner": lambda: _build_assigner(choose_cfg("train_cfg", model_cfg, train_cfg)),
        "base": lambda: build_criterion(base, train_cfg, mean_across_ranks),
        "teacher": lambda: _build_teacher(required(cfg, "teacher", "model.criterion")),
    }
    if mean_across_ranks is not None:
        offers["mean_across_ranks"] = lambda: mean_across_ranks
    check_keys(
        cfg,
        [name for name in ("type", *takes) if name in NESTED or name not in offers and not _is_loss(name)],
        "model.criterion",
    )
    parts = {name: offer() for name, offer in offers.items() if name in takes}
    losses = {name: _build_loss(_head_cfg(model_cfg), p) for name, p in takes.items() if _is_loss(name)}
    return build_from(CRITERIA, {**cfg, **parts, **losses}, "model.criterion")


def choose_cfg(name: str, model_cfg: Mapping, top_level: Mapping | None) -> Mapping | None:
    """Return the train_cfg or test_cfg that counts: top level, else model's, else bbox_head's."""
    if top_level is not None:
        return top_level
    inside = model_cfg.get(name)
    return inside if inside is not None else (model_cfg.get("bbox_head") or {}).get(name)


def _head_cfg(model_cfg: Mapping) -> Mapping:
    head = required(model_cfg, "bbox_head", "model")
    find(HEADS, head, HEAD)
    return head


def _is_loss(key: str) -> bool:
    return key.startswith("loss_")


def _layers_of(model_cfg: Mapping) -> dict[str, Any]:
    """Return the part of the head's dict that describes layers; refuse losses the criterion does not take."""
    head = _head_cfg(model_cfg)
    check_keys([key for key in head if _is_loss(key)], _losses_of(model_cfg), HEAD)
    layers = {key: head[key] for key in head if not _is_loss(key) and key not in NO_LAYERS}
    if head.get("loss_dfl"):
        layers["use_dfl"] = True
    return {**layers, "anchor_generator": _build_anchors(model_cfg)}


def _losses_of(model_cfg: Mapping) -> list[str]:
    """Return the names of the losses that the criterion, or the one inside it, takes."""
    cfg = _criterion_cfg(model_cfg)
    takes = parameters_of(find(CRITERIA, cfg, "model.criterion"))
    if "base" in takes:
        return _losses_of({**model_cfg, "criterion": cfg.get("base")})
    return [name for name in takes if _is_loss(name)]


def _build_teacher(cfg: Any) -> Teacher:
    """Return the detector of dict(config=FILE, checkpoint=.pth or .onnx FILE, cache_dir=DIR or None)."""
    path = "model.criterion.teacher"
    if not isinstance(cfg, Mapping):
        raise ConfigError(f"{path} must be a dict(config=..., checkpoint=...)")
    check_keys(cfg, ("config", "checkpoint", "cache_dir"), path)
    file, checkpoint = (str(required(cfg, key, path)) for key in ("config", "checkpoint"))
    from mmdet.config.load import load_config  # it reads the names of metrics, which a model has no use for

    described = load_config(file)
    state = torch.get_rng_state()  # the weights that are drawn first must not change the student's
    net = build_detector({**described.model, "pretrained": None, "criterion": None}, described.train_cfg)
    torch.set_rng_state(state)
    if checkpoint.endswith(".onnx"):
        from mmdet.deploy.export.onnx_weights import load_onnx_weights  # needs onnx

        anything: Any = net  # it is exported, to compare its graph with the file's
        anything.cfg, anything.CLASSES = described, tuple("?" * anything.bbox_head.num_classes)
        load_onnx_weights(anything, checkpoint)
    else:
        load_weights(net, checkpoint)
    return Teacher(net, digest_of(net), cfg.get("cache_dir"))


def _criterion_cfg(model_cfg: Mapping) -> dict[str, Any]:
    default = getattr(find(DETECTORS, model_cfg, "model"), "default_criterion", None)
    cfg = {**({"type": default} if default else {}), **(model_cfg.get("criterion") or {})}
    if "type" not in cfg:
        raise ConfigError(f"model.criterion.type is missing: {model_cfg['type']} names no criterion itself")
    return cfg


def _build_anchors(model_cfg: Mapping) -> AnchorGenerator:
    cfg = required(_head_cfg(model_cfg), "anchor_generator", HEAD)
    return build_from(ANCHOR_GENERATORS, cfg, f"{HEAD}.anchor_generator")


def _build_coder(model_cfg: Mapping) -> Coder:
    default = getattr(find(DETECTORS, model_cfg, "model"), "default_coder", None)
    return build_from(
        CODERS, _head_cfg(model_cfg).get("bbox_coder") or {"type": default}, f"{HEAD}.bbox_coder"
    )


def _build_assigner(train_cfg: Mapping | None) -> Assigner:
    if not train_cfg or "assigner" not in train_cfg:
        raise ConfigError("train_cfg.assigner is missing: which anchors learn which face?")
    for key in ("allowed_border", "pos_weight"):
        if train_cfg.get(key, -1) != -1:
            raise ConfigError(f"train_cfg.{key} = {train_cfg[key]!r} is not supported; use -1 (no effect)")
    return build_from(ASSIGNERS, train_cfg["assigner"], "train_cfg.assigner")


def _build_loss(head: Mapping, parameter: inspect.Parameter) -> Callable | None:
    """Return the loss of this name; None where it is optional and the head does without."""
    name = parameter.name
    cfg = head.get(name)
    if name == "loss_kps":
        cfg = (cfg or DEFAULT_LOSS_KPS) if head.get("use_kps") else None
    if not cfg and parameter.default is None:
        return None
    return build_from(LOSSES, cfg, f"{HEAD}.{name}")
