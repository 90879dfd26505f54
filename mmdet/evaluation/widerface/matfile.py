"""Read a MATLAB 5 file of cells, texts and numbers: what the WIDER FACE ground truth is made of.

scipy's reader is made for files one trusts: a damaged file can end the process or take all memory. Here
every length is compared with the bytes that are there before anything is allocated, and nesting is limited.
Source: "MAT-File Format", MathWorks, level 5 (MATLAB 5.0 to 7).
"""

import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.errors import DataError

MAX_FILE_BYTES = 64 << 20  # the official files have 0.4 MB
MAX_VARIABLE_BYTES = 256 << 20  # unpacked
MAX_DEPTH = 3  # a cell of cells of arrays
HEADER_BYTES, NAME_BYTES = 128, 512
MATRIX, COMPRESSED = 14, 15
CELL, CHAR = 1, 4
LOGICAL_OR_NUMBER = range(6, 16)
# The numbers of the format -> numpy's, without byte order.
DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


def read_mat(path: str | Path, names: Collection[str]) -> dict[str, Any]:
    """Return the variables of these names, as far as the file has them.

    A cell array of any shape becomes a list in column order, a text a str, numbers an array of their shape.

    Raises:
        DataError: not a MATLAB 5 file, damaged, too large, or nested deeper than a cell of cells of arrays.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes, at most {MAX_FILE_BYTES} are read")
        return _read_variables(path.read_bytes(), names)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (ValueError, struct.error, zlib.error) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(f"{path}: not a readable .mat file ({error}). Download or make it again.") from None


def _read_variables(data: bytes, names: Collection[str]) -> dict[str, Any]:
    mark = data[126:128]
    if len(data) < HEADER_BYTES or mark not in (b"IM", b"MI"):
        raise ValueError("no MATLAB 5 header")
    order = "<" if mark == b"IM" else ">"
    if struct.unpack_from(f"{order}H", data, 124)[0] != 0x0100:
        raise ValueError("not version 5; MATLAB writes it with save -v7")
    found: dict[str, Any] = {}
    file = _Elements(data, order, HEADER_BYTES, len(data))
    while file.position < file.end:
        kind, start, stop = file.next_element(is_padded=False)
        if kind not in (MATRIX, COMPRESSED):
            raise ValueError(f"element of type {kind} where a variable is expected")
        packed = memoryview(data)[start:stop]
        head = zlib.decompressobj().decompress(packed, NAME_BYTES) if kind == COMPRESSED else packed
        if kind == COMPRESSED and _name_of(head[8:], order) in names:
            body = _unpack(packed)
            kind, start, stop = _Elements(body, order, 0, len(body)).next_element()
        elif kind == MATRIX and _name_of(head, order) in names:
            body = data
        else:
            continue
        if kind != MATRIX:
            raise ValueError(f"element of type {kind} where a variable is expected")
        name, value = _Elements(body, order, start, stop).read_matrix(depth=0)
        if name in found:  # a small file could hold thousands, each of MAX_VARIABLE_BYTES
            raise ValueError(f"the variable {name} is there twice")
        found[name] = value
    return found


def _unpack(packed: memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, MAX_VARIABLE_BYTES)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError(f"a variable is cut off or has more than {MAX_VARIABLE_BYTES} bytes")
    return data


def _name_of(matrix: bytes | memoryview, order: str) -> str:
    """Return the name of a variable whose first bytes these are."""
    return _Elements(matrix, order, 0, len(matrix)).read_head()[2]


class _Elements:
    """A position in a row of elements: tag (type, number of bytes), data, padding to 8 bytes."""

    def __init__(self, data: bytes | memoryview, order: str, start: int, end: int) -> None:
        self.data, self.order, self.position, self.end = data, order, start, end
        self._tag = struct.Struct(f"{order}II")

    def next_element(self, is_padded: bool = True) -> tuple[int, int, int]:
        """Return type, start and end of the next element's data, and step over it."""
        start = self.position + 8
        if start > self.end:
            raise ValueError("it ends inside an element")
        kind, size = self._tag.unpack_from(self.data, self.position)
        if kind >> 16:  # small: type and size share the first 4 bytes, data the other 4
            kind, size, start = kind & 0xFFFF, kind >> 16, start - 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
            self.position += 8
        else:
            self.position = start + (-(-size // 8) * 8 if is_padded else size)
        if start + size > self.end:
            raise ValueError(f"an element of {size} bytes where {self.end - start} are left")
        return kind, start, start + size

    def read_head(self) -> tuple[int, tuple[int, ...], str]:
        """Return class, shape and name of the matrix that begins here."""
        kind, start, stop = self.next_element()
        if kind != 6 or stop - start != 8:
            raise ValueError("a matrix without flags")
        array_class = struct.unpack_from(f"{self.order}I", self.data, start)[0] & 0xFF
        kind, start, stop = self.next_element()
        num_dims = (stop - start) // 4
        if kind != 5 or not 2 <= num_dims <= 4:
            raise ValueError("a matrix without 2 to 4 dimensions")
        shape = struct.unpack_from(f"{self.order}{num_dims}i", self.data, start)
        if min(shape) < 0:
            raise ValueError(f"a matrix of shape {shape}")
        _, start, stop = self.next_element()
        return array_class, shape, bytes(self.data[start:stop]).decode("latin-1")

    def read_matrix(self, depth: int) -> tuple[str, Any]:
        """Return name and value of the matrix that begins here."""
        if self.position == self.end:
            return "", np.zeros((0, 0))  # as MATLAB writes an empty cell
        array_class, shape, name = self.read_head()
        count = math.prod(shape)
        if array_class == CELL:
            return name, self._read_cells(count, depth + 1)
        if array_class != CHAR and array_class not in LOGICAL_OR_NUMBER:
            raise ValueError(f"an array of class {array_class}; expected cells, texts and numbers")
        if not count and self.position == self.end:
            return name, "" if array_class == CHAR else np.zeros(shape)
        kind, start, stop = self.next_element()
        if array_class == CHAR:
            return name, self._decode(kind, bytes(self.data[start:stop]))
        if kind not in DTYPES:
            raise ValueError(f"numbers of type {kind}")
        dtype = np.dtype(self.order + DTYPES[kind])
        if stop - start != count * dtype.itemsize:
            raise ValueError(f"{stop - start} bytes for {count} numbers of {dtype.itemsize}")
        return name, np.frombuffer(self.data, dtype, count, start).reshape(shape, order="F")

    def _read_cells(self, count: int, depth: int) -> list:
        if depth >= MAX_DEPTH:
            raise ValueError(f"cells in cells in cells; at most {MAX_DEPTH} levels are read")
        if count > (self.end - self.position) // 8:
            raise ValueError(f"{count} cells in {self.end - self.position} bytes")
        values = []
        for _ in range(count):
            kind, start, stop = self.next_element()
            if kind != MATRIX:
                raise ValueError(f"a cell of type {kind}")
            values.append(_Elements(self.data, self.order, start, stop).read_matrix(depth)[1])
        return values

    def _decode(self, kind: int, text: bytes) -> str:
        if kind not in ENCODINGS:
            raise ValueError(f"text of type {kind}")
        wide = {"<": "-le", ">": "-be"}[self.order] if ENCODINGS[kind] not in ("latin-1", "utf-8") else ""
        return text.decode(ENCODINGS[kind] + wide)
