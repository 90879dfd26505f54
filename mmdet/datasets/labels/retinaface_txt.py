"""The text labels of biubug6/Pytorch_Retinaface and of RetinaFace's release; sizes are not in the file.

# event/name.jpg                                the rest of the line is the name; it may hold blanks
x y w h  x y v  x y v  x y v  x y v  x y v  s   box, five points (-1 -1 -1: not annotated), a last score
x y w h                                         a face without points
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdet.datasets.labels.base import DEFAULT_CLASSES, DEFAULT_NUM_KPS, LabelFile, Record, join_records
from mmdet.datasets.labels.text import read_text
from mmdet.errors import DataError
from mmdet.files import write_text


def read_retinaface_txt(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a text label file; boxes become x, y, x + w, y + h.

    Args:
        path: the file.
        train: not read; the format is the same for training and test.
        classes: class names; every face is the first.
        num_kps: points of a line with points.

    Raises:
        DataError: the file is missing, not text, empty, or has a bad line (file:line and reason).
    """
    path = Path(path)
    lines = read_text(path).split("\n")
    faces_of: dict[str, list[list[float]]] = {}
    faces: list[list[float]] | None = None
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            name = line[1:].strip()
            if name in faces_of:
                raise DataError(f"{path}:{number}: {name} is listed more than once")
            faces = faces_of[name] = []
        elif line.strip():
            if faces is None:
                raise DataError(f"{path}:{number}: expected '# name' first, got {line[:60]!r}")
            faces.append(_read_face(line, num_kps, f"{path}:{number}"))
    if not faces_of:
        raise DataError(f"{path} is empty; expected lines '# name' and faces below each")
    records = [_make_record(name, faces, num_kps) for name, faces in faces_of.items()]
    return join_records(records, num_kps, classes or DEFAULT_CLASSES)


def write_retinaface_txt(labels: LabelFile, path: str | Path) -> None:
    """Write labels in this format; ignore boxes are left out, since it has none.

    Raises:
        WriteError: the file cannot be written.
    """
    lines = []
    for record in labels:
        lines.append(f"# {record.name}")
        for bbox, kps in zip(record.bboxes, record.kps, strict=True):
            box = (*bbox[:2], *(bbox[2:] - bbox[:2]))
            points = [(x, y, 0.0) if weight else (-1.0, -1.0, -1.0) for x, y, weight in kps]
            values = [*box, *(value for point in points for value in point), 1.0]
            lines.append(" ".join(str(np.float32(value)).removesuffix(".0") for value in values))
    write_text(path, "".join(f"{line}\n" for line in lines))


def _read_face(line: str, num_kps: int, where: str) -> list[float]:
    """Return x1, y1, x2, y2 and 3 numbers per point."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        raise DataError(f"{where}: not a number in {line[:60]!r}") from None
    full = 4 + 3 * num_kps
    if len(values) != 4 and len(values) not in (full, full + 1):
        raise DataError(f"{where}: {len(values)} values; expected x y w h and {num_kps} times x y v, or 4")
    if not np.isfinite(values).all() or min(values[2:4]) < 0:
        raise DataError(f"{where}: box {values[:4]} is not finite or has a negative size")
    x, y, width, height = values[:4]
    points = values[4:full] if len(values) > 4 else [-1.0] * (3 * num_kps)
    return [x, y, x + width, y + height, *points]


def _make_record(name: str, faces: list[list[float]], num_kps: int) -> Record:
    rows = np.array(faces, np.float64).reshape(-1, 4 + 3 * num_kps)
    kps = rows[:, 4:].reshape(-1, num_kps, 3).copy()
    is_missing = (kps[..., :2] == -1).all(axis=2)
    kps[..., 2] = ~is_missing
    kps[is_missing] = 0
    none = np.zeros((0, 4), np.float32)
    return Record(name, rows[:, :4], np.zeros(len(rows), np.int64), kps, none)
