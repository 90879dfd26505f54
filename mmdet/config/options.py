"""--cfg-options: `a.b=value` strings into values, and values into the nested dict of a config file."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.config.table import copy_plain
from mmdet.config.values import shorten
from mmdet.errors import ConfigError

DELETE = "_delete_"
MAX_BRACKETS = 20
_DATASETS = ("train", "val", "test")
_PATH_KEYS = ("ann_file", "img_prefix")


def parse_options(options: Sequence[str]) -> dict[str, object]:
    """Turn ["a.b=1", "c=x,y"] into {"a.b": 1, "c": ["x", "y"]}.

    A value is an int, a float (1e-3), true or false in any case, None, else a string. `1,2` and
    `[1,2]` are lists, `(640,640)` is a tuple, and they may nest. Outer quotes and blanks are dropped.

    Differs from mmcv's DictAction: blanks inside a string stay (folders have them), and `[1,2],[3]`
    is a list of lists.

    Raises:
        ConfigError: no "=", an empty key, or brackets that do not match.
    """
    parsed = {}
    for option in options:
        key, equals, text = option.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")) or key.count(".") > MAX_BRACKETS:
            raise ConfigError(
                f"--cfg-options {shorten(option)}: write key=value, for example optimizer.lr=0.02"
            )
        parsed[key] = _parse_value(text, option)
    return parsed


def _parse_value(text: str, option: str) -> object:
    text = text.strip().strip("'\"").strip()
    items = _split_at_commas(text, option)
    if len(items) > 1:
        return [_parse_value(item, option) for item in items if item.strip()]
    if text[:1] + text[-1:] in ("()", "[]"):
        inner = _split_at_commas(text[1:-1], option)
        values = [_parse_value(item, option) for item in inner if item.strip()]
        return tuple(values) if text[0] == "(" else values
    return _parse_scalar(text)


def _split_at_commas(text: str, option: str) -> list[str]:
    """Split at the commas that are outside all brackets."""
    closing = {"(": ")", "[": "]"}
    items, start, open_brackets = [], 0, []
    for position, char in enumerate(text):
        if char in closing:
            open_brackets.append(closing[char])
            if len(open_brackets) > MAX_BRACKETS:
                raise ConfigError(f"--cfg-options {shorten(option)}: more than {MAX_BRACKETS} open brackets")
        elif char in closing.values():
            if not open_brackets or open_brackets.pop() != char:
                raise ConfigError(f"--cfg-options {shorten(option)}: brackets do not match")
        elif char == "," and not open_brackets:
            items.append(text[start:position])
            start = position + 1
    if open_brackets:
        raise ConfigError(f"--cfg-options {shorten(option)}: brackets do not match")
    return [*items, text[start:]]


def _parse_scalar(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return None if text == "None" else text


def apply_options(values: dict, options: Mapping[str, object]) -> dict:
    """Return a copy of a config file's nested dict with options set; keys are dotted paths.

    A number in a path is the index into a list. None counts as an empty dict. A dict value is merged;
    `x._delete_=True` empties x first. Changing `data_root` moves every `ann_file` and `img_prefix` of
    data.train, val and test, and evaluation.gt_dir, that lies under the file's own data_root; this
    happens before the other options, so a path given explicitly stays as given.

    Raises:
        ConfigError: an option does not fit the file.
    """
    values = copy_plain(values)
    options = dict(options)
    if "data_root" in options:
        _move_data_root(values, options.pop("data_root"))
    for key in sorted(options, key=lambda key: not key.endswith("." + DELETE)):  # deletions first
        _set(values, key.split("."), copy_plain(options[key]), key)
    return values


def _set(tree: dict | list, path: list[str], value: Any, option: str) -> None:
    *parents, last = path
    node = tree
    for depth, part in enumerate(parents):
        node = _child(node, part, ".".join(path[: depth + 1]), option)
    if last == DELETE and isinstance(node, dict):
        if value:
            node.clear()
    elif isinstance(value, dict):
        child = _child(node, last, ".".join(path), option)
        if value.pop(DELETE, False):
            child.clear()
        for key, item in value.items():
            _set(child, [key], item, option)
    elif isinstance(node, list):
        node[_index(node, last, option)] = value
    else:
        node[last] = value


def _child(node: dict | list, part: str, path: str, option: str) -> dict | list:
    """Return node[part], a dict or list; a missing or None entry becomes {}."""
    key: Any = _index(node, part, option) if isinstance(node, list) else part
    if isinstance(node, dict) and node.get(key) is None:
        node[key] = {}
    child = node[key]
    if isinstance(child, tuple):
        child = node[key] = list(child)
    if not isinstance(child, (dict, list)):
        raise ConfigError(f"--cfg-options {option}: {path} = {shorten(child)} has no keys")
    return child


def _index(node: list, part: str, option: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--cfg-options {option}: {part!r} is not an index into a list of {len(node)}")
    return int(part)


def _move_data_root(values: dict, new_root: object) -> None:
    old_root = values.get("data_root")
    if not isinstance(new_root, str) or not new_root:
        raise ConfigError(f"--cfg-options data_root={shorten(new_root)}: must be a folder")
    if not isinstance(old_root, str):
        raise ConfigError(
            "--cfg-options data_root: the file has no data_root to replace; set data.train.ann_file, "
            "data.train.img_prefix and the same of data.val and data.test"
        )
    data = values.get("data") or {}
    places = [
        (data[name], key) for name in _DATASETS if isinstance(data.get(name), dict) for key in _PATH_KEYS
    ]
    if isinstance(values.get("evaluation"), dict):
        places.append((values["evaluation"], "gt_dir"))
    new_root = os.path.expanduser(new_root)
    num_moved = 0
    for node, key in places:
        moved = _moved(node.get(key), old_root, new_root)
        if moved is not None:
            node[key] = moved
            num_moved += 1
    if not num_moved:
        raise ConfigError(f"--cfg-options data_root: no path of `data` lies under data_root = {old_root!r}")
    values["data_root"] = new_root


def _moved(path: object, old_root: str, new_root: str) -> str | None:
    """Return `path` under new_root, or None if it does not lie under old_root."""
    if not isinstance(path, str):
        return None
    inside = os.path.relpath(os.path.normpath(path), os.path.normpath(old_root))
    if os.path.isabs(path) != os.path.isabs(old_root) or inside.split(os.sep)[0] == os.pardir:
        return None
    end = "/" if path.endswith("/") else ""
    return os.path.normpath(os.path.join(new_root, inside)) + end
