"""Config files: mmdet-style python with `_base_` and --cfg-options outside, frozen dataclasses inside.

Read types.py (the keys and what comes out), load.py (how a file is read), then schema.py and values.py (the
reader), legacy.py (other spellings), options.py (--cfg-options) and find.py (configs by name).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmdet.config.load import dump, help_keys, load_config
    from mmdet.config.options import parse_options
    from mmdet.config.types import (
        AmpConfig,
        CheckpointConfig,
        DataConfig,
        EmaConfig,
        EvalConfig,
        LrConfig,
        RunConfig,
        SpeedConfig,
    )

__all__ = [
    "AmpConfig",
    "CheckpointConfig",
    "DataConfig",
    "EmaConfig",
    "EvalConfig",
    "LrConfig",
    "RunConfig",
    "SpeedConfig",
    "dump",
    "help_keys",
    "load_config",
    "parse_options",
]


def __getattr__(name: str) -> Any:
    """Import what reads configs, and with it numpy, only when it is asked for: --help needs find.py alone."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load, types = (importlib.import_module(f"mmdet.config.{module}") for module in ("load", "types"))
    return getattr(load, name) if hasattr(load, name) else getattr(types, name)
