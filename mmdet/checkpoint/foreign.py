"""Read checkpoints of other programs without running what they pickled.

mmcv, mmengine and old mmdet put objects of their own classes into a checkpoint (history buffers, config
dicts). torch's weights-only reader refuses them by name. Here each refused name gets an inert stand-in and
the file is read again, still by the weights-only reader: nothing of the file is imported or called.
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmdet.checkpoint import files as checkpoint
from mmdet.checkpoint.integrity import check_content
from mmdet.errors import CheckpointError

MAX_ATTEMPTS = 100  # a checkpoint of mmengine has about ten foreign classes
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported class):?\s+`?([\w.]+)")
_FILLED = re.compile(r"Can only (\w+) .*got <class 'foreign\.([\w.]+)'>", re.DOTALL)


class Placeholder:
    """Stands where an object of an unknown class was; takes anything and does nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __new__(cls, *_args: object) -> Any:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


class DictPlaceholder(Placeholder):
    """For a class derived from dict: its items are kept, in a plain dict."""

    def __new__(cls, *_args: object) -> Any:
        """Return what torch's reader fills."""
        return OrderedDict()


class ListPlaceholder(Placeholder):
    """For a class derived from list, or a deque: its items are kept, in a list."""

    def __new__(cls, *_args: object) -> Any:
        """Return what torch's reader fills."""
        return []


def read_foreign(path: str | Path) -> dict[str, Any]:
    """Return the content of any torch checkpoint; objects of foreign classes become placeholders.

    Raises:
        CheckpointError: missing, damaged, or not a dict.
    """
    try:
        return checkpoint.load(path)
    except CheckpointError as error:
        if "pickled code" not in str(error) or not hasattr(
            torch.serialization, "safe_globals"
        ):  # torch < 2.5
            raise
    stand_ins: dict[str, type] = {}
    for _ in range(MAX_ATTEMPTS):
        try:
            allowed: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]
            with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
            break
        except Exception as error:  # the reader raises many kinds; only what it refuses is worth another try
            if not _add_stand_in(str(error), stand_ins):
                raise CheckpointError(f"{path} {_why(error)}") from None
    else:
        raise CheckpointError(f"{path} cannot be read: it holds objects of more than {MAX_ATTEMPTS} classes")
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict with a state_dict")
    check_content(content, path)
    return content


def plain_values(value: Any) -> Any:
    """Return strings, numbers, lists, tuples and dicts of them; anything else becomes None."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_values(item) for item in value)
    return value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else None


def _why(error: Exception) -> str:
    if refused := _REFUSED.search(str(error)):
        return f"is refused: it would call {refused[1]} when loaded. Do not trust where it comes from."
    return checkpoint.why_unreadable(error)


def _add_stand_in(message: str, stand_ins: dict[str, type]) -> bool:
    """Add, or change, the stand-in that torch's refusal asks for; False if it asks for none."""
    if filled := _FILLED.search(message):
        opcode, name = filled.groups()
        kind: type = DictPlaceholder if opcode.startswith("SETITEM") else ListPlaceholder
    elif refused := _REFUSED.search(message):
        name, kind = refused[1], Placeholder
        name = name if "." in name else f"builtins.{name}"  # as the reader looks it up, not as it says
    else:
        return False
    if name in stand_ins and issubclass(stand_ins[name], kind):
        return False  # as asked for already, and still refused
    stand_ins[name] = type(name, (kind,), {"__module__": "foreign"})
    return True
