"""The JSON labels of ternaus/retinaface: a list of images with their faces; sizes are not in the file.

    [{"file_name": "ev/a.jpg", "annotations": [
        {"bbox": [x1, y1, x2, y2], "landmarks": [[x, y], [x, y], [x, y], [x, y], [x, y]]}, ...]}, ...]

A face has no keypoints if "landmarks" is missing or empty, or if its first x is negative (the original's
rule; it trains the first two kinds as background, by mistake).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.datasets.labels.base import DEFAULT_CLASSES, DEFAULT_NUM_KPS, LabelFile, Record, join_records
from mmdet.datasets.labels.text import read_text
from mmdet.errors import DataError
from mmdet.files import write_text

_NO_KPS = -1.0


def read_ternaus_json(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a JSON label file; boxes are as written, also beyond the image (transform ClipLabels).

    Args:
        path: the file.
        train: not read; the format is the same for training and test.
        classes: class names; every face is the first.
        num_kps: points a face must have, if it has any.

    Raises:
        DataError: the file is missing, no JSON, or an entry has another shape (file, entry, key).
    """
    images = _load(Path(path))
    records = [_read_image(image, f"{path}: entry {index}", num_kps) for index, image in enumerate(images)]
    return join_records(records, num_kps, classes or DEFAULT_CLASSES)


def write_ternaus_json(labels: LabelFile, path: str | Path) -> None:
    """Write labels in this format; ignore boxes are left out, since it has none.

    Raises:
        WriteError: the file cannot be written.
    """
    images = [{"file_name": r.name, "annotations": _annotations(r)} for r in labels]
    write_text(path, json.dumps(images) + "\n")


def _annotations(record: Record) -> list[dict[str, Any]]:
    annotations = []
    for bbox, kps in zip(record.bboxes, record.kps, strict=True):
        points = kps[:, :2] if (kps[:, 2] > 0).all() else np.full((len(kps), 2), _NO_KPS)
        annotations.append({"bbox": _numbers(bbox), "landmarks": [_numbers(point) for point in points]})
    return annotations


def _numbers(values: np.ndarray) -> list[float]:
    """Return the shortest decimal numbers that read back equal."""
    return [float(str(value)) for value in values]


def _load(path: Path) -> list:
    try:
        images = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(images, list) or not images:
        raise DataError(f'{path}: expected a list of {{"file_name": ..., "annotations": [...]}}')
    return images


def _read_image(image: Any, where: str, num_kps: int) -> Record:
    name = image.get("file_name") if isinstance(image, dict) else None
    if not isinstance(name, str) or not name:
        raise DataError(f'{where}: key "file_name" is missing or no text')
    where = f"{where} ({name})"
    faces = image.get("annotations")
    if not isinstance(faces, list):
        raise DataError(f'{where}: key "annotations" is missing or no list')
    bboxes = np.zeros((len(faces), 4), np.float32)
    kps = np.zeros((len(faces), num_kps, 3), np.float32)
    for number, face in enumerate(faces):
        place = f"{where}, annotation {number}"
        if not isinstance(face, dict) or "bbox" not in face:
            raise DataError(f'{place}: key "bbox" is missing')
        bboxes[number] = _array(face["bbox"], (4,), f'{place}, "bbox"')
        if face.get("landmarks"):
            points = _array(face["landmarks"], (num_kps, 2), f'{place}, "landmarks"')
            kps[number, :, :2], kps[number, :, 2] = points, points[0, 0] >= 0
    kps[kps[..., 2] == 0] = 0
    none = np.zeros((0, 4), np.float32)
    return Record(name, bboxes, np.zeros(len(faces), np.int64), kps, none)


def _array(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return numbers of a shape, all finite."""
    try:
        array = np.array(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0, np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        expected = " x ".join(map(str, shape))
        raise DataError(f"{where} = {str(value)[:80]}: expected {expected} numbers")
    return array
