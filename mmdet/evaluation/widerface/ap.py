"""Average precision on WIDER FACE, in the protocol's own terms, for a whole prediction set at once.

The rules are those of the official code and of the Python versions everybody compares with, oddities
included:

1. Scores are stretched to [0, 1] over the whole prediction set, then cut at 1000 thresholds 0.999, ..., 0.
2. Overlap counts pixels: width = x2 - x1 + 1. Plain IoU would give 1.3 to 1.8 points less on hard.
3. A detection belongs to the face it overlaps most (the first of equals) and matches from `iou_thr` on.
   Faces outside the setting are ignored: a detection on one counts neither for nor against. The second
   detection on a face is a false positive.
4. Detections keep their order. A threshold keeps everything up to the *last* detection that reaches it, so
   an unsorted list loses precision.
5. An image without faces or without detections is skipped: false positives on face-free images are free
   (they are reported beside the AP), while the faces of an image without detections still count as missed.
6. AP is the area under the monotone envelope of precision. All scores equal gives 0, no faces at all nan.

Rule 4 needs no loop over thresholds: detection i is inside the cut of threshold t exactly when t <= the
highest score from i to the end of its image, so one histogram of these suffix maxima holds all 1000 cuts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet.errors import DataError
from mmdet.evaluation.widerface.files import (
    SETTINGS,
    Predictions,
    WiderImage,
    read_predictions,
    read_wider_gt,
)

NUM_THRESHOLDS = 1000
_PAIRS_AT_ONCE = 1 << 15  # keeps the overlap matrix of a chunk in the second-level cache


@dataclass(frozen=True)
class WiderResult:
    """What one evaluation found.

    Attributes:
        ap: average precision for "easy", "medium", "hard"; nan for a setting without faces.
        curves: per setting (1000, 2) float64: recall, precision, from the highest threshold down; precision
            is nan where nothing is kept yet.
        num_faces: faces that count, per setting.
        num_images: images of the ground truth.
        num_detections: detections on these images.
        num_empty_images: images of the ground truth without any face.
        num_false_positives_on_empty: detections there with score >= `false_positive_thr`; not in the AP.
        false_positive_thr: raw score, before rule 1.
    """

    ap: Mapping[str, float]
    curves: Mapping[str, np.ndarray]
    num_faces: Mapping[str, int]
    num_images: int
    num_detections: int
    num_empty_images: int
    num_false_positives_on_empty: int
    false_positive_thr: float


def wider_evaluation(
    predictions: Predictions | str | Path, gt_dir: str | Path, iou_thr: float = 0.5
) -> tuple[float, float, float]:
    """Return the (easy, medium, hard) average precision.

    Args:
        predictions: event -> image name without suffix -> (n, 5) x, y, w, h, score, best first; or a folder
            of EVENT/NAME.txt files. Not changed.
        gt_dir: folder with the four .mat files of the ground truth.
        iou_thr: lowest overlap of a match.

    Raises:
        DataError: a file is missing or malformed, or the predictions lack an image of the ground truth.
    """
    result = evaluate_widerface(predictions, gt_dir, iou_thr)
    return result.ap["easy"], result.ap["medium"], result.ap["hard"]


def evaluate_widerface(
    predictions: Predictions | str | Path,
    gt: str | Path | Sequence[WiderImage],
    iou_thr: float = 0.5,
    false_positive_thr: float = 0.5,
    settings: Sequence[str] = SETTINGS,
) -> WiderResult:
    """Evaluate with curves and counts; arguments as `wider_evaluation`, `gt` may already be read.

    `settings` are keys of WiderImage.kept.
    """
    if isinstance(predictions, (str, Path)):
        predictions = read_predictions(predictions)
    images = read_wider_gt(gt) if isinstance(gt, (str, Path)) else gt
    detections = [_rows(predictions, image) for image in images]

    scores_of = _stretched_scores(predictions)
    entered, face_of = [], []  # per image with faces and detections
    pairs = list(zip(images, detections, strict=True))
    scored = [(image, det) for image, det in pairs if len(image.bboxes_xywh) and len(det)]
    for image, det in scored:
        scores = scores_of(det[:, 4])
        entered.append(np.fmax.accumulate(scores[::-1])[::-1])
        face_of.append(match_faces(det[:, :4], image.bboxes_xywh, iou_thr))
    bins = _first_thresholds(entered)

    num_faces = {s: int(sum(im.kept[s].sum() for im in images)) for s in settings}
    curves = {}
    for setting in settings:
        counts = [_count(face, im.kept[setting]) for face, (im, _) in zip(face_of, scored, strict=True)]
        curves[setting] = _curve(bins, counts, num_faces[setting])
    empty = [det for image, det in pairs if not len(image.bboxes_xywh)]
    return WiderResult(
        ap={s: average_precision(curves[s]) if num_faces[s] else float("nan") for s in settings},
        curves=curves,
        num_faces=num_faces,
        num_images=len(images),
        num_detections=sum(len(det) for det in detections),
        num_empty_images=len(empty),
        num_false_positives_on_empty=int(sum((det[:, 4] >= false_positive_thr).sum() for det in empty)),
        false_positive_thr=false_positive_thr,
    )


def match_faces(det_xywh: np.ndarray, gt_xywh: np.ndarray, iou_thr: float) -> np.ndarray:
    """Return (n,) int64: the face each detection overlaps most, -1 where that is less than `iou_thr`.

    Args:
        det_xywh: (n, 4) detections.
        gt_xywh: (g, 4) faces, g > 0.
        iou_thr: lowest overlap of a match, in the convention that a bbox from 3 to 3 is one pixel wide.
    """
    gt = np.asarray(gt_xywh, dtype=np.float64).T[:, None]  # (4, 1, g)
    gt_x1, gt_y1, gt_x2, gt_y2 = gt[0], gt[1], gt[0] + gt[2], gt[1] + gt[3]
    gt_area = (gt_x2 - gt_x1 + 1) * (gt_y2 - gt_y1 + 1)
    x1, y1 = det_xywh[:, 0], det_xywh[:, 1]
    x1, y1, x2, y2 = (np.float64(v)[:, None] for v in (x1, y1, x1 + det_xywh[:, 2], y1 + det_xywh[:, 3]))
    area = (x2 - x1 + 1) * (y2 - y1 + 1)

    face = np.empty(len(det_xywh), dtype=np.int64)
    step = max(1, _PAIRS_AT_ONCE // len(gt_xywh))
    for start in range(0, len(face), step):
        part = slice(start, start + step)
        width = np.minimum(x2[part], gt_x2) - np.maximum(x1[part], gt_x1) + 1  # (step, g)
        height = np.minimum(y2[part], gt_y2) - np.maximum(y1[part], gt_y1) + 1
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        union = area[part] + gt_area - inter
        iou = np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)  # union may be 0 elsewhere
        best = iou.argmax(axis=1)  # the first of equals
        face[part] = np.where(iou[np.arange(len(best)), best] >= iou_thr, best, -1)
    return face


def average_precision(curve: np.ndarray) -> float:
    """Return the area under the monotone envelope of a (n, 2) recall, precision curve with rising recall."""
    recall = np.concatenate([[0.0], curve[:, 0], [1.0]])
    precision = np.concatenate([[0.0], curve[:, 1], [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # nan stays at its start, where recall is 0
    step = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.sum((recall[step + 1] - recall[step]) * envelope[step + 1]))


def _rows(predictions: Predictions, image: WiderImage) -> np.ndarray:
    """Return the (n, 5) rows of one image."""
    try:
        rows = np.asarray(predictions[image.event][image.name])
    except KeyError:
        raise DataError(
            f"predictions lack {image.event}/{image.name}. Predict every image of the ground truth; an image "
            "without detections gets an empty (0, 5) array."
        ) from None
    if rows.size == 0:
        return np.zeros((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise DataError(f"predictions of {image.event}/{image.name}: shape {rows.shape}, expected (n, 5).")
    return rows


def _stretched_scores(predictions: Predictions) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function score -> [0, 1] over the whole set (nan if all scores are equal)."""
    arrays = [np.asarray(rows) for images in predictions.values() for rows in images.values()]
    columns = [rows[:, 4] for rows in arrays if rows.size]
    low = min((column.min() for column in columns), default=0.0)
    high = max((column.max() for column in columns), default=1.0)

    def stretch(scores: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (scores - low) / (high - low)

    return stretch


def _first_thresholds(entered: list[np.ndarray]) -> np.ndarray:
    """Return, for each detection, the index of the first threshold whose cut holds it (1000: none does)."""
    if not entered:
        return np.zeros(0, dtype=np.int64)
    scores = np.concatenate(entered)
    scores = np.where(np.isnan(scores), -1, scores)
    rising = (1 - np.arange(NUM_THRESHOLDS, 0, -1) / NUM_THRESHOLDS).astype(scores.dtype)
    return NUM_THRESHOLDS - np.searchsorted(rising, scores, side="right")


def _count(face: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return (n, 2) bool: whether a detection finds a new face that counts; whether it counts at all."""
    counts = np.empty((len(face), 2), dtype=bool)
    on_kept = kept[face] & (face >= 0)
    order = np.flatnonzero(on_kept)
    _, first = np.unique(face[order], return_index=True)
    counts[:, 0] = False
    counts[order[first], 0] = True
    counts[:, 1] = on_kept | (face < 0)
    return counts


def _curve(bins: np.ndarray, counts: list[np.ndarray], num_faces: int) -> np.ndarray:
    """Return (1000, 2) recall, precision from the counts of all detections and the cut each one enters at."""
    flags = np.concatenate(counts) if counts else np.zeros((0, 2), dtype=bool)
    found, kept = (
        np.cumsum(np.bincount(bins[flag], minlength=NUM_THRESHOLDS + 1)[:NUM_THRESHOLDS]) for flag in flags.T
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([found / num_faces, found / kept], axis=1)
