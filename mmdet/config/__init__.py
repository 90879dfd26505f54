"""Config files: mmdet-style python with `_base_` and --cfg-options outside, frozen dataclasses inside.

Read types.py (the keys and what comes out), load.py (how a file is read), then schema.py and values.py (the
reader), legacy.py (other spellings) and options.py (--cfg-options).
"""

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
