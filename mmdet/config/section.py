"""One dict of a config file, read key by key.

A `Section` hands out the keys of one dict; what nobody took is an error that names the nearest known
key. Keys that published files carry and nobody reads are taken by `ignore` and reported together.
"""

from collections.abc import Iterable
from typing import Any

from mmdet.errors import ConfigError, unknown_name

REQUIRED = object()


class Section:
    """One dict of a config file, read key by key.

    Args:
        path: dotted path of the dict in the file, "" for the file itself.
        values: the dict; None counts as empty.
        unused: list that collects the paths of ignored keys, shared by all sections.
    """

    def __init__(self, path: str, values: object, unused: list[str]):
        if not isinstance(values, (dict, type(None))):
            raise ConfigError(f"{path} = {values!r} must be a dict(...)")
        self.path, self.unused = path, unused
        self._values: dict = dict(values or {})
        self._known: set[str] = set()
        self._ignored: set[str] = set()

    def name(self, key: str) -> str:
        """Return the dotted path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def take(
        self,
        key: str,
        kind: type | tuple[type, ...] | None,
        default: Any = REQUIRED,
        least: float | None = None,
    ) -> Any:
        """Return the value of a key, or `default` where it is missing or None.

        Args:
            key: the key; it counts as known from now on.
            kind: type or types of the value; None accepts any. An int is taken where a float is wanted.
            default: leave out to make the key required.
            least: smallest accepted number.
        """
        self._known.add(key)
        value = self._values.get(key)
        if value is None:
            if default is REQUIRED:
                raise ConfigError(f"{self.name(key)} is missing")
            return default
        if kind is float and type(value) is int:
            value = float(value)
        kinds = kind if isinstance(kind, tuple) else (kind or type(value),)
        if type(value) not in kinds:
            wanted = " or ".join(k.__name__ for k in kinds)
            raise ConfigError(f"{self.name(key)} = {value!r} must be of type {wanted}")
        if least is not None and value < least:
            raise ConfigError(f"{self.name(key)} = {value!r} must be at least {least}")
        return value

    def choose(self, key: str, choices: Iterable[str], default: str | None) -> Any:
        """Return the value of a key that must be one of `choices`."""
        value = self.take(key, str, default)
        if value is not None and value not in choices:
            raise ConfigError(unknown_name(self.name(key), value, choices))
        return value

    def ints(self, key: str, default: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
        """Return an ascending list of ints as a tuple."""
        values = tuple(self.take(key, (list, tuple), default))
        if any(type(v) is not int or v < least for v in values) or list(values) != sorted(set(values)):
            raise ConfigError(f"{self.name(key)} = {values!r} must be ascending ints of at least {least}")
        return values

    def section(self, key: str) -> "Section":
        """Return the dict under a key as a section of its own."""
        return Section(self.name(key), self.take(key, None, {}), self.unused)

    def has(self, key: str) -> bool:
        """Tell whether the key is there with a value other than None."""
        self._known.add(key)
        return self._values.get(key) is not None

    def ignore(self, *keys: str) -> None:
        """Accept keys that nobody reads and note those present."""
        self._ignored.update(keys)
        self.unused.extend(self.name(key) for key in self._values if key in keys)

    def close(self) -> None:
        """Refuse the keys nobody asked for."""
        for key in self._values:
            if key not in self._known | self._ignored:
                what = f"key of {self.path}" if self.path else "top-level key"
                raise ConfigError(unknown_name(what, key, self._known))
