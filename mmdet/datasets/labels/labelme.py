"""LabelMe JSON: one file per image with shapes; keypoints are points of the same group_id as their box.

A rectangle is a box, a polygon becomes the box around it. The flag "ignore" makes an ignore box.
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
from mmdet.datasets.labels.coco import load_json, read_floats, read_size
from mmdet.errors import DataError
from mmdet.files import write_text


def read_labelme(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a folder of LabelMe files, searched in depth.

    Args:
        path: the folder.
        train: not read; the format is the same for training and test.
        classes: labels to take; None: all labels of boxes, in order of appearance.
        num_kps: points of a face that has any; groups of another number are counted, not carried.

    Raises:
        DataError: no JSON file, or one that is no LabelMe file.
    """
    root, index, lost, records = Path(path), ClassIndex(classes), Counter[str](), []
    files = sorted(root.rglob("*.json")) if root.is_dir() else []
    if not files:
        raise DataError(f"{root}: no folder with LabelMe .json files")
    for file in files:
        content = load_json(file)
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not isinstance(content.get("imagePath"), str):
            raise DataError(f'{file}: expected a dict with "imagePath" and a list "shapes"')
        image = content["imagePath"].replace("\\", "/").rsplit("/", 1)[-1]
        faces = _read_faces(shapes, index, num_kps, lost, str(file))
        size_hw = read_size(content, "imageHeight", "imageWidth")
        name = (file.parent.relative_to(root) / image).as_posix()
        records.append(make_record(name, faces, num_kps, size_hw, str(file)))
    lost["shapes of other labels"] = index.unknown
    return join_records(records, num_kps, index.names or ["face"], +lost)


def write_labelme(labels: LabelFile, path: str | Path) -> None:
    """Write path/NAME.json per image.

    Raises:
        WriteError: a file cannot be written.
    """
    for record in labels:
        height, width = record.size_hw or (None, None)
        content: dict[str, Any] = {
            "version": "5.0.0",
            "flags": {},
            "shapes": _shapes(record, labels.classes),
            "imagePath": Path(record.name).name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        target = Path(path) / Path(record.name).with_suffix(".json")
        write_text(target, json.dumps(content, ensure_ascii=False) + "\n", parents=True)


def _read_faces(
    shapes: list, index: ClassIndex, num_kps: int, lost: Counter[str], file: str
) -> list[LabelledFace]:
    points: dict[Any, list[list[float]]] = {}
    boxes: list[tuple[Any, list[float], int, bool]] = []
    for place, shape in enumerate(shapes):
        where = f"{file}: shapes[{place}]"
        corners = shape.get("points") if isinstance(shape, dict) else None
        if not isinstance(corners, list) or not corners:
            raise DataError(f'{where}: "points" is missing or empty')
        found = np.array([read_floats(corner, 2, where) for corner in corners])
        group, kind, flags = shape.get("group_id"), shape.get("shape_type", "polygon"), shape.get("flags")
        if not isinstance(flags, dict | None):
            raise DataError(f'{where}: "flags" is no object of flags')
        if kind == "point":
            if isinstance(group, int):
                points.setdefault(group, []).append(found[0].tolist())
            else:
                lost["points without a group"] += 1
        elif kind in ("rectangle", "polygon") and len(found) > 1:
            lost["polygons, taken as the box around them"] += kind == "polygon"
            label = index.get(str(shape.get("label", "face")))
            if label is not None:
                is_ignored = bool(flags and flags.get("ignore"))
                boxes.append((group, [*found.min(0), *found.max(0)], label, is_ignored))
        else:
            lost[f"shapes of type {kind}"] += 1
    faces = []
    for group, bbox, label, is_ignored in boxes:
        kps = points.pop(group, None) if isinstance(group, int) else None
        if kps is not None and len(kps) != num_kps:
            lost[f"faces with other than {num_kps} points"] += 1
            kps = None
        faces.append(
            LabelledFace(bbox, label, None if kps is None else np.array([[*p, 1] for p in kps]), is_ignored)
        )
    lost["points without a box"] += sum(map(len, points.values()))
    return faces


def _shapes(record: Record, classes: Sequence[str]) -> list[dict]:
    def shape(kind: str, label: str, points: list, group: int | None, **flags: bool) -> dict:
        return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": flags}

    shapes = []
    for group, (bbox, label, kps) in enumerate(zip(record.bboxes, record.labels, record.kps, strict=True)):
        has_kps = len(kps) > 0 and bool((kps[:, 2] > 0).all())
        corners = bbox.reshape(2, 2).tolist()
        shapes.append(shape("rectangle", classes[label], corners, group if has_kps else None))
        for place, point in enumerate(kps[:, :2].tolist() if has_kps else ()):
            shapes.append(shape("point", f"kps{place}", [point], group))
    for bbox in record.bboxes_ignore:
        shapes.append(shape("rectangle", classes[0], bbox.reshape(2, 2).tolist(), None, ignore=True))
    return shapes
