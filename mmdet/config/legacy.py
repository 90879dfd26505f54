"""Other spellings of mmdet and mmcv 2.x, translated to the keys of types.py: a dict in, a dict out.

What is moved or changed is checked first, so that a message names the key the user wrote. A dict that is no
dict is left for the reader, which refuses it by name.
"""

import difflib
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from mmdet.config.fit import automatic_interval
from mmdet.config.schema import as_dict, check_key, key, read
from mmdet.config.table import copy_plain
from mmdet.config.types import (
    OPTIMIZER_KEYS,
    AmpConfig,
    CheckpointConfig,
    DataConfig,
    EmaConfig,
    RunConfig,
    SgdKeys,
)
from mmdet.config.values import Limits, check_value, shorten
from mmdet.errors import ConfigError

# Keys that only serve the file while it executes, or whose reader this trainer does not have.
FILE_LOCAL = ("lr_mult", "epoch_multi", "dataset_type", "train_root", "val_root", "img_norm_cfg",
              "train_pipeline", "test_pipeline", "plainnet_struct")  # fmt: skip
UNREAD = (*FILE_LOCAL, "dist_params", "gpu_ids", "gpus", "device")

UNREAD_LOG_KEYS = ("by_epoch", "interval", "ignore_last", "reset_flag", "interval_exp_name", "log_dir",
                   "commit", "with_step", "log_artifact", "out_suffix", "out_dir", "priority")  # fmt: skip

DTYPES = dict(float16="float16", fp16="float16", half="float16", bfloat16="bfloat16", bf16="bfloat16")
POLICIES = {"step": "step", "Step": "step", "fixed": "fixed", "cosine": "cosine", "CosineAnnealing": "cosine"}


@dataclass(frozen=True)
class Fp16:
    """mmcv's `fp16`, which means level O1."""

    loss_scale: float | str | dict = key(512.0, "", above=0, choices=("dynamic",))


@dataclass(frozen=True)
class Runner:
    """mmdet's `runner`."""

    type: str | None = key(None, "", choices=("EpochBasedRunner",))
    max_epochs: int | None = key(None, "", least=1, most=10**6)


def translate(values: dict, unused: list[str]) -> dict:
    """Return a copy of a file's values in the spelling of types.py.

    Args:
        values: of a config file of mmdet 2.x.
        unused: collects the paths of keys that are accepted and read by nobody.

    Raises:
        ConfigError: a key has a wrong value, contradicts another one, or asks for what is not supported.
    """
    values = copy_plain(values)
    steps = (_data, _optimizer, _length, _lr, _amp, _ema, _checkpoint, _log, _auto, _model, _unsupported)
    for step in (*steps, _own_variables):
        step(values, unused)
    unused.extend(name for name in values if name in UNREAD)
    return {name: value for name, value in values.items() if name not in UNREAD}


def _section(values: dict, name: str) -> dict:
    """Return values[name] to be changed in place; an empty dict apart if it is no dict."""
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _pop(section: dict, name: str, hint: Any, path: str, limits: Limits = Limits()) -> Any:  # noqa: B008
    """Take a key out of a dict, checked; None if it is missing."""
    value = section.pop(name, None)
    return None if value is None else check_value(value, hint, f"{path}.{name}", limits)


def _ignore(section: dict, names: tuple[str, ...], path: str, unused: list[str]) -> None:
    found = [name for name in section if name in names]
    for name in found:
        del section[name]
    unused.extend(f"{path}.{name}" for name in found)


def _data(values: dict, _unused: list[str]) -> None:
    """Translate `imgs_per_gpu`, and `samples_per_gpu` of data.test and data.val (val wins)."""
    data = _section(values, "data")
    if (samples := data.pop("imgs_per_gpu", None)) is not None:
        data["samples_per_gpu"] = check_key(DataConfig, "samples_per_gpu", samples, "data.imgs_per_gpu")
    for name in ("test", "val"):
        if (samples := _section(data, name).pop("samples_per_gpu", None)) is not None:
            path = f"data.{name}.samples_per_gpu"
            data["val_samples_per_gpu"] = check_key(DataConfig, "val_samples_per_gpu", samples, path)


def _optimizer(values: dict, _unused: list[str]) -> None:
    optimizer = _section(values, "optimizer")
    if optimizer.pop("paramwise_cfg", None) is not None:
        raise ConfigError("optimizer.paramwise_cfg is not supported (one rule for all); remove it")
    if optimizer:
        schema = OPTIMIZER_KEYS.get(str(optimizer.get("type")))
        known = optimizer if schema else {name: optimizer.get(name) for name in ("type", "lr")}
        read(schema or SgdKeys, known, "optimizer")


def _length(values: dict, _unused: list[str]) -> None:
    """Translate `runner.max_epochs`."""
    epochs = read(Runner, values.pop("runner", None), "runner").max_epochs
    total = values.get("total_epochs")
    if epochs is not None and total is not None and epochs != total:
        raise ConfigError(
            f"total_epochs = {shorten(total)} contradicts runner.max_epochs = {epochs}; keep one"
        )
    if epochs is not None:
        values["total_epochs"] = epochs


def _lr(values: dict, _unused: list[str]) -> None:
    """Translate names of policies, a number n as `step` (every n epochs), `eta_min` and `min_lr_ratio`."""
    section = _section(values, "lr_config")
    policy = _pop(section, "policy", str, "lr_config")
    if policy is not None:
        section["policy"] = POLICIES.get(policy, policy)
    eta_min = _pop(section, "eta_min", float, "lr_config", Limits(least=0))
    if eta_min is not None:
        section["min_lr"] = eta_min
    if type(step := section.get("step")) is int:
        check_value(step, int, "lr_config.step", Limits(least=1))
        total = check_key(RunConfig, "total_epochs", values.get("total_epochs"), "total_epochs")
        section["step"] = tuple(range(step, total, step))
    if section.get("policy") == "fixed":
        section.update(policy="step", step=())
    ratio = _pop(section, "min_lr_ratio", float, "lr_config", Limits(least=0))
    if ratio is not None:
        section["min_lr"] = ratio * _section(values, "optimizer").get("lr", 0.0)


def _amp(values: dict, _unused: list[str]) -> None:
    """Translate mmcv's `fp16`, `amp.opt_level`, short names of dtypes and GradScaler arguments."""
    if values.get("fp16") is not None:
        if values.get("amp") is not None:
            raise ConfigError("fp16 and amp are both set; keep amp=dict(level=..., loss_scale=...)")
        values["amp"] = {"level": "O1", "loss_scale": read(Fp16, values["fp16"], "fp16").loss_scale}
    values.pop("fp16", None)
    amp = _section(values, "amp")
    if isinstance(amp.get("loss_scale"), dict):
        amp["loss_scale"] = "dynamic"
    if (level := amp.pop("opt_level", None)) is not None:
        level = check_key(AmpConfig, "level", level, "amp.opt_level")
        amp["level"] = level if amp.get("level") is None else amp["level"]
    if (dtype := _pop(amp, "dtype", str, "amp", Limits(choices=tuple(DTYPES)))) is not None:
        amp["dtype"] = DTYPES[dtype]


def _ema(values: dict, unused: list[str]) -> None:
    """Translate an EMAHook among mmcv's `custom_hooks`; other hooks are refused."""
    found = ["ema"] if values.get("ema") is not None else []
    hooks = values.pop("custom_hooks", None)
    hooks = () if hooks is None else check_value(hooks, list, "custom_hooks")
    for index, hook in enumerate(hooks):
        path = f"custom_hooks.{index}"
        hook = dict(as_dict(hook, path))
        limits = Limits(choices=("EMAHook", "NumClassCheckHook"))
        if _pop(hook, "type", str, path, limits) == "EMAHook":
            _ignore(hook, ("priority",), path, unused)
            read(EmaConfig, hook, path)
            values["ema"] = hook
            found.append(path)
    if len(found) > 1:
        raise ConfigError(f"weight averaging is set twice, in {found[0]} and {found[1]}; keep one")


def _checkpoint(values: dict, _unused: list[str]) -> None:
    """Translate by_epoch=False: the interval counts iters, and the end is saved, too."""
    section = _section(values, "checkpoint_config")
    if _pop(section, "by_epoch", bool, "checkpoint_config") is False:
        interval = check_key(
            CheckpointConfig, "interval", section.get("interval"), "checkpoint_config.interval"
        )
        section.setdefault("interval_iters", interval)
        total = check_key(RunConfig, "total_epochs", values.get("total_epochs"), "total_epochs")
        section["interval"] = max(total, 1)


def _log(values: dict, unused: list[str]) -> None:
    """Drop what mmcv's log hooks know and our writers do not; their types are checked when they are built."""
    section = _section(values, "log_config")
    hooks = section.get("hooks")
    for index, hook in enumerate(hooks if isinstance(hooks, list | tuple) else ()):
        if isinstance(hook, dict):
            _ignore(hook, UNREAD_LOG_KEYS, f"log_config.hooks.{index}", unused)


def _auto(values: dict, _unused: list[str]) -> None:
    """Make a file without lr_config automatic; then intervals that it leaves out follow the epochs."""
    if values.get("lr_config") is None:
        values["lr_config"] = {"policy": "auto"}
    section, total = _section(values, "lr_config"), values.get("total_epochs")
    if section.get("policy") != "auto" or type(total) is not int:
        return
    given = [name for name, value in section.items() if value is not None]
    if chosen := [name for name in given if name not in ("policy", "min_lr", "warmup_ratio")]:
        raise ConfigError(f"lr_config.policy = 'auto' chooses {', '.join(chosen)} itself; remove it there")
    if values.get("checkpoint_config") is None:
        values["checkpoint_config"] = {}
    for name in ("evaluation", "checkpoint_config"):
        section = _section(values, name)
        if values.get(name) is not None and section.get("interval") is None:
            section["interval"] = automatic_interval(total)


def _model(values: dict, unused: list[str]) -> None:
    """Move train_cfg and test_cfg out of model; the top-level ones win. Drop their keys nobody reads."""
    model = _section(values, "model")
    head = _section(model, "bbox_head")
    _ignore(head, ("train_cfg", "test_cfg"), "model.bbox_head", unused)
    for name in ("train_cfg", "test_cfg"):
        inner = model.pop(name, None)
        if values.get(name) is None:
            values[name] = inner
        elif inner is not None:
            unused.append(f"model.{name}")
    train, test = _section(values, "train_cfg"), _section(values, "test_cfg")
    for name in ("allowed_border", "pos_weight"):
        if train.get(name) is not None and train[name] != -1:
            raise ConfigError(
                f"train_cfg.{name} = {shorten(train[name])} is supported only as -1 (no effect)"
            )
    _ignore(train, ("allowed_border", "pos_weight", "debug"), "train_cfg", unused)
    _ignore(test, ("min_bbox_size",), "test_cfg", unused)


def _is_list(value: object) -> TypeGuard[list | tuple]:
    return isinstance(value, list | tuple)


def _own_variables(values: dict, unused: list[str]) -> None:
    """Leave out variables of the file: names that resemble no key. A misspelt key stays and is refused."""
    known = {
        (one.metadata["key"].name or one.name).split(".")[0] for one in fields(RunConfig) if one.metadata
    }
    for name in [name for name in values if name not in known and name not in UNREAD]:
        if not difflib.get_close_matches(str(name), known, n=1, cutoff=0.6):
            unused.append(str(name))
            del values[name]


def _unsupported(values: dict, unused: list[str]) -> None:
    if values.pop("momentum_config", None) is not None:
        raise ConfigError("momentum_config is not supported (momentum stays optimizer.momentum); remove it")
    workflow = values.pop("workflow", None)
    stages = [list(s) if isinstance(s, tuple) else s for s in workflow] if _is_list(workflow) else []
    if ["train", 1] in stages and all(stage in (["train", 1], ["val", 1]) for stage in stages):
        unused.extend(["workflow"] * (len(stages) > 1))  # validation is set by `evaluation`
    elif workflow is not None:
        raise ConfigError(
            f"workflow = {shorten(workflow)} must be [('train', 1)]; validation is set by `evaluation`"
        )
