"""Check one value against a type hint and limits: for the keys of config files and for constructor arguments.

NaN, infinity, numbers too large for any use, bool where a number is wanted, empty strings and strings with
NUL are refused here, so that nothing behind this check meets them.
"""

import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mmdet.errors import ConfigError, unknown_name

PRECISION_LEVELS = ("O0", "O1", "O2")  # of amp.level and --amp
MOST_INT = 2**31 - 1
MOST_FLOAT = 1e9
MOST_CHARS = 4096

_SEQUENCES = (tuple, list, Sequence)
_WORDS = {dict: "dict", str: "str", int: "int", float: "float", bool: "bool", NoneType: "None", Path: "path"}


@dataclass(frozen=True)
class Limits:
    """What a value must keep to beside its type; of a sequence, each of its items.

    Attributes:
        least, most: smallest and largest number.
        above: numbers must be larger.
        choices: the allowed strings.
        ascending: the numbers of a sequence grow.
        min_items: fewest items of a sequence.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: Collection[str] | None = None
    ascending: bool = False
    min_items: int = 0

    def words(self) -> str:
        """Return the limits of a number in words, "above 0, at most 1", or ""."""
        parts = [("at least", self.least), ("above", self.above), ("at most", self.most)]
        return ", ".join(f"{word} {limit}" for word, limit in parts if limit is not None)


NO_LIMITS = Limits()
_CHANNELS = Limits(least=1, most=1 << 16)
_POSITIVE = Limits(above=0)

# Constructor arguments by name: one word means the same in every part of a model.
ARGUMENT_LIMITS = {
    "num_classes": Limits(least=1, most=10_000),
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "feat_channels": _CHANNELS,
    "base_channels": _CHANNELS,
    "stem_channels": _CHANNELS,
    "num_outs": Limits(least=1, most=100),
    "num_stages": Limits(least=1, most=100),
    "stacked_convs": Limits(least=0, most=100),
    "reg_max": Limits(least=1, most=1000),
    "topk": Limits(least=1),
    "strides": _POSITIVE,
    "ratios": _POSITIVE,
    "scales": _POSITIVE,
    "base_sizes": _POSITIVE,
    "loss_weight": Limits(least=0),
}


def check_value(value: Any, hint: Any, path: str, limits: Limits = NO_LIMITS) -> Any:
    """Return a value as its hint wants it: an int becomes a float, a list a tuple, a lone string a tuple.

    Args:
        value: from a config file.
        hint: int, float, bool, str, dict, tuple[X, ...], tuple[X, Y], Sequence[X], Literal, Annotated[X,
            Limits], unions of them; any other hint accepts every value.
        path: where the value stands, for messages.
        limits: of the value, or of each item of a sequence.

    Raises:
        ConfigError: the value is of another type or outside the limits; the message begins with the path.
    """
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        limits = next((note for note in notes if isinstance(note, Limits)), limits)
        return check_value(value, inner, path, limits)
    for option in _options(hint):
        if _is_of_kind(value, option):
            return _check_kind(value, option, path, limits)
    choices = f", or one of {', '.join(map(repr, limits.choices))}" if limits.choices else ""
    raise ConfigError(f"{path} = {shorten(value)} must be of type {type_words(hint)}{choices}")


def check_arguments(target: Callable, arguments: Mapping[str, Any], path: str) -> None:
    """Check keyword arguments against the type hints of the function or class that will get them.

    Raises:
        ConfigError: an argument does not fit its hint, or lies outside ARGUMENT_LIMITS.
    """
    for name, hint in _hints(target).items():
        if name in arguments:
            limits = ARGUMENT_LIMITS.get(name, NO_LIMITS)
            check_value(arguments[name], hint, f"{path}.{name}", limits)


def type_words(hint: Any) -> str:
    """Return a hint in words: "int", "float or str", "list of int"."""
    if get_origin(hint) is Annotated:
        return type_words(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(type_words(option) for option in get_args(hint) if option is not NoneType)
    if hint in _SEQUENCES or get_origin(hint) in _SEQUENCES:
        items = [item for item in get_args(hint) if item is not Ellipsis]
        return f"list of {type_words(items[0])}" if items else "list"
    return _WORDS.get(hint, "dict")


def shorten(value: object) -> str:
    """Return repr(value), cut to 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hints(target: Callable) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a name imported for the type checker only; a callable without hints
        return {}
    return {name: hint for name, hint in hints.items() if name != "return"}


def _options(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _is_of_kind(value: Any, hint: Any) -> bool:
    """Tell whether a value has the outer type of a hint that is no union."""
    origin = get_origin(hint) or hint
    if origin is Annotated:
        return _is_of_kind(value, get_args(hint)[0])
    if origin in (bool, int, str, NoneType):
        return type(value) is origin
    if origin is float:
        return type(value) in (int, float)
    if origin is Path:
        return isinstance(value, (str, Path))
    if origin is Literal:
        return isinstance(value, str)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if origin in _SEQUENCES:
        return isinstance(value, (list, tuple)) or (isinstance(value, str) and get_args(hint)[:1] == (str,))
    return True


def _check_kind(value: Any, hint: Any, path: str, limits: Limits) -> Any:
    origin = get_origin(hint) or hint
    if origin is Annotated:
        return check_value(value, hint, path, limits)
    if origin in _SEQUENCES:
        return _check_items(value, hint, path, limits)
    if origin is Literal:
        return _check_string(value, path, Limits(choices=get_args(hint)))
    if origin is str:
        return _check_string(value, path, limits)
    if origin in (int, float):
        return _check_number(value, origin, path, limits)
    if origin is dict and any(not isinstance(key, str) for key in value):
        raise ConfigError(f"{path} = {shorten(value)}: keys must be strings")
    return value


def _check_string(value: str, path: str, limits: Limits) -> str:
    if limits.choices is not None:
        if value not in limits.choices and (words := limits.words()):
            choices = " or ".join(map(repr, limits.choices))
            raise ConfigError(f"{path} = {shorten(value)} must be a number {words}, or {choices}")
        if value not in limits.choices:
            raise ConfigError(unknown_name(path, value[:60], limits.choices))
    elif not value.strip() or "\0" in value or len(value) > MOST_CHARS:
        raise ConfigError(f"{path} = {shorten(value)} is empty, too long or holds a NUL character")
    return value


def _check_number(value: float, kind: type, path: str, limits: Limits) -> float:
    bound = MOST_INT if kind is int else MOST_FLOAT
    if not -bound <= value <= bound:  # NaN, too
        raise ConfigError(f"{path} = {shorten(value)} must be a number between {-bound:g} and {bound:g}")
    if limits.above is not None and value <= limits.above:
        raise ConfigError(f"{path} = {value!r} must be above {limits.above}")
    if limits.least is not None and value < limits.least:
        raise ConfigError(f"{path} = {value!r} must be at least {limits.least}")
    if limits.most is not None and value > limits.most:
        raise ConfigError(f"{path} = {value!r} must be at most {limits.most}")
    return kind(value)


def _check_items(value: Any, hint: Any, path: str, limits: Limits) -> tuple:
    values = (value,) if isinstance(value, str) else tuple(value)
    hints = get_args(hint)
    is_open = len(hints) == 2 and hints[1] is Ellipsis or get_origin(hint) is not tuple
    if hints and not is_open and len(values) != len(hints):
        raise ConfigError(f"{path} = {shorten(value)} must hold {len(hints)} values")
    if len(values) < limits.min_items:
        raise ConfigError(f"{path} = {shorten(value)} must name at least {limits.min_items}")
    if hints:
        item_hints = [hints[0]] * len(values) if is_open else hints
        each = enumerate(zip(values, item_hints, strict=True))
        values = tuple(check_value(item, kind, f"{path}.{index}", limits) for index, (item, kind) in each)
    if limits.ascending and list(values) != sorted(set(values)):
        raise ConfigError(f"{path} = {shorten(value)} must be ascending")
    return values
