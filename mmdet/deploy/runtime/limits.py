"""What a description and the outputs of an ONNX file must be before they are used: both come from a file."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import numpy as np

from mmdet.config.values import Limits, check_value, shorten
from mmdet.errors import CheckpointError, ConfigError
from mmdet.process import MAX_IMAGE_PIXELS

MAX_JSON = 1 << 20  # characters of a description
MAX_LEVELS, MAX_CLASSES = 16, 10_000


def check_description(facts: Any) -> None:
    """Check every field of a `Description` against its type hint, and those that depend on each other.

    Raises:
        ConfigError: one is wrong; the message names it.
    """
    for field in fields(facts):
        value = getattr(facts, field.name)
        if value != field.default and check_value(value, field.type, field.name) != value:
            raise ConfigError(f"{field.name} = {shorten(value)} must be a list")
    for name in () if facts.nms is None else ("iou_threshold", "score_threshold"):
        check_value(facts.nms.get(name), Annotated[float, Limits(least=0, most=1)], f"nms.{name}")
    for name, most in (("strides", MAX_LEVELS), ("classes", MAX_CLASSES)):
        if len(getattr(facts, name)) > most:
            raise ConfigError(f"{name} has {len(getattr(facts, name))} items, at most {most}")
    num_anchors = [len(level) for level in facts.anchors]
    is_stated = num_anchors or facts.coder["type"] != "DistanceCoder"
    if is_stated and num_anchors != [facts.num_anchors] * len(facts.strides):
        raise ConfigError(
            "anchors: a width and a height for each anchor of a cell and each level is expected"
        )


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
        is_good = [out.shape for out in raw] == wanted
        is_good = is_good and bool(((raw[2] >= 0) & (raw[2] < len(facts.classes))).all())
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
