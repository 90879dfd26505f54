"""Ground truth of the WIDER protocol for any labelled images: which faces count follows from their height."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mmdet.datasets.labels.base import Record
from mmdet.errors import DataError
from mmdet.evaluation.widerface.files import WiderImage, split_name

# Smallest face height, in pixels, that counts in each setting. The official lists were made by hand and
# by detectors; 99 % of their faces are at least 50, 30 and 10 px high (measured on the four .mat files).
MIN_HEIGHTS = {"easy": 50, "medium": 30, "hard": 10}
Heights = Mapping[str, tuple[float, float]]
OFFICIAL_HEIGHTS: Heights = {setting: (low, np.inf) for setting, low in MIN_HEIGHTS.items()}


def make_wider_gt(
    records: Iterable[Record], source: str | Path, heights: Heights = OFFICIAL_HEIGHTS
) -> list[WiderImage]:
    """Return the ground truth of labelled images, events in order of appearance.

    Faces of other heights and ignore boxes do not count in a setting: a detection on them is neither right
    nor wrong. Images that lie in no folder belong to the event "images".

    Args:
        records: the images.
        source: the label file, for messages.
        heights: setting -> lowest height that counts, and the first that no longer does, pixels.

    Raises:
        DataError: two images have the same event and name.
    """
    events: dict[str, dict[str, Record]] = {}
    for record in records:
        event, name = split_name(record.name)
        images = events.setdefault(event, {})
        if name in images:
            raise DataError(
                f"{source}: {record.name} and {images[name].name} differ in the suffix only; rename one"
            )
        images[name] = record
    named = [(event, name, record) for event, images in events.items() for name, record in images.items()]
    return [_make_image(event, name, record, heights) for event, name, record in named]


def _make_image(event: str, name: str, record: Record, limits: Heights) -> WiderImage:
    bboxes = np.concatenate([record.bboxes, record.bboxes_ignore]).astype(np.float64)
    is_face = np.arange(len(bboxes)) < len(record.bboxes)
    xywh = np.concatenate([bboxes[:, :2], bboxes[:, 2:] - bboxes[:, :2]], axis=1)
    heights = record.bboxes[:, 3] - record.bboxes[:, 1]  # float32, as the label file's
    heights = np.pad(heights, (0, len(record.bboxes_ignore)))
    kept = {s: is_face & (low <= heights) & (heights < high) for s, (low, high) in limits.items()}
    return WiderImage(event, name, xywh, kept)
