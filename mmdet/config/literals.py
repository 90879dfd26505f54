"""Read a config file and its bases as literals: parsed, never executed (`--safe`)."""

import ast
import json
import os
from pathlib import Path

from mmdet.config.values import shorten
from mmdet.errors import ConfigError
from mmdet.plain_yaml import MAX_VALUES, load_yaml

SAFE = "SCRFD_SAFE"  # of the environment, so that ranks and child trainings have it, too
DELETE = "_delete_"
BASE = "_base_"
SIGNS = {ast.UAdd: 1, ast.USub: -1}


def is_safe() -> bool:
    """Return whether no config file may be executed, nor name modules to import."""
    return os.environ.get(SAFE, "") not in ("", "0")


def read_literals(path: str) -> dict:
    """Return the values of a file merged into those of its bases, as mmengine merges them.

    The files exist, and their number and depth are bounded: `pyfile` has checked that.

    Raises:
        ConfigError: a .py file holds more than literals and parts of its bases (file, line and what), a base
            is no relative file name, two bases share a key, or a dict stands where a base has something else.
    """
    text = Path(path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        module = _Module(path)
        values, base = module.read(text), module.base
    else:
        found = parse_plain(text, path)
        if not isinstance(found, dict):
            raise ConfigError(f"{path} holds a {type(found).__name__}, not keys and values")
        values, base = found, _read_bases(found.pop(BASE, ()), path)
    return merge(values, base, path)


def _read_bases(names: object, path: str) -> dict:
    merged: dict = {}
    for name in names if isinstance(names, list | tuple) else [names]:
        if not isinstance(name, str) or "::" in name:
            raise ConfigError(f"{path}: _base_ {shorten(name)} is no file name; --safe follows those only")
        found = read_literals(os.path.normpath(os.path.join(os.path.dirname(path), name)))
        if shared := merged.keys() & found.keys():
            raise ConfigError(f"{path}: Duplicate keys in its bases: {', '.join(sorted(shared))}")
        merged |= found
    return merged


def parse_plain(text: str, path: str) -> object:
    """Return the values of JSON or YAML text; ValueError if it is none."""
    return json.loads(text) if path.endswith(".json") else load_yaml(text)


def merge(values: dict, base: dict, where: str) -> dict:
    """Return `base` with `values` over it, dicts merged; `_delete_=True` in a dict replaces the base's."""
    merged = dict(base)
    for key, value in values.items():
        if isinstance(value, dict) and key in base:
            is_other = value.get(DELETE, False)
            value = {name: item for name, item in value.items() if name != DELETE}
            if not is_other and not isinstance(base[key], dict):
                raise ConfigError(
                    f"{where}: {key} is a dict, but {shorten(base[key])} in a base; {DELETE}=True replaces it"
                )
            value = value if is_other else merge(value, base[key], f"{where}: {key}")
        merged[key] = value
    return merged


class _Module:
    """Reads `name = literal` statements; a name may stand for what was assigned to it above.

    `_base_.data.train` and the like, indices, slices and stars choose parts of what is known already.

    Attributes:
        base: the values of the bases.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.base: dict = {}
        self.values: dict[str, object] = {}

    def read(self, text: str) -> dict:
        """Return the assigned values."""
        for node in ast.parse(text).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            names = node.targets if isinstance(node, ast.Assign) else []
            if len(names) != 1 or not isinstance(names[0], ast.Name):
                raise self._refuse(node)
            value = self._value(node.value)  # type: ignore[attr-defined]
            if names[0].id == BASE:
                self.base = _read_bases(value, self.path)
            else:
                self.values[names[0].id] = value
        return dict(self.values)

    def _value(self, node: ast.expr) -> object:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return self._sequence(node)
        if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
            pairs = zip(node.keys, node.values, strict=True)
            return {key.value: self._value(value) for key, value in pairs}  # type: ignore[union-attr]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
            return self._dict(node)
        if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
            value = self._value(node.operand)
            if isinstance(value, int | float):
                return SIGNS[type(node.op)] * value
        return self._part(node)

    def _dict(self, node: ast.Call) -> object:
        """Return dict(a=1), or dict(other, a=1)."""
        first = self._value(node.args[0]) if node.args else {}
        if len(node.args) > 1 or not isinstance(first, dict) or not all(word.arg for word in node.keywords):
            raise self._refuse(node)
        return {**first, **{word.arg: self._value(word.value) for word in node.keywords}}

    def _sequence(self, node: ast.List | ast.Tuple) -> object:
        items: list = []
        for item in node.elts:
            value = self._value(item.value if isinstance(item, ast.Starred) else item)
            if not isinstance(item, ast.Starred):
                items.append(value)
            elif isinstance(value, list | tuple) and len(items) + len(value) <= MAX_VALUES:
                items += value
            else:
                raise self._refuse(item)
        return items if isinstance(node, ast.List) else tuple(items)

    def _part(self, node: ast.expr) -> object:
        """Return what a name, an attribute, an index or a slice chooses."""
        try:
            if isinstance(node, ast.Name):
                return self.base if node.id == BASE else self.values[node.id]
            if isinstance(node, ast.Attribute):
                return self._part(node.value)[node.attr]  # type: ignore[index]
            if isinstance(node, ast.Subscript):
                return self._part(node.value)[self._index(node.slice)]  # type: ignore[index]
        except (LookupError, TypeError, ValueError):
            pass
        raise self._refuse(node)

    def _index(self, node: ast.expr) -> object:
        if isinstance(node, ast.Slice):
            return slice(*(part and self._value(part) for part in (node.lower, node.upper, node.step)))
        return self._value(node)

    def _refuse(self, node: ast.AST) -> ConfigError:
        line = getattr(node, "lineno", 0)
        return ConfigError(
            f"{self.path}:{line}: {shorten(ast.unparse(node))} is computed; with --safe a config file holds "
            "literals only: numbers, text, True, False, None, lists, tuples, dicts, and parts of its bases"
        )
