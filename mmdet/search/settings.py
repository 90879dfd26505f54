"""Files in configs/search/: a dict `search` whose keys are the fields of a dataclass."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from mmdet.config.options import apply_options, parse_options
from mmdet.config.pyfile import read_file
from mmdet.errors import ConfigError, unknown_name

Settings = TypeVar("Settings")


def read_settings(path: str, kind: type[Settings], options: Sequence[str] = ()) -> Settings:
    """Read the `search` dict of a file into a dataclass.

    Args:
        path: a file of configs/search/.
        kind: the dataclass; its `base` is made absolute.
        options: --cfg-options, for example search.max_layers=10.

    Raises:
        ConfigError: an unknown or missing key, or a value of another type.
    """
    values = apply_options(read_file(path), parse_options(options)).get("search")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no dict `search`; is it a file of configs/search/?")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(unknown_name(f"{path}: search key", key, fields))
        _check_type(f"{path}: search.{key}", value, types[key])
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise ConfigError(f"{path}: search.{name} is missing")
    if "base" in values:
        values["base"] = str((Path(path).parent / values["base"]).resolve())
    return kind(**values)


def _check_type(name: str, value: Any, expected: Any) -> None:
    allowed = get_args(expected) or (expected,)
    if float in allowed:
        allowed += (int,)
    plain = tuple(getattr(kind, "__origin__", None) or kind for kind in allowed)
    if not isinstance(value, (*plain, list) if tuple in plain else plain) or isinstance(value, bool) > (
        bool in plain
    ):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in plain)
        raise ConfigError(f"{name} = {value!r} must be {names}")
