"""Files in configs/search/ and configs/races/: a dict whose keys are the fields of a dataclass."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

from mmdet.config.options import apply_options, parse_options
from mmdet.config.pyfile import read_file
from mmdet.config.values import check_value
from mmdet.errors import ConfigError, unknown_name

Settings = TypeVar("Settings")
SECTIONS = {"search": "search", "race": "races"}  # dict -> folder in configs/
PATHS = ("base", "search")  # keys that name a file, relative to the file they stand in


def read_settings(
    path: str, kind: type[Settings], options: Sequence[str] = (), section: str = "search"
) -> Settings:
    """Read the `search` dict, or another section, of a file into a dataclass.

    Args:
        path: the file.
        kind: the dataclass; paths of its keys are made absolute.
        options: --cfg-options, for example search.max_layers=10.
        section: name of the dict.

    Raises:
        ConfigError: an unknown or missing key, or a value of another type.
    """
    given = parse_options(options)
    values = apply_options(read_file(path), given).get(section)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no dict `{section}`; is it a file of configs/{SECTIONS[section]}/?")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in values:
        if key not in fields:
            raise ConfigError(unknown_name(f"{path}: {section} key", key, fields))
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise ConfigError(f"{path}: {section}.{name} is missing")
    checked = {
        key: check_value(value, hints[key], f"{path}: {section}.{key}") for key, value in values.items()
    }
    for key in PATHS:
        if checked.get(key):
            folder = Path.cwd() if f"search.{key}" in given else Path(path).parent
            checked[key] = str((folder / checked[key]).resolve())
    return kind(**checked)


def check_same(known: Mapping, ours: Mapping, what: str, advice: str) -> None:
    """Refuse, by the first key that differs, to continue what was begun with other settings.

    Raises:
        ConfigError: "`what` is of key = known, not ours; `advice`".
    """
    for key in {**ours, **known}:
        if known.get(key) != ours.get(key):
            raise ConfigError(f"{what} is of {key} = {known.get(key)!r}, not {ours.get(key)!r}; {advice}")
