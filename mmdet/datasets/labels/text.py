"""Text of label files, whatever program saved it."""

import codecs
import logging
from pathlib import Path

from mmdet.errors import DataError

_MARKS = (  # byte order marks; UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

logger = logging.getLogger(__name__)


def read_utf8(path: str | Path) -> bytes:
    r"""Return a text file as UTF-8 bytes without byte order mark; UTF-16 and UTF-32 are converted.

    A file whose only line ends are carriage returns gets "\n" instead, with a warning. Bytes that are no
    UTF-8 are left to the caller, who knows the line.

    Raises:
        DataError: the file is missing, or holds NUL bytes.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"label file {path}: {error.strerror}") from None
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and data[1:400:2].count(0) > 0.4 * len(data[:400]) / 2:
        encoding = "utf-16-le"
    if encoding:
        try:
            data = data.decode(encoding).encode()
        except UnicodeError:
            raise DataError(
                f"{path}: begins as {encoding.upper()} text and is not; save it as UTF-8"
            ) from None
    if 0 in data:
        line = data[: data.index(0)].count(b"\n") + 1
        raise DataError(f"{path}:{line}: holds a NUL byte; this is no text file, or a damaged one")
    if b"\r" in data and b"\n" not in data:
        logger.warning("%s has no line feeds; its carriage returns are taken as line ends", path)
        data = data.replace(b"\r", b"\n")
    return data


def read_text(path: str | Path) -> str:
    """Return a text file, see `read_utf8`.

    Raises:
        DataError: as `read_utf8`, or bytes that are no UTF-8.
    """
    data = read_utf8(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text ({error.reason})") from None
