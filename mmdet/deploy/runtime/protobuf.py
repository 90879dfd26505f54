"""Read the fields of a protobuf message, without a schema and without copies."""

from collections.abc import Iterator


class UnusualField(Exception):
    """What is allowed, but not read here: a group, or more fields than expected."""


class Reader:
    """Reads the messages of one file.

    Args:
        max_fields: that it reads in all.
    """

    def __init__(self, max_fields: int) -> None:
        self.left = max_fields

    def messages(self, data: memoryview, wanted: set[int]) -> Iterator[tuple[int, memoryview]]:
        """Yield (number, content) of these fields where they are messages or texts."""
        for number, value in self.fields(data):
            if number in wanted and isinstance(value, memoryview):
                yield number, value

    def fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yield (number, value) of each field of a message.

        Raises:
            ValueError: it is none. UnusualField: see there.
        """
        at = 0
        while at < len(data):
            self._count()
            key, at = _varint(data, at)
            kind = key & 7
            if kind == 0:
                value, at = _varint(data, at)
                yield key >> 3, value
                continue
            if kind in (3, 4):
                raise UnusualField("a group")
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, at = _varint(data, at) if kind == 2 else (len(data), at)
            if at + size > len(data):
                raise ValueError(f"a field of {size} bytes at {at} of {len(data)}")
            yield key >> 3, data[at : at + size]
            at += size

    def numbers(self, data: memoryview) -> Iterator[int]:
        """Yield the numbers of a packed field."""
        at = 0
        while at < len(data):
            self._count()
            value, at = _varint(data, at)
            yield value

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise UnusualField("more fields than expected")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("a number without an end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number of more than ten bytes")
