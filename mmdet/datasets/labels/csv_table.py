"""Labels as a CSV table with named columns, one face a row.

    image,x1,y1,x2,y2,class,ignore,width,height,kps0_x,kps0_y,...

Needed: the image (image, filename, file or path) and a box: x1 y1 x2 y2 (or xmin ymin xmax ymax) or x y w h.
The others may be missing or empty; a row without a box is an image without faces.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdet.datasets.labels.base import (
    DEFAULT_NUM_KPS,
    ClassIndex,
    LabelFile,
    LabelledFace,
    join_records,
    make_record,
)
from mmdet.datasets.labels.labelv2 import number
from mmdet.datasets.labels.text import read_text
from mmdet.errors import DataError
from mmdet.files import write_text

_SAME = {"filename": "image", "file": "image", "path": "image", "label": "class", "xmin": "x1", "ymin": "y1"}
_SAME |= {"xmax": "x2", "ymax": "y2"}


def read_csv(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a CSV file; columns of unknown names are counted as not carried over.

    Args:
        path: the file.
        train: not read; the format is the same for training and test.
        classes: names of column "class" to take; None: all, in order of appearance.
        num_kps: K; columns kps0_x ... are read up to it.

    Raises:
        DataError: the file is missing, lacks a column, or has a bad value (file:line and reason).
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    index, lost, columns = ClassIndex(classes), Counter[str](), list[str]()
    faces: dict[str, list[LabelledFace]] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not columns:
                columns = _read_columns(row, num_kps, lost, where)
                continue
            if not any(row):
                continue
            if len(row) != len(columns):
                raise DataError(f"{where}: {len(row)} values for {len(columns)} columns")
            values = dict(zip(columns, (text.strip() for text in row), strict=True))
            name = values["image"].replace("\\", "/")
            if not name:
                raise DataError(f"{where}: no image name")
            size = _read_size(values, where)
            if sizes.setdefault(name, size) != size and size:
                raise DataError(f"{where}: {name} has another width or height than in its rows above")
            faces.setdefault(name, []).extend(_read_face(values, index, num_kps, where))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from None
    if not columns:
        raise DataError(f"{path} is empty; expected a line of column names")
    lost["faces of other classes"] = index.unknown
    records = [make_record(name, found, num_kps, sizes[name], str(path)) for name, found in faces.items()]
    return join_records(records, num_kps, index.names or ["face"], +lost)


def write_csv(labels: LabelFile, path: str | Path) -> None:
    """Write labels in this format.

    Raises:
        WriteError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    points = [f"kps{i}_{axis}" for i in range(labels.num_kps) for axis in "xy"]
    rows.writerow(["image", "x1", "y1", "x2", "y2", "class", "ignore", "width", "height", *points])
    for record in labels:
        size = [str(side) for side in reversed(record.size_hw)] if record.size_hw else ["", ""]
        for bbox, label, kps in zip(record.bboxes, record.labels, record.kps, strict=True):
            values = [number(v) if w else "" for x, y, w in kps for v in (x, y)]
            rows.writerow([record.name, *map(number, bbox), labels.classes[label], 0, *size, *values])
        for bbox in record.bboxes_ignore:
            rows.writerow([record.name, *map(number, bbox), labels.classes[0], 1, *size, *[""] * len(points)])
        if not len(record.bboxes) + len(record.bboxes_ignore):
            rows.writerow([record.name, "", "", "", "", "", "", *size, *[""] * len(points)])
    write_text(path, text.getvalue())


def _read_columns(row: Sequence[str], num_kps: int, lost: Counter[str], where: str) -> list[str]:
    names = [_SAME.get(name.strip().lower(), name.strip().lower()) for name in row]
    points = {f"kps{i}_{axis}" for i in range(num_kps) for axis in "xy"}
    known = {
        "image",
        "x1",
        "y1",
        "x2",
        "y2",
        "x",
        "y",
        "w",
        "h",
        "class",
        "ignore",
        "width",
        "height",
        *points,
    }
    if "image" not in names or not any(set(box) <= set(names) for box in ("xywh", ("x1", "y1", "x2", "y2"))):
        raise DataError(
            f"{where}: columns {', '.join(row)[:80]!r}; needed: image, and x1 y1 x2 y2 or x y w h"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{where}: a column occurs twice in {', '.join(row)[:80]!r}")
    for name in names:
        if name not in known:
            lost[f"column {name}"] = 1
    return names


def _read_size(values: Mapping[str, str], where: str) -> tuple[int, int] | None:
    sides = [_read_float(values, key, where) for key in ("height", "width")]
    return (int(sides[0]), int(sides[1])) if all(1 <= side < 2**31 for side in sides) else None


def _read_face(values: Mapping[str, str], index: ClassIndex, num_kps: int, where: str) -> list[LabelledFace]:
    """Return the face of a row, or none."""
    keys = ("x1", "y1", "x2", "y2") if "x1" in values else ("x", "y", "w", "h")
    bbox = [_read_float(values, key, where) for key in keys]
    if np.isnan(bbox).all():
        return []
    if np.isnan(bbox).any():
        raise DataError(f"{where}: the box has {', '.join(values[key] or 'nothing' for key in keys)}")
    if keys[2] == "w":
        bbox[2:] = bbox[0] + bbox[2], bbox[1] + bbox[3]
    label = index.get(values.get("class") or (index.names[0] if index.names else "face"))
    kps = np.array(
        [[_read_float(values, f"kps{i}_{axis}", where) for axis in "xy"] for i in range(num_kps)]
    ).reshape(-1, 2)
    is_labelled = ~np.isnan(kps).any(1)
    kps = np.column_stack([np.where(is_labelled[:, None], kps, 0), is_labelled])
    is_ignored = values.get("ignore", "").lower() in ("1", "true", "yes")
    return [] if label is None else [LabelledFace(bbox, label, kps, is_ignored)]


def _read_float(values: Mapping[str, str], key: str, where: str) -> float:
    """Return the number in a column, nan if the column is missing or empty."""
    text = values.get(key, "")
    try:
        return float(text) if text else float("nan")
    except ValueError:
        raise DataError(f"{where}: {key} = {text[:40]!r} is not a number") from None
