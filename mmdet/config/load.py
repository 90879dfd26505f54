"""From a config file to a RunConfig: read it, set options, check every key, write it out again."""

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.config.options import apply_options, parse_options
from mmdet.config.pyfile import format_python, read_file
from mmdet.config.read_runtime import (
    LOG_LEVELS,
    read_amp,
    read_checkpoint,
    read_ema,
    read_evaluation,
    read_log,
    read_speed,
)
from mmdet.config.read_training import read_data, read_grad_clip, read_lr, read_optimizer, read_total_epochs
from mmdet.config.section import Section
from mmdet.config.types import RunConfig
from mmdet.errors import ConfigError

logger = logging.getLogger(__name__)

# Top-level keys that only serve the file while it executes, or whose reader this trainer does not have.
FILE_LOCAL = ("lr_mult", "epoch_multi", "dataset_type", "train_root", "val_root", "img_norm_cfg",
              "train_pipeline", "test_pipeline", "plainnet_struct")  # fmt: skip
UNREAD = (*FILE_LOCAL, "dist_params", "gpu_ids", "gpus", "device")


def load_config(path: str | Path, options: Sequence[str] | Mapping[str, object] = ()) -> RunConfig:
    """Read a config file and its bases, set options, check everything.

    Args:
        path: an mmdet 2.x config file (.py, .json, .yaml).
        options: what --cfg-options got, ["optimizer.lr=0.02"], or a dict {"optimizer.lr": 0.02}.

    Returns:
        RunConfig; keys that the file carries and nobody reads are logged in one line.

    Raises:
        ConfigError: a file is missing or does not execute, a key or option is unknown (the message
            names the nearest known one), or a value has the wrong type or range.
    """
    options = dict(options) if isinstance(options, Mapping) else parse_options(options)
    for key in options:
        if key.split(".")[0] in FILE_LOCAL:
            raise ConfigError(
                f"--cfg-options {key}: has no effect, the file has used {key.split('.')[0]} already; "
                "set the key it was used for, for example data.train.pipeline.2.crop_choice"
            )
    values = apply_options(read_file(path), options)
    _import_modules(values.get("custom_imports"))
    config = _check(values, str(path))
    if config.unused:
        logger.warning("config %s: accepted, but read by nobody: %s", path, ", ".join(config.unused))
    return config


def dump(config: RunConfig) -> str:
    """Return the resolved file as python text; loading it again gives an equal config."""
    return config.text


def _check(values: dict, filename: str) -> RunConfig:
    top = Section("", values, unused=[])
    data = read_data(top)
    trains = bool(data.train)
    optimizer = read_optimizer(top, trains)
    total_epochs = read_total_epochs(top, trains)
    model, train_cfg, test_cfg = _read_model(top)
    log_interval, tensorboard = read_log(top)
    scale_lr = top.section("auto_scale_lr")
    _refuse_unsupported(top)
    top.take("data_root", str, None)  # read by apply_options
    top.ignore(*UNREAD)
    config = RunConfig(
        filename=filename,
        model=model,
        train_cfg=train_cfg,
        test_cfg=test_cfg,
        data=data,
        optimizer=optimizer,
        grad_clip=read_grad_clip(top),
        lr=read_lr(top, optimizer.get("lr", 0.0), total_epochs),
        total_epochs=total_epochs,
        amp=read_amp(top),
        ema=read_ema(top),
        checkpoint=read_checkpoint(top, total_epochs),
        evaluation=read_evaluation(top),
        log_interval=log_interval,
        log_level=top.choose("log_level", LOG_LEVELS, "INFO"),
        tensorboard=tensorboard,
        load_from=top.take("load_from", str, None),
        load_fitting=top.take("load_fitting", bool, False),
        resume_from=top.take("resume_from", str, None),
        work_dir=top.take("work_dir", str, None),
        sync_bn=top.take("sync_bn", bool, False),
        find_unused_parameters=top.take("find_unused_parameters", bool, False),
        base_batch_size=scale_lr.take("base_batch_size", int, None, least=1),
        custom_imports=top.take("custom_imports", dict, None),
        text=format_python(values),
        seed=top.take("seed", int, None, least=0),
        cudnn_benchmark=top.take("cudnn_benchmark", bool, False),
        speed=read_speed(top),
        unused=tuple(top.unused),
    )
    scale_lr.close()
    top.close()
    return config


def _read_model(top: Section) -> tuple[dict, dict, dict]:
    """Return model, train_cfg and test_cfg; the top-level ones win over those inside model."""
    model = dict(top.take("model", dict))
    inner = {name: model.pop(name, None) for name in ("train_cfg", "test_cfg")}
    top.unused.extend(f"model.{name}" for name, cfg in inner.items() if cfg is not None and top.has(name))
    head = model.get("bbox_head")
    if isinstance(head, dict):
        top.unused.extend(f"model.bbox_head.{name}" for name in inner if name in head)
        model["bbox_head"] = {key: value for key, value in head.items() if key not in inner}
    train = Section("train_cfg", top.take("train_cfg", dict, inner["train_cfg"]), top.unused)
    for key in ("allowed_border", "pos_weight"):
        if train.take(key, (int, float), -1) != -1:
            raise ConfigError(f"train_cfg.{key} is supported only as -1 (no effect)")
    train.ignore("allowed_border", "pos_weight", "debug")
    train_cfg = {"assigner": assigner} if (assigner := train.take("assigner", dict, None)) else {}
    train.close()
    test = Section("test_cfg", top.take("test_cfg", dict, inner["test_cfg"]), top.unused)
    keys = ("nms_pre", "score_thr", "nms", "max_per_img")
    test_cfg = {key: test.take(key, None, None) for key in keys if test.has(key)}
    test.ignore("min_bbox_size")
    test.close()
    return model, train_cfg, test_cfg


def _refuse_unsupported(top: Section) -> None:
    if top.has("momentum_config"):
        raise ConfigError("momentum_config is not supported (momentum stays optimizer.momentum); remove it")
    workflow = top.take("workflow", (list, tuple), [("train", 1)])
    if len(workflow) != 1 or workflow[0] not in (("train", 1), ["train", 1]):
        raise ConfigError(f"workflow = {workflow!r} must be [('train', 1)]; evaluation validates")


def _import_modules(custom_imports: object) -> None:
    """Import the modules that `custom_imports` names; they may add classes to the tables."""
    section = Section("custom_imports", custom_imports, unused=[])
    names = section.take("imports", (str, list, tuple), ())
    may_fail = section.take("allow_failed_imports", bool, False)
    section.close()
    for name in [names] if isinstance(names, str) else names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if not may_fail:
                raise ConfigError(
                    f"custom_imports: cannot import {name!r} ({error}); is its folder in PYTHONPATH?"
                ) from error
            logger.warning("custom_imports: cannot import %r (%s), going on without it", name, error)
