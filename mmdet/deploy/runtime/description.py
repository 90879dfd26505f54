"""What one must know to run an exported model: a JSON file beside it, and the same inside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from mmdet.config.values import Limits
from mmdet.deploy.runtime.coders import make_decoder
from mmdet.deploy.runtime.limits import MAX_JSON, check_description
from mmdet.errors import ConfigError

FORMAT = 1
METADATA_KEY = "scrfd"
# Number of outputs -> strides and anchors per cell, for files that carry no description of their own.
PUBLISHED = {
    6: ((8, 16, 32), 2, False),
    9: ((8, 16, 32), 2, True),
    10: ((8, 16, 32, 64, 128), 1, False),
    15: ((8, 16, 32, 64, 128), 1, True),
}
NMS_OUTPUTS = ("bboxes", "scores", "labels", "image_index")


@dataclass(frozen=True)
class Description:
    """Facts of an exported detector.

    Attributes:
        strides: one per level.
        num_anchors: anchors per cell.
        num_kps: keypoints per face, 0 for none.
        classes: names, in the order of the score's last axis.
        mean, std: of the input, in its channel order.
        channels: "RGB" or "BGR".
        anchors: width and height in pixels of the anchors of a cell, per level. Decoding does not need them.
        nms: the thresholds inside the graph, {"iou_threshold", "score_threshold"}; None without.
        coder: what the numbers of bbox and kps mean: the config dict of a coder, see runtime/coders.py.
            Published files and those made before this was written hold distances.
        center_offset: of an anchor's centre from the corner of its cell, in strides.
        family: the detector's type in its config, "SCRFD" or "RetinaFace"; decoding does not need it.
        precision: "fp32", "fp16" or "int8" arithmetic inside; inputs and outputs are fp32 either way.
        config: name of the config file.
    """

    strides: Annotated[tuple[int, ...], Limits(least=1, most=4096, min_items=1)]
    num_anchors: Annotated[int, Limits(least=1, most=64)]
    num_kps: Annotated[int, Limits(least=0, most=1000)]
    classes: Annotated[tuple[str, ...], Limits(min_items=1)] = ("face",)
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: Annotated[tuple[float, float, float], Limits(above=0)] = (128.0, 128.0, 128.0)
    channels: Literal["RGB", "BGR"] = "RGB"
    anchors: Annotated[tuple[tuple[tuple[float, float], ...], ...], Limits(above=0)] = ()
    nms: dict[str, float] | None = None
    coder: dict[str, Any] = field(default_factory=lambda: {"type": "DistanceCoder"})
    center_offset: float = 0.0
    family: str = "SCRFD"
    precision: str = "fp32"
    config: str = ""

    def output_names(self) -> list[str]:
        """Return the outputs in order: score_8 score_16 ... bbox_8 ... kps_8 ..., or those after NMS."""
        if self.nms is not None:
            return [*NMS_OUTPUTS, *(["kps"] if self.num_kps else [])]
        kinds = ["score", "bbox", *(["kps"] if self.num_kps else [])]
        return [f"{kind}_{stride}" for kind in kinds for stride in self.strides]

    def to_json(self) -> str:
        """Return the text of the JSON file, with a sentence on how to decode."""
        decoding = DECODING.format(make_decoder(self.coder).formula)
        values = {"format": FORMAT, **asdict(self), "outputs": self.output_names(), "decoding": decoding}
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is none, or of a newer format.
        """
        if len(text) > MAX_JSON:
            raise ValueError(f"{len(text)} characters, at most {MAX_JSON} are read")
        try:
            content = json.loads(text)
        except RecursionError:
            raise ValueError("its values are nested too deeply") from None
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise ValueError(f"format {FORMAT} expected")
        content = {**BEFORE_CODERS, **content}
        try:
            facts = cls(**{key: _freeze(content[key]) for key in cls.__dataclass_fields__})
            make_decoder(facts.coder)
            check_description(facts)
            return facts
        except KeyError as error:
            raise ValueError(f"{error} is missing") from None
        except ConfigError as error:
            raise ValueError(str(error)) from None


# What files say that do not say it: they were made before these keys were written.
BEFORE_CODERS = {"coder": {"type": "DistanceCoder"}, "center_offset": 0.0, "family": "SCRFD"}
DECODING = (
    "Anchor i of a level belongs to cell i // num_anchors; cells go row by row, ceil(W / stride) in a row. "
    "Its centre is ((column + center_offset) * stride, (row + center_offset) * stride). {} "
    "score is a probability already."
)


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _freeze(item) for key, item in value.items()}
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def guess(num_outputs: int, last_dims: Sequence[object]) -> Description | None:
    """Return the description of a published file without one, known by the number of its outputs.

    Args:
        num_outputs: of the graph.
        last_dims: last dimension of every output; symbolic ones are no check.
    """
    if num_outputs not in PUBLISHED:
        return None
    strides, num_anchors, has_kps = PUBLISHED[num_outputs]
    levels = len(strides)
    numbers = [dim if isinstance(dim, int) else None for dim in last_dims]
    sides = [4] * levels + [10] * (levels if has_kps else 0)
    if None in numbers:  # then in the published order
        scores, rest = numbers[:levels], numbers[levels:]
        if any(dim not in (None, side) for dim, side in zip(rest, sides, strict=True)):
            return None
    else:
        scores = [dim for dim in numbers if dim not in sides]
        if len(scores) != levels or len(set(scores)) != 1:
            return None
    num_classes = scores[0] or 1
    classes = ("face",) if num_classes == 1 else tuple(f"class_{index}" for index in range(num_classes))
    return Description(strides, num_anchors, 5 if has_kps else 0, classes)
