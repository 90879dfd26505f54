"""Small WIDER ground truths for the tests of this folder."""

from collections.abc import Sequence

import numpy as np

from mmdet.evaluation.widerface.files import SETTINGS, WiderImage


def image(faces_xywh: Sequence, keep: Sequence[int] | None = None, name: str = "a", event: str = "e"):
    """Return a WiderImage whose faces `keep` (default: all) count in every setting."""
    bboxes = np.array(faces_xywh, dtype=np.float64).reshape(-1, 4)
    kept = np.zeros(len(bboxes), dtype=bool)
    kept[list(range(len(bboxes)) if keep is None else keep)] = True
    return WiderImage(event, name, bboxes, dict.fromkeys(SETTINGS, kept))


def rows(*values: Sequence[float]) -> np.ndarray:
    """Return (n, 5) float64 detections."""
    return np.array(values, dtype=np.float64).reshape(-1, 5)
