"""Config files as text: from a file and its bases to a plain nested dict, and back."""

import ast
import difflib
import keyword
import math
import os
import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path

from mmdet.config.literals import is_safe, parse_plain, read_literals
from mmdet.config.values import shorten
from mmdet.errors import ConfigError

MAX_BYTES = 1 << 20  # of a file
MAX_BASES = 20  # of a file, and of bases of bases
MAX_FILES = 100  # bases of bases in all, each as often as it is named
MAX_DEPTH = 50  # of dicts and lists in each other
MAX_VALUES = 200_000
MAX_INT = 2**63
_RESERVED = {"filename", "text", "pretty_text", "env_variables"}  # mmengine refuses these keys
WEIGHTS = (".pth", ".pt", ".ckpt", ".onnx")


def read_file(path: str | Path) -> dict:
    """Execute a config file with its `_base_` files and return its values as builtin types.

    mmengine merges the bases; where all are literals, `literals.read_literals` does the same without an
    import of 0.3 s. With --safe, or without mmengine, nothing else is read. Names that begin with an
    underscore are the file's own helpers and are left out. Environment variables are not substituted.

    Raises:
        ConfigError: a file is missing or does not execute (file and line), or a value is not plain.
    """
    path = str(path)
    if path.lower().endswith(WEIGHTS):
        raise ConfigError(f"{path} holds weights and is no config; were CONFIG and CHECKPOINT swapped?")
    _check_files(path, "config file")
    must_parse = is_safe() or find_spec("mmengine") is None
    values = _parse_all(path) if must_parse else _read_literals(path) or _execute(path)
    odd = [key for key in values if not isinstance(key, str)]  # YAML and JSON have keys of other types
    if odd:
        raise ConfigError(f"{path}: the key {odd[0]!r} must be a string")
    values = {key: value for key, value in values.items() if not key.startswith("_")}
    check_plain(values)
    return values


def _parse_all(path: str) -> dict:
    try:
        return read_literals(path)
    except (RecursionError, MemoryError, TypeError) as error:  # a dict's key may be anything hashable, or not
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from None


def _read_literals(path: str) -> dict | None:
    """Return the values, or None if mmengine is to say what they are."""
    try:
        values = _parse_all(path)
    except ConfigError:
        return None
    return None if values.keys() & _RESERVED or "{{" in repr(values) else values  # {{ fileDirname }}


def _execute(path: str) -> dict:
    from mmengine.config import Config  # here: tools answer --help without it

    try:
        tempfile.gettempdir()  # mmengine's own complaint about a missing one is about a variable
        return Config.fromfile(
            path, import_custom_modules=False, use_environment_variables=False, lazy_import=False
        ).to_dict()
    except (Exception, SystemExit) as error:  # the file is the user's code and may raise anything
        reason = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
        raise ConfigError(f"{_line_of(error) or path}: {type(error).__name__}: {reason}") from error


def _check_files(path: str, what: str, chain: tuple[str, ...] = (), seen: list[str] | None = None) -> None:
    """Check that a file and its bases exist and parse; mmengine's own messages name neither well.

    YAML is read by the safe loader here, so that mmengine's, which can call functions, sees plain data only.
    """
    if not os.path.isfile(path):
        folder, name = os.path.split(path)
        siblings = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.5)
        hint = f"; did you mean {os.path.join(folder, near[0])}?" if near else ""
        raise ConfigError(f"{what} {path} does not exist{hint}")
    if path in chain:
        raise ConfigError(f"{path}: is a base of itself")
    seen = [] if seen is None else seen
    seen.append(path)
    if len(seen) > MAX_FILES:
        raise ConfigError(f"{path}: more than {MAX_FILES} base files in all, from {seen[0]} on")
    if len(chain) > MAX_BASES:
        raise ConfigError(f"{path}: more than {MAX_BASES} bases of bases")
    if os.path.getsize(path) > MAX_BYTES:
        raise ConfigError(f"{path}: a config file has at most {MAX_BYTES} bytes")
    bases = _parse(path)
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list | tuple) or len(bases) > MAX_BASES:
        raise ConfigError(f"{path}: _base_ = {shorten(bases)} must be a file name or a list of file names")
    for base in bases:
        if isinstance(base, str) and "::" not in base:
            base_path = os.path.normpath(os.path.join(os.path.dirname(path), base))
            _check_files(base_path, f"{path}: base file", (*chain, path), seen)


def _parse(path: str) -> object:
    """Return a file's `_base_`, () without one or where it is computed; ConfigError if it does not parse."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        if path.endswith(".py"):
            return _bases(ast.parse(text))
        values = parse_plain(text, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        reason = " ".join(str(error).split()) or "nested too deep to be read"  # MemoryError says nothing
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{path}{f':{line}' if line else ''}: {reason}") from error
    check_plain(values)
    return values.get("_base_", ()) if isinstance(values, dict) else ()


def _bases(tree: ast.Module) -> object:
    for node in tree.body:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if names == ["_base_"]:
            try:
                return ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except ValueError:  # computed while the file executes; mmengine judges it
                return ()
    return ()


def _line_of(error: BaseException) -> str | None:
    """Return "file:line" of the config file's statement that raised, if it was one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.name == "<module>" and frame.filename.endswith(".py"):
            return f"{min(frame.filename, os.path.relpath(frame.filename), key=len)}:{frame.lineno}"
    return None


def check_plain(values: object) -> None:
    """Raise ConfigError unless values are made of dict, list, tuple, str, numbers, bool, None; bounded."""
    waiting, num_seen = [(values, "", 0)], 0
    while waiting:
        value, path, depth = waiting.pop()
        num_seen += 1
        if depth > MAX_DEPTH or num_seen > MAX_VALUES:
            raise ConfigError(f"{path[:60]}...: more than {MAX_DEPTH} levels or {MAX_VALUES} values")
        if isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting.extend((item, f"{path}.{key}" if path else str(key), depth + 1) for key, item in items)
        elif type(value) is int and abs(value) > MAX_INT:
            raise ConfigError(f"{path} is an int of more than 64 bits")
        elif value is not None and type(value) not in (bool, int, float, str):
            raise ConfigError(
                f"{path} is of type {type(value).__name__}; a config holds only dict, list, tuple, str, "
                "numbers, True, False and None (names that begin with _ are free)"
            )


def format_python(values: dict, width: int = 100) -> str:
    """Return python text with one assignment per top-level key, which reads back as `values`."""
    return "".join(f"{key} = {_format(value, '', len(key) + 3, width)}\n" for key, value in values.items())


def _format(value: object, indent: str, used: int, width: int) -> str:
    """Return `value` on one line if it fits in `width` after `used` columns, else one item per line."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if not isinstance(value, (dict, list, tuple)):
        return repr(value)
    as_keywords = isinstance(value, dict) and all(_is_keyword(key) for key in value)
    if isinstance(value, dict):
        opening, closing = ("dict(", ")") if as_keywords else ("{", "}")
        heads = [f"{key}=" if as_keywords else f"{key!r}: " for key in value]
        items = list(value.values())
    else:
        opening, closing = "[]" if isinstance(value, list) else "()"
        heads, items = [""] * len(value), list(value)
    line = ", ".join(head + _format(item, "", 0, 1 << 30) for head, item in zip(heads, items, strict=True))
    if isinstance(value, tuple) and len(value) == 1:
        line += ","
    if used + len(opening) + len(line) + len(closing) <= width:
        return opening + line + closing
    inner = indent + "    "
    lines = [
        f"{inner}{head}{_format(item, inner, len(inner) + len(head) + 1, width)},\n"
        for head, item in zip(heads, items, strict=True)
    ]
    return f"{opening}\n{''.join(lines)}{indent}{closing}"


def _is_keyword(key: object) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
