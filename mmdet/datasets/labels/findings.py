"""What is odd about labels that readers accept: one finding per kind, with a count and the faces."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet.datasets.labels.base import LabelFile

_NORMALISED = 1.5  # coordinates up to here look like shares of the image side


@dataclass(frozen=True)
class Finding:
    """One kind of oddity.

    Attributes:
        kind: short name, for reports.
        what: "N of M faces ..." without the place.
        faces: indices into the flat arrays of the LabelFile.
        is_fatal: training or evaluating on it makes no sense.
    """

    kind: str
    what: str
    faces: np.ndarray
    is_fatal: bool = False


def find_oddities(labels: LabelFile) -> list[Finding]:
    """Return what a person should hear about the faces of a label file; ignore boxes are not looked at."""
    size_wh = np.repeat(labels.sizes_hw[:, ::-1], np.diff(labels.offsets), axis=0)  # (F, 2)
    low, high = labels.bboxes[:, :2], labels.bboxes[:, 2:]
    side = (high - low).max(1, initial=0)
    is_normalised = (side < 1) & (high.max(1, initial=0) <= _NORMALISED) & (high.max(1, initial=0) > 0)
    is_outside = (size_wh > 0).all(1) & ((low >= size_wh) | (high <= 0)).any(1)
    has_kps = (labels.kps[..., 2] > 0).any(1)
    is_zero = has_kps & is_all_zero(labels.kps)
    masks = [
        ("normalised", "have a box inside 0..1: normalised coordinates? Write pixels", is_normalised),
        ("tiny", "have a box under 1 px", (side < 1) & ~is_normalised),
        ("outside", "have a box wholly outside the image", is_outside),
        ("zero points", "have all points at 0 0, which are taken as not annotated", is_zero),
        (
            "far points",
            "have points far outside their box: normalised, or of another face?",
            _far(labels) & ~is_zero,
        ),
    ]
    num_faces = int((~labels.is_ignored).sum())
    findings = []
    for kind, what, mask in masks:
        faces = np.flatnonzero(mask & ~labels.is_ignored)
        if len(faces):
            is_fatal = kind in ("normalised", "tiny") and 2 * len(faces) > num_faces
            findings.append(Finding(kind, f"{len(faces)} of {num_faces} faces {what}", faces, is_fatal))
    if len(labels.classes) > 1 and num_faces and not labels.labels[~labels.is_ignored].any():
        what = f"all {num_faces} faces are of class {labels.classes[0]!r}, none of {labels.classes[1:]}"
        findings.append(Finding("one class", what, np.flatnonzero(~labels.is_ignored)))
    return findings


def is_all_zero(kps: np.ndarray) -> np.ndarray:
    """Return (F,) bool: all K points are at 0 0 (COCO and YOLO write unlabelled points so)."""
    return (kps[..., :2] == 0).all((1, 2)) & (kps.shape[1] > 0)


def place_of(labels: LabelFile, face: int, path: str | Path) -> str:
    """Return "file:line in image" of a face, without the line where the format has none."""
    name = labels.names[int(np.searchsorted(labels.offsets, face, side="right")) - 1]
    line = 0 if labels.lines is None else int(labels.lines[face])
    return f"{path}:{line} in {name}" if line else f"{path}, {name}"


def _far(labels: LabelFile) -> np.ndarray:
    """Return (F,) bool: a point is farther from the box than the box is large, or all lie in 0..1."""
    points, margin = labels.kps[..., :2], (labels.bboxes[:, 2:] - labels.bboxes[:, :2]).max(1, initial=1)
    outside = np.maximum(labels.bboxes[:, None, :2] - points, points - labels.bboxes[:, None, 2:]).max(2)
    is_shown = labels.kps[..., 2] > 0  # (F, K)
    looks_normalised = (points.max(2, initial=0) <= _NORMALISED) & (margin > 8)[:, None] & (outside > 0)
    all_normalised = is_shown.any(1) & (looks_normalised | ~is_shown).all(1)
    return ((outside > margin[:, None]) & is_shown).any(1) | all_normalised
