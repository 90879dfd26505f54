"""Files in configs/search/: a dict `search` whose keys are the fields of a dataclass."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

from mmdet.config.options import apply_options, parse_options
from mmdet.config.pyfile import read_file
from mmdet.config.values import check_value
from mmdet.errors import ConfigError, unknown_name

Settings = TypeVar("Settings")
PATHS = ("base", "search")  # keys that name a file, relative to the file they stand in


def read_settings(path: str, kind: type[Settings], options: Sequence[str] = ()) -> Settings:
    """Read the `search` dict of a file into a dataclass.

    Args:
        path: a file of configs/search/.
        kind: the dataclass; paths of its keys are made absolute.
        options: --cfg-options, for example search.max_layers=10.

    Raises:
        ConfigError: an unknown or missing key, or a value of another type.
    """
    given = parse_options(options)
    values = apply_options(read_file(path), given).get("search")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no dict `search`; is it a file of configs/search/?")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in values:
        if key not in fields:
            raise ConfigError(unknown_name(f"{path}: search key", key, fields))
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise ConfigError(f"{path}: search.{name} is missing")
    checked = {key: check_value(value, hints[key], f"{path}: search.{key}") for key, value in values.items()}
    for key in PATHS:
        if checked.get(key):
            folder = Path.cwd() if f"search.{key}" in given else Path(path).parent
            checked[key] = str((folder / checked[key]).resolve())
    return kind(**checked)
