"""Options that fit a config file to another length of training: `--epochs N` and `--schedule auto`."""

from collections.abc import Iterable
from math import ceil

from mmdet.config.types import RunConfig

EVALUATIONS = 20  # of a whole run, where the schedule is automatic


def scale_epochs(config: RunConfig, epochs: float, kept: Iterable[str] = ()) -> dict[str, object]:
    """Return the options that turn a recipe of config.total_epochs into one of `epochs`.

    Milestones, periods and the intervals of evaluations and checkpoints keep their share of the run.

    Args:
        config: the recipe.
        epochs: wanted; total_epochs is the next whole number.
        kept: names of options that the user has set; these values are left alone.
    """
    ratio = epochs / config.total_epochs
    scaled: dict[str, object] = {}
    if config.lr.step:
        scaled["lr_config.step"] = sorted({_scale(step, ratio) for step in config.lr.step})
    if config.lr.T_0:
        scaled["lr_config.T_0"] = _scale(config.lr.T_0, ratio)
    if config.checkpoint.interval_iters is None:
        scaled["checkpoint_config.interval"] = _scale(config.checkpoint.interval, ratio)
    if config.evaluation is not None:
        scaled["evaluation.interval"] = _scale(config.evaluation.interval, ratio)
        if config.evaluation.start:
            scaled["evaluation.start"] = _scale(config.evaluation.start, ratio)
    free = {name: value for name, value in scaled.items() if not any(_overlap(name, other) for other in kept)}
    return {"total_epochs": ceil(epochs), **free}


def _scale(number: int, ratio: float) -> int:
    return max(1, round(number * ratio))


def _overlap(name: str, other: str) -> bool:
    """Whether one dotted name is the other or lies inside it."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def automatic_schedule(config: RunConfig) -> dict[str, object]:
    """Return the options that replace a recipe's lr_config and intervals by automatic ones."""
    options: dict[str, object] = {
        "lr_config": {"_delete_": True, "policy": "auto"},
        "checkpoint_config.interval": None,
        "log_config.interval": None,
    }
    if config.evaluation is not None:
        options |= {"evaluation.interval": None, "evaluation.start": None}
    return options


def automatic_interval(total_epochs: int) -> int:
    """Return the epochs between evaluations, and between checkpoints, of an automatic schedule."""
    return max(1, ceil(total_epochs / EVALUATIONS))
