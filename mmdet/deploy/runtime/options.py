"""What may be asked of a detector: one frozen object, and the call forms it is read from."""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmdet.deploy.runtime.checks import check_count, check_fraction
from mmdet.errors import ConfigError, unknown_name

Size = tuple[int, int]
METRICS = ("default", "max")
# Spellings of the reference's class and of the packages that wrap it.
ALIASES = {
    "thresh": "score_thr",
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
        input_size: width and height that images are fitted into; None: the model's own, or 640 x 640.
        max_num: only this number of the largest or most central faces, in that order; 0 for all.
        metric: "max": by area; "default": area and distance from the centre of the image.
        two_scale: look a second time at a quarter of the size, for faces that fill the image.
        batch_size: images at once.
    """

    score_thr: float = 0.5
    iou_thr: float = 0.4
    input_size: Size | None = None
    max_num: int = 0
    metric: str = "default"
    two_scale: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for key in self.__dataclass_fields__:
            _check(key, key, getattr(self, key))

    def changed(self, *args: object, **changes: Any) -> "DetectOptions":
        """Return a copy with some values changed; None leaves a value as it is.

        Args:
            args: [lowest score,] input_size, max_num, metric, two_scale, as the reference's class takes them.
            changes: by name; thresh, det_thresh, nms_thresh and det_size are understood, and flags ("--thr").

        Raises:
            ConfigError: a value is out of range, given twice, or its name is unknown.
        """
        values: dict[str, Any] = {}
        positional = (ORDER if args and not _is_number(args[0]) else ("thresh", *ORDER))[: len(args)]
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


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, numbers.Real)


def _check(name: str, key: str, value: Any) -> Any:
    """Return a value in its type; see `DetectOptions.changed`."""
    if key in ("score_thr", "iou_thr"):
        return check_fraction(name, value)
    if key == "metric":
        return "max" if value == "max" else "default"
    if key in ("max_num", "batch_size"):
        return check_count(name, value, int(key == "batch_size"))
    return tuple(value) if key == "input_size" and isinstance(value, Sequence) else value
