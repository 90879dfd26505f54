"""From a dict with a `type` to an object, by a visible table; needs no torch.

A dict `dict(type="PAFPN", in_channels=..., ...)` names an entry of its table; the keyword-only constructor is
the schema of the dict. Tables are plain dicts beside what they name (`NECKS` in models/necks/__init__.py). A
module named in `custom_imports` adds a class of its own by assignment: `NECKS["Mine"] = Mine`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmdet.config.values import check_arguments, shorten
from mmdet.errors import ConfigError, unknown_name


def build_from(table: Mapping[str, Callable], cfg: Any, path: str) -> Any:
    """Return table[cfg["type"]](**the rest of cfg); cfg is not changed, its dicts and lists are copied.

    Args:
        table: class (or function) by name.
        cfg: a dict with the key "type".
        path: where the dict stands in the config file, for messages.

    Raises:
        ConfigError: unknown type, unknown or missing argument, one that does not fit its type hint or the
            limits of its name (values.py), or arguments the class refuses.
    """
    target = find(table, cfg, path)
    name = cfg["type"]
    arguments = {key: copy_plain(value) for key, value in cfg.items() if key != "type"}
    _check_names(target, name, arguments, path)
    check_arguments(target, arguments, path)
    try:
        return target(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ConfigError(f"{path}: {name} refuses its arguments: {error}") from error


def find(table: Mapping[str, Callable], cfg: Any, path: str) -> Any:
    """Return the table's entry that cfg["type"] names.

    Raises:
        ConfigError: cfg is not a dict with a known "type".
    """
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        known = ", ".join(sorted(table))
        raise ConfigError(f"{path} = {shorten(cfg)} must be a dict with a key 'type', one of: {known}")
    if not isinstance(cfg["type"], str):
        raise ConfigError(
            f"{path}.type = {shorten(cfg['type'])} must be a name, one of: {', '.join(sorted(table))}"
        )
    if cfg["type"] not in table:
        raise ConfigError(unknown_name(f"{path}.type", cfg["type"], table))
    return table[cfg["type"]]


def parameters_of(target: Callable) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class or function; *args and **kwargs are left out."""
    parameters = inspect.signature(target).parameters
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def required(cfg: Mapping, key: str, path: str) -> Any:
    """Return cfg[key]; a key that is missing or None is a ConfigError."""
    if cfg.get(key) is None:
        raise ConfigError(f"{path}.{key} is missing")
    return cfg[key]


def check_keys(cfg: Iterable[str], known: Iterable[str], path: str) -> None:
    """Refuse keys other than `known`."""
    known = tuple(known)
    for key in cfg:
        if key not in known:
            raise ConfigError(unknown_name(f"{path}: key", key, known))


def copy_plain(value: Any) -> Any:
    """Return a deep copy made of builtin dict, list and tuple; other objects are shared."""
    if isinstance(value, Mapping):
        return {key: copy_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copy_plain(item) for item in value)
    return value


def _check_names(target: Callable, name: str, arguments: dict, path: str) -> None:
    """Compare arguments with the signature; a constructor with **kwargs takes anything."""
    known = parameters_of(target)
    takes_any = any(p.kind == p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())
    for key in arguments:
        if not takes_any and key not in known:
            raise ConfigError(unknown_name(f"{path}: argument of {name}", key, known))
    needed = [p.name for p in known.values() if p.default is p.empty]
    for key in needed:
        if key not in arguments:
            raise ConfigError(f"{path}.{key} is missing; {name} needs {', '.join(needed)}")
