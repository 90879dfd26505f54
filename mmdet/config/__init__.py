"""Config files: mmdet-style python with `_base_` and --cfg-options outside, frozen dataclasses inside.

Read types.py (what comes out), load.py (how a file is read), then section.py with read_training.py and
read_runtime.py (which keys there are) and options.py (--cfg-options).
"""

from mmdet.config.load import dump, load_config
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
    "load_config",
    "parse_options",
]
