"""Ranges of what a user may ask for; the same one-line errors in every tool and class of this folder."""

import math

from mmdet.errors import ConfigError


def check_fraction(name: str, value: float) -> float:
    """Return a value from 0 to 1, for example a score or an overlap.

    Args:
        name: as the user knows it, for example "--thr" or "det_thresh".
        value: to be checked.

    Raises:
        ConfigError: it is outside, or not a number.
    """
    if not 0 <= value <= 1:  # also refuses nan
        raise ConfigError(f"{name} {value}: give a value from 0 to 1")
    return value


def check_count(name: str, value: int, lowest: int = 0, highest: float = math.inf) -> int:
    """Return a count or an index from `lowest` to `highest`; see `check_fraction`.

    Raises:
        ConfigError: it is outside.
    """
    if not lowest <= value <= highest:
        limit = f" to {highest}" if value > highest else " or more"
        raise ConfigError(f"{name} {value}: give {lowest}{limit}")
    return value
