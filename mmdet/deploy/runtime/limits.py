"""What a description and the outputs of an ONNX file must be before they are used: both come from a file."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from mmdet.errors import CheckpointError
from mmdet.process import MAX_IMAGE_PIXELS

MAX_JSON = 1 << 20  # characters of a description
MAX_LEVELS, MAX_STRIDE, MAX_ANCHORS, MAX_KPS, MAX_CLASSES = 16, 4096, 64, 1000, 10_000


def check_description(facts: Any) -> None:
    """Check the type and range of every field of a `Description`.

    Raises:
        ValueError: one is wrong; the message names it.
    """
    checks = {
        "strides": _are_whole(facts.strides, 1, MAX_STRIDE) and len(facts.strides) <= MAX_LEVELS,
        "num_anchors": _are_whole((facts.num_anchors,), 1, MAX_ANCHORS),
        "num_kps": _are_whole((facts.num_kps,), 0, MAX_KPS),
        "classes": _are_texts(facts.classes) and 1 <= len(facts.classes) <= MAX_CLASSES,
        "mean": _are_numbers(facts.mean, 3),
        "std": _are_numbers(facts.std, 3) and all(value > 0 for value in facts.std),
        "channels": facts.channels in ("RGB", "BGR"),
        "nms": facts.nms is None or _are_thresholds(facts.nms),
        "coder": isinstance(facts.coder, dict) and isinstance(facts.coder.get("type"), str),
        "precision": isinstance(facts.precision, str),
        "config": isinstance(facts.config, str),
    }
    wrong = [name for name, is_good in checks.items() if not is_good]
    if not wrong:  # these two are about other fields, too
        variances = facts.coder.get("variances", (0.1, 0.2))
        wrong += [] if _are_anchors(facts) else ["anchors"]
        wrong += [] if _are_numbers(variances, 2) else ["coder"]
    if wrong:
        raise ValueError(f"{wrong[0]} = {str(getattr(facts, wrong[0]))[:60]}")


def check_input_shape(shape: Sequence[object], name: str) -> None:
    """Check the sides (N, 3, H, W) that a graph fixes; those that are no int are open.

    Raises:
        CheckpointError: one is not positive, or an image would be larger than any that is read.
    """
    sides = [side for side in shape if isinstance(side, int)]
    if any(side < 1 for side in sides) or math.prod(sides) > 3 * MAX_IMAGE_PIXELS:
        raise CheckpointError(f"{name}: its input has the shape {list(shape)}; export it again")


def check_raw(raw: Sequence[np.ndarray], facts: Any, name: str) -> None:
    """Check the number of outputs of a network, and their shapes as far as they do not depend on the level.

    Args:
        raw: as the session has returned them.
        facts: the `Description` of the file.
        name: of the file, for the message.

    Raises:
        CheckpointError: they do not fit the description.
    """
    if facts.nms is not None:
        num = len(raw[0]) if raw and raw[0].ndim else -1
        wanted = [(num, 4), (num,), (num,), (num,), *([(num, facts.num_kps, 2)] if facts.num_kps else [])]
        is_good = [out.shape for out in raw] == wanted and _are_indices(raw[2], len(facts.classes))
    else:
        num_kinds = (2, 3) if facts.num_kps else (2,)
        is_good = len(raw) in [kinds * len(facts.strides) for kinds in num_kinds]
        is_good = is_good and all(out.ndim in (2, 3) for out in raw)
    if not is_good:
        raise _misfit(raw, name)


def check_level(outputs: Sequence[np.ndarray | None], facts: Any, name: str) -> None:
    """Check scores (N, A, C), bbox (N, A, 4) and kps (N, A, 2K) or None of a level; see `check_raw`."""
    scores, bbox, kps = outputs
    assert scores is not None and bbox is not None
    is_good = 1 <= scores.shape[-1] <= len(facts.classes) and bbox.shape == (*scores.shape[:2], 4)
    if not is_good or not (kps is None or kps.shape == (*scores.shape[:2], 2 * facts.num_kps)):
        raise _misfit([out for out in outputs if out is not None], name)


def _misfit(arrays: Sequence[np.ndarray], name: str) -> CheckpointError:
    shapes = ", ".join(str(array.shape) for array in arrays[:16])
    return CheckpointError(f"{name}: the shapes of its outputs do not fit its description: {shapes}")


def _are_indices(values: np.ndarray, end: int) -> bool:
    return bool(((values >= 0) & (values < end)).all())


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def _are_numbers(values: Any, length: int) -> bool:
    return isinstance(values, tuple) and len(values) == length and all(map(_is_number, values))


def _are_whole(values: Any, lowest: int, highest: int) -> bool:
    is_sequence = isinstance(values, tuple) and len(values) > 0
    return is_sequence and all(type(value) is int and lowest <= value <= highest for value in values)


def _are_texts(values: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)


def _are_thresholds(nms: Any) -> bool:
    names = ("iou_threshold", "score_threshold")
    return isinstance(nms, Mapping) and all(
        _is_number(nms.get(name)) and 0 <= nms[name] <= 1 for name in names
    )


def _are_anchors(facts: Any) -> bool:
    """Return whether there are sizes for every anchor of a cell and level, or none where none are needed."""
    if facts.anchors == ():
        return facts.coder["type"] == "DistanceCoder"
    return (
        isinstance(facts.anchors, tuple)
        and len(facts.anchors) == len(facts.strides)
        and all(isinstance(level, tuple) and len(level) == facts.num_anchors for level in facts.anchors)
        and all(_are_numbers(wh, 2) and min(wh) > 0 for level in facts.anchors for wh in level)
    )
