"""Read checkpoints of other programs without running what they pickled.

mmcv, mmengine and old mmdet put objects of their own classes into a checkpoint (history buffers, config
dicts). torch's weights-only reader refuses them by name. Here each refused name is replaced by an inert
placeholder class and the file read again, still by the weights-only reader: nothing of the file is imported
or called. Placeholders are dropped from what is kept.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet import checkpoint
from mmdet.errors import CheckpointError

MAX_NAMES = 100  # foreign classes in one file; a checkpoint of mmengine has about ten
PREFIXES = ("module.", "_orig_mod.", "model.", "ema_model.")
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported (?:global|class)):?\s+`?([\w.]+)")


class Placeholder(dict):
    """Stands where an object of an unknown class was; takes anything and does nothing."""

    def __new__(cls, *args: object) -> "Placeholder":
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""

    def append(self, item: object) -> None:
        """Ignore the item."""

    def extend(self, items: object) -> None:
        """Ignore the items."""


def read_foreign(path: str | Path) -> dict[str, Any]:
    """Return the content of any torch checkpoint, objects of foreign classes left out.

    Raises:
        CheckpointError: missing, damaged, or not a dict.
    """
    try:
        return checkpoint.load(path)
    except CheckpointError as error:
        if "refused" not in str(error):
            raise
    names: list[str] = []
    while True:
        try:
            with torch.serialization.safe_globals([_make_placeholder(name) for name in names]):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    content = torch.load(path, map_location="cpu", weights_only=True)
            break
        except Exception as error:  # the reader raises many kinds; only a refused name is worth another try
            match = _REFUSED.search(str(error))
            if match is None or match[1] in names or len(names) >= MAX_NAMES:
                reason = str(error).strip().splitlines()[0]
                raise CheckpointError(f"{path} cannot be read: {type(error).__name__} {reason}") from None
            names.append(match[1])
    if not isinstance(content, dict) or isinstance(content, Placeholder):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict with a state_dict")
    return content


def find_weights(content: Mapping, name: str) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under plain keys: state_dict, model, or the dict itself.

    A prefix that all keys share ("module.", "_orig_mod.", "model.") is dropped, and so are mmcv's copies
    that average the weights ("ema_...") if the plain ones are there.

    Raises:
        CheckpointError: no tensors.
    """
    for key in ("state_dict", "model", "model_state_dict"):
        inside = content.get(key)
        if isinstance(inside, Mapping) and any(isinstance(value, Tensor) for value in inside.values()):
            content = inside
            break
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f"{name} holds no weights (its keys: {', '.join(map(str, list(content)[:5]))})")
    shared = True
    while shared:
        shared = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in weights):
                weights = {key.removeprefix(prefix): value for key, value in weights.items()}
                shared = True
    plain = {key: value for key, value in weights.items() if not key.startswith("ema_")}
    return plain or {key.removeprefix("ema_"): value for key, value in weights.items()}


def plain_values(value: Any) -> Any:
    """Return strings, numbers, lists, tuples and dicts of them; anything else becomes None."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Placeholder):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain_values(item) for item in value) if type(value) in (list, tuple) else None
    return value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else None


def _make_placeholder(name: str) -> Any:
    """Return (class, "module.Name"), as torch's list of allowed names wants it."""
    return (type("Placeholder", (Placeholder,), {}), name)
