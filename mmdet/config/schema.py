"""Read a dict of a config file by a schema: a dataclass whose fields say all there is to know about a key.

    @dataclass(frozen=True)
    class EmaConfig:
        momentum: float = key(0.0002, "share of the newest weights", least=0, most=1)

The type, the default, the limits and the meaning of a key stand there and nowhere else: `read` checks by
them, `list_keys` prints them (tools/print_config.py --help-keys, docs/config.md).
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args

from mmdet.config.values import Limits, check_value, shorten, type_words
from mmdet.errors import ConfigError, unknown_name

T = TypeVar("T")
REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """What a schema says about a key, beside its type and default.

    Attributes:
        help: its meaning, in a few words.
        limits: see values.Limits.
        name: its name in the file, dotted where it stands deeper; "" where that is the field's name.
        keys: for a dict that stays a dict: the schema of its keys.
        is_required: the file must have it.
    """

    help: str
    limits: Limits
    name: str
    keys: type | None
    is_required: bool


def key(
    default: Any, help: str, *, name: str = "", keys: type | None = None, **limits: Any
) -> Any:  # the type of the field
    """Return a dataclass field for one key of a config file; see Key. `limits` are those of values.Limits.

    Args:
        default: value where the key is missing or None; REQUIRED if the file must have it.
        help: its meaning.
        name: its name in the file.
        keys: schema of a value that stays a dict.
        **limits: see values.Limits.
    """
    metadata = {"key": Key(help, Limits(**limits), name, keys, default is REQUIRED)}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def read(schema: type[T], values: object, path: str = "", **others: Any) -> T:
    """Return an instance of a schema made from a dict of a config file.

    Args:
        schema: a dataclass with `key` fields.
        values: the dict; None counts as empty.
        path: dotted path of the dict in the file, "" for the file itself.
        others: fields that are no keys.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing one, a wrong value.
    """
    section = as_dict(values, path)
    fields = {key_name(item): item for item in key_fields(schema)}
    _refuse_unknown(section, list(fields), path)
    hints = typing.get_type_hints(schema)
    found = {
        item.name: _read_key(item, hints[item.name], _find(section, name), join(path, name))
        for name, item in fields.items()
    }
    return schema(**found, **others)


def read_dict(schema: type, values: object, path: str) -> dict:
    """Check a dict by a schema and return it with the keys that have a value, given or by default."""
    checked: Any = read(schema, values, path)
    found = {key_name(item): getattr(checked, item.name) for item in key_fields(schema)}
    return {name: value for name, value in found.items() if value is not None}


def as_dict(values: object, path: str) -> Mapping[str, Any]:
    """Return a section of a config file, {} for None; ConfigError if it is no dict."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} = {shorten(values)} must be a dict(...)")
    return values


def check_key(schema: type, name: str, value: object, path: str) -> Any:
    """Check a value by the key `name` of a schema, as if it stood there; messages name `path`."""
    (item,) = [item for item in key_fields(schema) if item.name == name]
    return _read_key(item, typing.get_type_hints(schema)[name], value, path)


def key_fields(schema: type) -> list[Field]:
    """Return the fields of a schema that are keys of a file."""
    return [item for item in dataclasses.fields(schema) if "key" in item.metadata]  # type: ignore[arg-type]


def key_name(item: Field) -> str:
    """Return the name of a field's key in the file."""
    return item.metadata["key"].name or item.name


def join(path: str, name: str) -> str:
    """Return the dotted path of a key."""
    return f"{path}.{name}" if path else name


def list_keys(schema: type, path: str = "") -> Iterator[str]:
    """Yield a line for each key: "- `data.gt_slots` (list of int, at least 1; default (32, 64)): meaning"."""
    hints = typing.get_type_hints(schema)
    for item in key_fields(schema):
        about: Key = item.metadata["key"]
        name, hint = join(path, key_name(item)), hints[item.name]
        inner = about.keys or _section_type(hint)
        if inner is None:
            yield f"- `{name}` ({_facts(item, hint)}): {about.help}"
        else:
            yield f"- `{name}` (dict{', required' if about.is_required else ''}): {about.help}"
            yield from list_keys(inner, name)


def _facts(item: Field, hint: Any) -> str:
    about: Key = item.metadata["key"]
    choices = ", ".join(about.limits.choices or ())
    numbers = type_words(hint) if "int" in type_words(hint) or "float" in type_words(hint) else ""
    kind = " or ".join(part for part in (numbers.removesuffix(" or str"), choices) if part) if choices else ""
    words = [kind or type_words(hint), about.limits.words()]
    if about.is_required:
        default = "required"
    elif item.default is dataclasses.MISSING or item.default is None:
        default = ""
    else:
        default = f"default {item.default!r}"
    return "; ".join(part for part in (", ".join(word for word in words if word), default) if part)


def _read_key(item: Field, hint: Any, value: object, path: str) -> Any:
    about: Key = item.metadata["key"]
    section = _section_type(hint)
    if value is None:
        if about.is_required:
            raise ConfigError(f"{path} is missing")
        if section is None or NoneType in get_args(hint):
            return item.default_factory() if callable(item.default_factory) else item.default
    if section is not None:
        return read(section, value, path)
    if about.keys is not None:
        return read_dict(about.keys, value, path)
    return check_value(value, hint, path, about.limits)


def _section_type(hint: Any) -> type | None:
    """Return the schema among the options of a hint: EmaConfig for `EmaConfig | None`."""
    options = [option for option in get_args(hint) or (hint,) if is_dataclass(option)]
    return options[0] if options else None  # type: ignore[return-value]


def _find(section: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        section = section.get(part)  # type: ignore[assignment]
        if section is None:
            return None
    return section


def _refuse_unknown(section: Mapping[str, Any], known: list[str], path: str) -> None:
    heads = {name.split(".")[0] for name in known}
    for name in section:
        if name not in heads:
            what = f"key of {path}" if path else "top-level key"
            raise ConfigError(unknown_name(what, str(name)[:60], heads))
    for head in {name.split(".")[0] for name in known if "." in name}:
        inner = [name.removeprefix(f"{head}.") for name in known if name.startswith(f"{head}.")]
        inner_path = join(path, head)
        _refuse_unknown(as_dict(section.get(head), inner_path), inner, inner_path)
