"""What may be asked of a detector: one frozen object, and the call forms it is read from."""

import numbers
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmdet.deploy.runtime.checks import check_count, check_fraction
from mmdet.errors import ConfigError, unknown_name

Size = tuple[int, int]
AUTO = "auto"
# Spellings of the reference's class and of the packages that wrap it.
ALIASES = {
    "thresh": "score_thr",
    "threshold": "score_thr",
    "det_thresh": "score_thr",
    "nms_thresh": "iou_thr",
    "det_size": "input_size",
    "thr": "score_thr",  # of the command line
    "nms": "iou_thr",
}
ORDER = ("input_size", "max_num", "metric", "two_scale")  # of positional arguments after a threshold


@dataclass(frozen=True)
class DetectOptions:
    """How faces are looked for.

    Attributes:
        score_thr: lowest score.
        iou_thr: a face that overlaps a better one by more goes.
        input_size: width and height that images are fitted into, or several of them, whose faces are put
            together; None: the model's own, or 640 x 640.
        max_num: only this number of the largest or most central faces, in that order; 0 for all.
        metric: "max": by area; "default": area and distance from the centre of the image.
        two_scale: look a second time at a quarter of the size, for faces that fill the image. "auto": with
            one input_size, and where the first look sees a box of at least half the image, however low its
            score is.
        tiles: also look at overlapping squares of the image, so many along its longer side; 0: never. "auto":
            where an image is TILED_RATIO times longer than wide and would be reduced to less than half, at
            squares of its shorter side, or, if that is more, of 1/32 of the longer.
        batch_size: images at once.
    """

    score_thr: float = 0.5
    iou_thr: float = 0.4
    input_size: Size | tuple[Size, ...] | None = None
    max_num: int = 0
    metric: str = "default"
    two_scale: bool | str = "auto"
    tiles: int | str = "auto"
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for key in self.__dataclass_fields__:
            _check(key, key, getattr(self, key))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Return all input sizes; none if the model's own is to be taken."""
        if self.input_size is None:
            return ()
        return self.input_size if isinstance(self.input_size[0], tuple) else (self.input_size,)  # type: ignore

    def changed(self, *args: object, **changes: Any) -> "DetectOptions":
        """Return a copy with some values changed; None leaves a value as it is.

        Args:
            args: [lowest score,] input_size, max_num, metric, two_scale, as the reference's class takes them.
            changes: by name; thresh, det_thresh, nms_thresh and det_size are understood, and flags ("--thr").

        Raises:
            ConfigError: a value is out of range, given twice, or its name is unknown.
        """
        values: dict[str, Any] = {}
        has_thresh = not args or args[0] is None or isinstance(args[0], numbers.Real)
        positional = (("thresh", *ORDER) if has_thresh else ORDER)[: len(args)]
        if len(args) > len(positional):
            raise ConfigError(f"{len(args)} positional arguments after the image; at most {len(positional)}")
        for name, value in [*zip(positional, args, strict=True), *changes.items()]:
            key = name.lstrip("-").replace("-", "_")
            key = ALIASES.get(key, key)
            if key not in self.__dataclass_fields__:
                raise ConfigError(unknown_name("argument", name, [*self.__dataclass_fields__, *ALIASES]))
            if value is None:
                continue
            if key in values:
                raise ConfigError(f"{name}={value!r}: given twice, the other is {values[key]!r}")
            values[key] = _check(name, key, value)
        return replace(self, **values)


def _check(name: str, key: str, value: Any) -> Any:
    """Return a value in its type; see `DetectOptions.changed`."""
    if key in ("score_thr", "iou_thr"):
        return check_fraction(name, value)
    if key == "metric":
        return "max" if value == "max" else "default"
    if key in ("max_num", "batch_size"):
        return check_count(name, value, int(key == "batch_size"))
    if key == "input_size" and value is not None:
        return _check_size(name, value)
    if key == "two_scale" and value not in (True, False, AUTO):
        raise ConfigError(f"{name}={value!r}: give True, False or {AUTO!r}")
    if key == "tiles" and value != AUTO:
        return check_count(name, _whole_number(name, value))
    return value


def _check_size(name: str, value: Any) -> Size | tuple[Size, ...]:
    """Return (w, h) or ((w, h), ...) of any sequences of whole numbers."""
    try:
        if np.ndim(value) == 2:
            return tuple((operator.index(width), operator.index(height)) for width, height in value)
        width, height = value
        return operator.index(width), operator.index(height)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={value!r}: give a width and a height, or a list of such pairs") from None


def _whole_number(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={value!r}: give a whole number, or {AUTO!r}") from None
