"""Readers of how training runs: precision, averaging, checkpoints, evaluation, log."""

from dataclasses import replace

from mmdet.config.section import Section
from mmdet.config.types import AmpConfig, CheckpointConfig, EmaConfig, EvalConfig, SpeedConfig
from mmdet.errors import ConfigError, unknown_name

METRICS = ("widerface", "mAP")
LOG_HOOKS = ("TextLoggerHook", "TensorboardLoggerHook")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_DTYPES = dict(float16="float16", fp16="float16", half="float16", bfloat16="bfloat16", bf16="bfloat16")


def read_amp(top: Section) -> AmpConfig:
    """Read `amp`, or mmcv's `fp16=dict(loss_scale=...)`, which means level O1."""
    if top.has("fp16") and top.has("amp"):
        raise ConfigError("fp16 and amp are both set; keep amp=dict(level=..., loss_scale=...)")
    section = top.section("fp16" if top.has("fp16") else "amp")
    if section.path == "fp16":
        config = AmpConfig(level="O1", loss_scale=_loss_scale(section, 512.0))
    else:
        level = section.choose("opt_level", ("O0", "O1", "O2"), "O0")
        config = AmpConfig(
            level=section.choose("level", ("O0", "O1", "O2"), level),
            dtype=_DTYPES[section.choose("dtype", _DTYPES, "float16")],
            loss_scale=_loss_scale(section, AmpConfig.loss_scale),
            backend=section.choose("backend", ("native", "apex"), "native"),
        )
    section.close()
    return config


def read_speed(top: Section) -> SpeedConfig:
    """Read `speed`."""
    section = top.section("speed")
    config = SpeedConfig(
        channels_last=section.take("channels_last", bool, None),
        compile=section.take("compile", bool, False),
        fused_optimizer=section.take("fused_optimizer", bool, False),
        graph=section.take("graph", bool, False),
    )
    section.close()
    return config


def _loss_scale(section: Section, default: float | str) -> float | str:
    scale = section.take("loss_scale", (int, float, str, dict), default)
    if scale == "dynamic" or isinstance(scale, dict):  # mmcv: a dict of torch's GradScaler arguments
        return "dynamic"
    if isinstance(scale, str) or scale <= 0:
        raise ConfigError(f"{section.name('loss_scale')} = {scale!r} must be above 0, or 'dynamic'")
    return float(scale)


def read_ema(top: Section) -> EmaConfig | None:
    """Read `ema`, or an EMAHook among mmcv's `custom_hooks`; other hooks are refused."""
    found = [Section("ema", top.take("ema", dict), top.unused)] if top.has("ema") else []
    for index, hook in enumerate(top.take("custom_hooks", (list, tuple), ())):
        section = Section(f"custom_hooks.{index}", hook, top.unused)
        if section.choose("type", ("EMAHook", "NumClassCheckHook"), "") == "EMAHook":
            found.append(section)
    if len(found) > 1:
        raise ConfigError(f"weight averaging is set twice, in {found[0].path} and {found[1].path}; keep one")
    if not found:
        return None
    section = found[0]
    config = EmaConfig(
        momentum=section.take("momentum", float, EmaConfig.momentum, least=0),
        warm_up=section.take("warm_up", int, EmaConfig.warm_up, least=0),
    )
    section.ignore("priority")
    section.close()
    return config


def read_checkpoint(top: Section, total_epochs: int) -> CheckpointConfig:
    """Read `checkpoint_config`; with by_epoch=False the interval counts iters, and the end is saved too."""
    section = top.section("checkpoint_config")
    interval = section.take("interval", int, 1, least=1)
    by_iters = not section.take("by_epoch", bool, True)
    config = CheckpointConfig(
        interval=max(total_epochs, 1) if by_iters else interval,
        max_keep=section.take("max_keep_ckpts", int, -1, least=-1),
        interval_iters=section.take("interval_iters", int, interval if by_iters else None, least=1),
    )
    section.close()
    return config


def read_evaluation(top: Section) -> EvalConfig | None:
    """Read `evaluation`; None where the file has none."""
    if not top.has("evaluation"):
        return None
    section = top.section("evaluation")
    metric = section.take("metric", (str, list, tuple), "widerface")
    metric = (metric,) if isinstance(metric, str) else tuple(metric)
    for name in metric:
        if name not in METRICS:
            raise ConfigError(unknown_name("evaluation.metric", name, METRICS))
    best = "AP_hard" if "widerface" in metric else "mAP"
    config = EvalConfig(
        interval=section.take("interval", int, 1, least=1),
        start=section.take("start", int, None, least=0),
        metric=metric,
        save_best=section.take("save_best", str, best),
        rule=section.choose("rule", ("greater", "less"), "greater"),
        gt_dir=section.take("gt_dir", str, None),
    )
    section.close()
    return config if config.save_best != "auto" else replace(config, save_best=best)


def read_log(top: Section) -> tuple[int, bool]:
    """Read `log_config`: iters between log lines, and whether TensorBoard is asked for."""
    section = top.section("log_config")
    interval = section.take("interval", int, 50, least=1)
    hooks = section.take("hooks", (list, tuple), ())
    section.close()
    names = [
        Section(f"log_config.hooks.{index}", hook, top.unused).choose("type", LOG_HOOKS, "TextLoggerHook")
        for index, hook in enumerate(hooks)
    ]
    return interval, "TensorboardLoggerHook" in names
