"""What a request to the page asks for: the options in its address, and the picture in its body."""

from collections.abc import Callable, Mapping
from email import message_from_bytes
from typing import Any

from mmdet.errors import ConfigError, DataError, unknown_name

MOST_TILES = 8  # along the longer side: 225 squares are looked at, since they overlap
LOWEST_SCORE = 0.1  # of the faces sent to the page; its slider begins here
_FLAGS = {"0": False, "1": True}.__getitem__
# Parameter of a request, a name of DetectOptions or "draw" -> what reads the value.
QUERY: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("threshold", "thresh", "det_thresh", "score_thr", "nms_thresh", "iou_thr"), float),
    **dict.fromkeys(("max_num", "tiles"), int),
    **dict.fromkeys(("two_scale", "draw"), _FLAGS),
}
EXPECTED = {float: "a number from 0 to 1", int: "a whole number", _FLAGS: "0 or 1"}


def read_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a request's parameters.

    Raises:
        ConfigError: a parameter is unknown, or its value cannot be read.
    """
    values: dict[str, Any] = {}
    for name, text in query.items():
        if name not in QUERY:
            raise ConfigError(unknown_name("parameter", name, QUERY))
        kind = QUERY[name]
        try:
            values[name] = kind(text)
            if (kind is float and not 0 <= values[name] <= 1) or (name == "tiles" and int(text) > MOST_TILES):
                raise ValueError
        except (ValueError, KeyError):
            limit = f" up to {MOST_TILES}" if name == "tiles" else ""
            raise ConfigError(f"{name}={text}: {EXPECTED[kind]}{limit} is expected") from None
    return values


def uploaded_picture(body: bytes, kind: str) -> bytes:
    """Return the picture of a request: the body, or the file of a form (curl -F file=@photo.jpg)."""
    if not kind.lower().startswith("multipart/form-data"):
        return body
    try:
        form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        parts = [part for part in form.walk() if not part.is_multipart()]
        files = [part.get_payload(decode=True) for part in parts if part.get_filename()]
    except (RecursionError, ValueError, LookupError):
        raise DataError("the form cannot be read") from None
    if not files or not isinstance(files[0], bytes):
        raise DataError("the form has no file; send one as -F file=@photo.jpg, or its bytes as --data-binary")
    if len(parts) > 1:
        raise DataError("the form has more than one file; options go into the address, /detect?threshold=0.5")
    return files[0]
