"""From a config file to a RunConfig: read it, set options, translate it, check every key."""

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmdet.config.fit import automatic_schedule, scale_epochs
from mmdet.config.foreign import refuse_foreign
from mmdet.config.legacy import FILE_LOCAL, translate
from mmdet.config.literals import is_safe
from mmdet.config.options import apply_options, parse_options
from mmdet.config.pyfile import check_plain, format_python, read_file
from mmdet.config.schema import list_keys, read, read_dict
from mmdet.config.ternaus import is_ternaus, translate_ternaus
from mmdet.config.types import AdamKeys, EvalConfig, ImportKeys, LrConfig, RunConfig, SgdKeys
from mmdet.errors import ConfigError
from mmdet.evaluation.metrics import figure_names

logger = logging.getLogger(__name__)

# What a validation set that is split off has in common with the training set.
SAME_LABELS = ("type", "ann_file", "img_prefix", "label_format", "classes", "num_kps", "val_split")

HELP_HEAD = """# Keys of a config file

Written by `python tools/print_config.py --help-keys > docs/config.md`; the schema is `mmdet/config/types.py`.

A config file is python (or json, yaml) that assigns these keys. A python file is code: it is executed, and
any file may name modules to import (`custom_imports`) and python bases. `--safe` of every tool, or the
variable SCRFD_SAFE=1, executes and imports nothing: literals are read, the rest is refused by file and line.
Use it for files of strangers. `_base_` names files whose keys it inherits. A dict with `type` names a class
of the table for its place (`mmdet/models/backbones`, `mmdet/datasets`, ...); its other keys are that class's
arguments.
Spellings of mmdet 2.x that mean the same (`imgs_per_gpu`, `fp16`, `runner`, `custom_hooks` with
an EMAHook, `lr_config.min_lr_ratio`, `lr_config.eta_min`, ...) are translated, see `mmdet/config/legacy.py`.
None means that the key is not set. Numbers are finite; an unknown key is an error.
"""


def load_config(
    path: str | Path,
    options: Sequence[str] | Mapping[str, object] = (),
    epochs: float | None = None,
    schedule: str | None = None,
) -> RunConfig:
    """Read a config file and its bases, set options, check everything.

    Args:
        path: an mmdet 2.x config file (.py, .json, .yaml).
        options: what --cfg-options got, ["optimizer.lr=0.02"], or a dict {"optimizer.lr": 0.02}.
        epochs: length of training; the file's milestones and intervals are scaled, see `scale_epochs`.
        schedule: "auto" replaces the file's lr_config and intervals; see `automatic_schedule`.

    Returns:
        RunConfig; keys that the file carries and nobody reads are logged in one line.

    Raises:
        ConfigError: a file is missing, does not execute or is of another project, a key or option is
            unknown (the message names the nearest known one), or a value has the wrong type or range.
    """
    options = dict(options) if isinstance(options, Mapping) else parse_options(options)
    for key in options:
        if key.split(".")[0] in FILE_LOCAL:
            raise ConfigError(
                f"--cfg-options {key}: has no effect, the file has used {key.split('.')[0]} already; "
                "set the key it was used for, for example data.train.pipeline.2.crop_choice"
            )
    values = read_file(path)
    unused: list[str] = []
    if is_ternaus(values):
        values, unused = translate_ternaus(values, os.environ)
    refuse_foreign(values, str(path))
    config = resolve(values, options, str(path), unused)
    if epochs is not None or schedule == "auto":
        config = resolve(values, _fit(config, values, options, epochs, schedule), str(path), unused)
    if config.unused:
        logger.warning("config %s: accepted, but read by nobody: %s", path, ", ".join(config.unused))
    return config


def _fit(
    config: RunConfig, values: dict, options: Mapping[str, object], epochs: float | None, schedule: str | None
) -> dict[str, object]:
    """Return options with those that fit the file to `epochs` or to an automatic schedule; given ones win."""
    if epochs is not None and "total_epochs" in options and options["total_epochs"] != epochs:
        raise ConfigError(
            f"--epochs {epochs} contradicts --cfg-options total_epochs={options['total_epochs']}; keep one"
        )
    scaled = {} if epochs is None else scale_epochs(config, epochs, options)
    if epochs is not None and values.get("runner") is not None:
        scaled["runner"] = None  # its max_epochs is total_epochs by another name
    automatic = automatic_schedule(config) if schedule == "auto" else {}
    return {**scaled, **automatic, **options}


def resolve(
    values: dict, options: Mapping[str, object], filename: str, unused: Sequence[str] = ()
) -> RunConfig:
    """Return the RunConfig of a file's values with options set; values are not changed.

    Args:
        values: of a file in the spelling of mmdet 2.x.
        options: see `load_config`.
        filename: of the file.
        unused: keys that a translator has found to be read by nobody.
    """
    values = apply_options(values, options)
    check_plain(values)
    _import_modules(values.get("custom_imports"))
    unread = list(unused)
    translated = translate(values, unread)
    _require_for_training(translated)
    split_off_val(translated)
    config = read(RunConfig, translated, filename=filename, text=format_python(values), unused=tuple(unread))
    _check_warmup(config.lr)
    return replace(config, evaluation=_resolve_best(config.evaluation))


def dump(config: RunConfig) -> str:
    """Return the resolved file as python text; loading it again gives an equal config."""
    return config.text


def help_keys() -> str:
    """Return docs/config.md: every key with its type, limits, default and meaning."""
    optimizers = (("SGD and NpuFusedSGD", SgdKeys), ("Adam and AdamW", AdamKeys))
    lines = [HELP_HEAD, *list_keys(RunConfig)]
    for name, schema in optimizers:
        lines += ["", f"## Keys of `optimizer` for {name}", "", *list_keys(schema, "optimizer")]
    return "\n".join(lines) + "\n"


def _require_for_training(values: dict) -> None:
    """Name the first key that is missing in a file that has data.train."""
    data = values.get("data")
    if not isinstance(data, dict) or not data.get("train"):
        return
    if data.get("samples_per_gpu") is None:
        raise ConfigError("data.samples_per_gpu is missing: how many images per device and step?")
    if data["samples_per_gpu"] == 0:
        raise ConfigError("data.samples_per_gpu = 0 must be at least 1, or -1 for as many as fit")
    for name in ("optimizer", "total_epochs"):
        if not values.get(name) and values.get(name) != 0:
            raise ConfigError(f"{name} is missing")


def split_off_val(values: dict) -> None:
    """Carry out `data.val_split`: data.train leaves images out, which data.val and data.test take."""
    data = values.get("data") or {}
    share = data.get("val_split") if isinstance(data, dict) else None
    if share is None or not data.get("train"):
        return
    if (values.get("evaluation") or {}).get("gt_dir"):
        raise ConfigError("data.val_split: evaluation.gt_dir is of other images; remove it")
    train = {**data["train"], "val_split": share}
    shared = {key: train[key] for key in SAME_LABELS if key in train}
    for name in ("val", "test"):
        pipeline = (data.get(name) or data.get("val") or data.get("test") or {}).get("pipeline")
        if pipeline is None:
            raise ConfigError("data.val_split needs the pipeline of data.val or data.test")
        data[name] = {**shared, "pipeline": pipeline}
    data["train"] = train


def _check_warmup(lr: LrConfig) -> None:
    if lr.warmup and not (lr.warmup_iters > 0 and 0 < lr.warmup_ratio <= 1):
        raise ConfigError(
            f"lr_config.warmup = {lr.warmup!r} needs warmup_iters > 0 and 0 < warmup_ratio <= 1, "
            f"not {lr.warmup_iters} and {lr.warmup_ratio}"
        )


def _resolve_best(evaluation: EvalConfig | None) -> EvalConfig | None:
    """Replace save_best = "auto" by the name of a metric."""
    if evaluation is None or evaluation.save_best != "auto":
        return evaluation
    best = "AP_hard" if "widerface" in evaluation.metric else figure_names(evaluation.metric)[0]
    return replace(evaluation, save_best=best)


def _import_modules(custom_imports: object) -> None:
    """Import the modules that `custom_imports` names; they may add classes to the tables."""
    section = read_dict(ImportKeys, custom_imports, "custom_imports")
    if section.get("imports") and is_safe():
        raise ConfigError("custom_imports runs the code of modules; a file read with --safe may not have it")
    for name in section.get("imports", ()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            if not section.get("allow_failed_imports"):
                raise ConfigError(
                    f"custom_imports: cannot import {name!r} ({error}); is its folder in PYTHONPATH?"
                ) from error
            logger.warning("custom_imports: cannot import %r (%s), going on without it", name, error)
