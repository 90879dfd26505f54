"""Ways to change an input: blindly, or so that the first checks of its format still pass.

Each takes (data, seeds, choose) and returns the changed bytes.
"""

import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

Mutator = Callable[[bytes, Sequence[bytes], random.Random], bytes]

MAX_BYTES = 1 << 20
BYTES = (0, 1, 0x7F, 0x80, 0xFF)
LONG = b"9" * 400  # an int that no float holds
NUMBERS = (
    b"""0 -1 1 2 5 0.5 -0.0 1.5 1e308 -1e308 1e999 1e-320 nan inf 255 65536 2147483648 4294967295
9223372036854775808 0x10 1_0 007 true null ~ .5 5.""".split()
    + [LONG, b"9" * 5000]
)
WORDS = tuple(NUMBERS) + (b"\n", b" ", b"\0", b"../", b"/abs", b"..\\x", b"[" * 60, b'"', b"{}", b"[]", b"%s")
WORDS += (b"#", b":", b"=", b"\r", b"\xef\xbb\xbf", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"_base_")
TOKEN = re.compile(rb"[A-Za-z_]\w*|[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?|[ \t]+|.", re.DOTALL)


def blind(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """Make one to six changes: bits, bytes, words, parts moved, doubled, cut or mixed."""
    out = bytearray(data)
    for _ in range(choose.choice((1, 1, 1, 2, 3, 6))):
        kind, at = choose.randrange(8), choose.randrange(len(out) + 1)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << choose.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = choose.choice(BYTES) if choose.random() < 0.7 else choose.randrange(256)
        elif kind == 2:
            out[at:at] = choose.choice(WORDS)
        elif kind == 3:
            word = choose.choice(WORDS)
            out[at : at + len(word)] = word
        elif kind == 4:
            del out[at : at + choose.randint(1, 16)]
        elif kind == 5:
            out[at:at] = out[at : at + choose.randint(1, 64)] * choose.randint(1, 4)
        elif kind == 6 and choose.random() < 0.3:
            del out[at:]
        else:
            other = choose.choice(seeds)
            start = choose.randrange(len(other) + 1)
            out[at : at + 16] = other[start : start + choose.randint(1, 64)]
    return bytes(out[:MAX_BYTES])


def text(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """Change a token for one of its kind, or move, double, or drop tokens and lines."""
    if choose.random() < 0.25:
        return blind(data, seeds, choose)
    tokens = TOKEN.findall(data)
    for _ in range(choose.choice((1, 1, 2, 3))):
        at, kind = choose.randrange(len(tokens) + 1), choose.randrange(6)
        token = tokens[at] if at < len(tokens) else b""
        if kind <= 1 and token[-1:].isdigit():
            tokens[at] = choose.choice(NUMBERS)
        elif kind <= 1 and token[:1].isalpha():
            tokens[at] = choose.choice(TOKEN.findall(choose.choice(seeds)) or [token])
        elif kind == 2:
            tokens[at:at] = tokens[at : at + choose.randint(1, 12)]
        elif kind == 3:
            del tokens[at : at + choose.choice((1, 1, 2, 8))]
        elif kind == 4:
            lines = b"".join(tokens).split(b"\n")
            line = lines.pop(choose.randrange(len(lines)))
            lines[(place := choose.randrange(len(lines) + 1)) : place] = [line] * choose.randrange(3)
            tokens = TOKEN.findall(b"\n".join(lines))
        else:
            tokens[at : at + 1] = [choose.choice(WORDS)]
    return b"".join(tokens)[:MAX_BYTES]


def words(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """Change one 4-byte word for a size or type nearby, or blindly."""
    if choose.random() < 0.4 or len(data) < 8:
        return blind(data, seeds, choose)
    out, at = bytearray(data), 4 * choose.randrange(len(data) // 4)
    value = struct.unpack_from("<I", out, at)[0]
    near = (0, 1, 8, 2**31 - 1, 2**31, 2**32 - 1, value + 1, value - 1, value * 2, value + 8, value ^ 0x10000)
    struct.pack_into("<I", out, at, choose.choice(near) % 2**32)
    return bytes(out)


def mat(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """Change a .mat file inside its packed variables."""
    start, out = 128, data[:128]
    try:
        while start < len(data):
            kind, size = struct.unpack_from("<II", data, start)
            part = data[start + 8 : start + 8 + size]
            if kind == 15 and choose.random() < 0.5:
                part = zlib.compress(words(zlib.decompressobj().decompress(part, MAX_BYTES), seeds, choose))
            out += struct.pack("<II", kind, len(part)) + part
            start += 8 + size
    except (struct.error, zlib.error):
        return words(data, seeds, choose)
    return words(data, seeds, choose) if out == data else out


def png(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """Change an image; the checksums of a PNG file are made right again."""
    out = blind(data, seeds, choose)
    if out[:4] != b"\x89PNG":
        return out
    fixed, at = bytearray(out), 8
    while at + 12 <= len(fixed):
        end = at + 8 + struct.unpack_from(">I", fixed, at)[0]
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def zipped(sign: Callable[[bytes], bytes]) -> Mutator:
    """Return what changes an entry of a zip file, whose checksums and digest are made right again."""

    def run(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
        if data[:2] != b"PK" or choose.random() < 0.2:
            return blind(data, seeds, choose)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                entries = {name: file.read(name) for name in file.namelist()}
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError):
            return blind(data, seeds, choose)
        name = choose.choice([*entries, *(name for name in entries if name.endswith(".pkl"))])
        entries[name] = blind(entries[name], [*entries.values()], choose)
        if choose.random() < 0.05:
            del entries[choose.choice([*entries])]
        packing = zipfile.ZIP_DEFLATED if choose.random() < 0.05 else zipfile.ZIP_STORED
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", packing) as file:
            for name, content in entries.items():
                file.writestr(zipfile.ZipInfo(name), content, packing)
        return sign(buffer.getvalue()) if choose.random() < 0.5 else buffer.getvalue()

    return run


def onnx(data: bytes, seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """Change a field of an ONNX message: a number, a name for another name, an entry of a list."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    if choose.random() < 0.2:
        return blind(data, seeds, choose)
    try:
        model = ModelProto.FromString(data)
    except DecodeError:
        return blind(data, seeds, choose)
    fields = list(_fields(model))
    names = [value for _, field, value in fields if field.type == field.TYPE_STRING for value in _list(value)]
    for _ in range(choose.choice((1, 1, 2, 3))):
        message, field, value = choose.choice(fields)
        with suppress(ValueError):  # a number beyond its type
            _change(message, field, value, names or ["x"], choose)
    return model.SerializeToString()[:MAX_BYTES]


def _list(value: Any) -> list:
    return [value] if isinstance(value, str | bytes | int | float) else list(value)


def _is_list(value: Any) -> bool:
    return not isinstance(value, str | bytes | int | float) and hasattr(value, "append")


def _fields(message: Any, depth: int = 0) -> Any:
    """Yield (message, field, value) of all that is set."""
    for field, value in message.ListFields():
        yield message, field, value
        if field.type == field.TYPE_MESSAGE and depth < 12:
            for item in value if _is_list(value) else [value]:
                yield from _fields(item, depth + 1)


def _change(message: Any, field: Any, value: Any, names: list[str], choose: random.Random) -> None:
    def scalar(old: Any) -> Any:
        if isinstance(old, str):
            return choose.choice([*names, "../../x", "", "Loop", "Identity", "Conv", "Reshape", "a\0b"])
        if isinstance(old, bytes):
            return blind(old, [old or b"x"], choose)
        if isinstance(old, float):
            return choose.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
        if field.type == field.TYPE_ENUM:
            return choose.choice(field.enum_type.values).number
        limit = 2**31 - 1 if field.type == field.TYPE_INT32 else 2**62
        return choose.choice((0, 1, -1, 2, 7, old + 1, old - 1, limit, -limit))

    if _is_list(value) and not len(value):  # an earlier change has emptied it
        return
    if _is_list(value):
        at = choose.randrange(len(value))
        if choose.random() < 0.3:
            del value[at]
        elif choose.random() < 0.5:
            value.append(value[at])
        elif field.type != field.TYPE_MESSAGE:
            value[at] = scalar(value[at])
    elif field.type == field.TYPE_MESSAGE and choose.random() < 0.2:
        message.ClearField(field.name)
    elif field.type != field.TYPE_MESSAGE:
        setattr(message, field.name, scalar(value))
