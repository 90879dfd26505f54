"""COCO JSON: images, annotations and categories in one file.

A box is x y w h; iscrowd=1 becomes an ignore box; a keypoint is x, y, v with v=0 for "not labelled".
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.datasets.labels.base import (
    DEFAULT_NUM_KPS,
    ClassIndex,
    LabelFile,
    LabelledFace,
    Record,
    join_records,
    make_record,
)
from mmdet.datasets.labels.text import read_text
from mmdet.errors import DataError
from mmdet.files import write_text

IDS = ("id", "name", "file_name", "image_id", "category_id")  # keys whose values are numbers or text


def read_coco(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a COCO file; annotations of categories beyond `classes` are left out and counted.

    Args:
        path: the file.
        train: not read; the format is the same for training and test.
        classes: category names to take; None: all, in the order of their ids.
        num_kps: keypoints an annotation must have, if it has any.

    Raises:
        DataError: the file is missing, no JSON, or an entry has another shape (file, entry, key).
    """
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations")
    ):
        raise DataError(f'{path}: expected a dict with lists "images", "annotations", "categories"')
    names = {
        c["id"]: str(c["name"])
        for c in _dicts(content.get("categories", []), ("id", "name"), path, "categories")
    }
    index = ClassIndex(classes or [names[key] for key in sorted(names, key=str)] or ["face"])
    listed = _dicts(content["images"], ("id", "file_name"), path, "images")
    images = {image["id"]: image for image in listed}
    if len(images) < len(listed):
        num = len(listed) - len(images)
        raise DataError(f"{path}: images: {num} have the id of another one; give each its own")
    faces: dict[Any, list[LabelledFace]] = {key: [] for key in images}
    lost = Counter[str]()
    for number, one in enumerate(_dicts(content["annotations"], ("image_id", "bbox"), path, "annotations")):
        where = f"{path}: annotations[{number}]"
        if one["image_id"] not in images:
            raise DataError(f"{where}: image_id {one['image_id']!r} is none of the images")
        label = index.get(names.get(one.get("category_id"), index.names[0]))
        lost["polygons or masks"] += bool(one.get("segmentation"))
        if label is not None:
            faces[one["image_id"]].append(_read_face(one, label, num_kps, where))
    lost["annotations of other categories"] += index.unknown
    records = [
        make_record(
            str(image["file_name"]), faces[key], num_kps, read_size(image, "height", "width"), str(path)
        )
        for key, image in images.items()
    ]
    return join_records(records, num_kps, index.names, +lost)


def write_coco(labels: LabelFile, path: str | Path) -> None:
    """Write labels in this format.

    Raises:
        WriteError: the file cannot be written.
    """
    annotations: list[dict] = []
    for number, record in enumerate(labels, start=1):
        for one in _annotations(record):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **one})
    images = [
        {
            "id": number,
            "file_name": r.name,
            **(dict(zip(("height", "width"), r.size_hw, strict=True)) if r.size_hw else {}),
        }
        for number, r in enumerate(labels, start=1)
    ]
    points = [f"point{i}" for i in range(labels.num_kps)]
    categories = [{"id": i, "name": name, "keypoints": points} for i, name in enumerate(labels.classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def load_json(path: str | Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: the file is missing or no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def read_size(image: dict, height: str, width: str) -> tuple[int, int] | None:
    """Return height and width of a dict with these keys, None where they are no positive whole numbers."""
    size = image.get(height), image.get(width)
    return size if all(type(side) is int and 0 < side < 2**31 for side in size) else None  # type: ignore[return-value]


def read_floats(values: Any, count: int, where: str) -> list[float]:
    """Return `count` numbers of a JSON list."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count:
        raise DataError(f"{where}: expected {count} numbers, got {str(values)[:60]}")
    return numbers


def _dicts(items: Any, keys: Sequence[str], path: str | Path, name: str) -> list[dict]:
    """Return a list of dicts that have these keys, the ids among them numbers or text."""
    for place, item in enumerate(items if isinstance(items, list) else [None]):
        is_good = isinstance(item, dict) and all(key in item for key in keys)
        if not is_good or any(not isinstance(item.get(key, 0), int | str) for key in IDS):
            raise DataError(
                f"{path}: {name}[{place}] lacks one of {', '.join(keys)}, or it is no number or text"
            )
    return items


def _read_face(one: dict, label: int, num_kps: int, where: str) -> LabelledFace:
    x, y, width, height = read_floats(one["bbox"], 4, f"{where}.bbox")
    kps = None
    if one.get("keypoints"):
        found = len(one["keypoints"]) // 3 if isinstance(one["keypoints"], list) else 0
        if found != num_kps:
            raise DataError(f"{where}: {found} keypoints, expected {num_kps}; set num_kps (--num-kps)")
        kps = np.array(read_floats(one["keypoints"], 3 * num_kps, f"{where}.keypoints")).reshape(-1, 3)
        kps[:, 2] = kps[:, 2] > 0
    return LabelledFace((x, y, x + width, y + height), label, kps, bool(one.get("iscrowd")))


def _annotations(record: Record) -> list[dict]:
    found = []
    for bboxes, is_crowd in ((record.bboxes, 0), (record.bboxes_ignore, 1)):
        for row, (x1, y1, x2, y2) in enumerate(bboxes.tolist()):
            one: dict = {
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": is_crowd,
            }
            one["category_id"] = 0 if is_crowd else int(record.labels[row])
            if not is_crowd and (record.kps[row, :, 2] > 0).any():
                points = [[x, y, 2] if weight else [0, 0, 0] for x, y, weight in record.kps[row].tolist()]
                one["keypoints"] = [value for point in points for value in point]
                one["num_keypoints"] = int((record.kps[row, :, 2] > 0).sum())
            found.append(one)
    return found
