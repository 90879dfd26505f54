"""YOLO labels: one text file per image, coordinates as shares of the image's sides.

    0 0.5 0.5 0.1 0.2                  class, centre, size
    0 0.5 0.5 0.1 0.2  x y  x y ...    and K points (15 columns for five; 14 without the class)
    0 0.5 0.5 0.1 0.2  x y v  x y v    and a flag per point (20 columns): v = 0 is "not labelled"

A point with a negative coordinate is not labelled. images/ stands beside labels/, or the images lie beside
the text files. Class names come from classes.txt or data.yaml, one level up or two.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdet.datasets.labels.base import DEFAULT_NUM_KPS, LabelFile, LabelledFace, join_records, make_record
from mmdet.datasets.labels.text import read_text
from mmdet.errors import DataError
from mmdet.files import write_text
from mmdet.images import read_image_size
from mmdet.plain_yaml import load_yaml

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".JPG", ".JPEG", ".PNG")
MAX_CLASSES = 10_000
_NO_LABELS = ("classes.txt", "README.txt", "requirements.txt", "train.txt", "val.txt", "test.txt")


def read_yolo(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a folder of YOLO label files; the images are needed for their sizes.

    Args:
        path: the folder of the text files, searched in depth.
        train: not read; the format is the same for training and test.
        classes: class names by index; None: of classes.txt or data.yaml, else "class 0", ...
        num_kps: K.

    Raises:
        DataError: no files, a bad line (file:line and reason), or a missing image.
    """
    root = Path(path)
    files = sorted(f for f in root.rglob("*.txt") if f.name not in _NO_LABELS) if root.is_dir() else []
    if not files:
        raise DataError(f"{root}: no folder with YOLO .txt files")
    records, most = [], 0
    for file in files:
        image, name = _find_image(root, file)
        height, width = read_image_size(image)
        faces = []
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            if line.strip():
                faces.append(_read_face(line, num_kps, (width, height), f"{file}:{number}"))
        most = max([most, *(face.label for face in faces)])
        records.append(make_record(name, faces, num_kps, (height, width), str(file)))
    names = list(classes or _class_names(root) or (f"class {i}" for i in range(most + 1)))
    if most >= len(names):
        raise DataError(f"{root}: class {most} occurs, but there are {len(names)} class names")
    return join_records(records, num_kps, names)


def write_yolo(labels: LabelFile, path: str | Path) -> None:
    """Write path/NAME.txt per image and path/classes.txt; 5 columns, or 5 + 3K where any face has points.

    Raises:
        DataError: an image's size is unknown.
        WriteError: a file cannot be written.
    """
    root, with_kps = Path(path), bool((labels.kps[..., 2] > 0).any())
    for record in labels:
        if record.size_hw is None:
            raise DataError(f"{path}: the size of {record.name} is unknown; YOLO needs it")
        height, width = record.size_hw
        lines = []
        for bbox, label, kps in zip(record.bboxes, record.labels, record.kps, strict=True):
            x1, y1, x2, y2 = bbox / np.array((width, height, width, height), np.float64)
            values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            for x, y, weight in kps.tolist() if with_kps else ():
                values += [x / width, y / height, 2] if weight else [0, 0, 0]
            lines.append(" ".join([str(label), *(f"{value:.9g}" for value in values)]))
        write_text(
            root / Path(record.name).with_suffix(".txt"), "".join(f"{line}\n" for line in lines), parents=True
        )
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in labels.classes), parents=True)


def _find_image(root: Path, file: Path) -> tuple[Path, str]:
    """Return the image of a label file, and its name relative to the images' folder."""
    below = file.relative_to(root)
    folders = [root.parent / "images" if root.name == "labels" else root, root, root / "images"]
    if "labels" in below.parts:  # labels/train/a.txt of a data set's root
        below = Path(*("images" if part == "labels" else part for part in below.parts))
    for folder in folders:
        for suffix in SUFFIXES:
            name = below.with_suffix(suffix)
            if (folder / name).is_file():
                return folder / name, name.as_posix()
    raise DataError(
        f"{file}: no image of this name in {' or '.join(map(str, folders[:2]))}; YOLO sizes need it"
    )


def _read_face(line: str, num_kps: int, size_wh: tuple[int, int], where: str) -> LabelledFace:
    try:
        row = [float(word) for word in line.split()]
    except ValueError:
        raise DataError(f"{where}: not a number in {line[:60]!r}") from None
    if num_kps and len(row) == 4 + 2 * num_kps:
        row = [0.0, *row]
    num_points = len(row) - 5
    if num_points not in (0, 2 * num_kps, 3 * num_kps):
        known = f"5, {5 + 2 * num_kps} or {5 + 3 * num_kps} (num_kps={num_kps})"
        raise DataError(f"{where}: {len(row)} columns; expected {known}")
    if not np.isfinite(row).all() or row[0] != int(row[0]) or row[0] < 0:
        raise DataError(f"{where}: expected a class index and finite numbers, got {line[:60]!r}")
    if row[0] >= MAX_CLASSES:
        raise DataError(f"{where}: class {row[0]:g}; at most {MAX_CLASSES} classes are read")
    if min(row[3:5]) < 0:
        raise DataError(f"{where}: box {row[1:5]} has a negative size")
    if max(map(abs, row[1:5])) > 2:
        raise DataError(f"{where}: box {row[1:5]} is in pixels; YOLO writes shares of the image's sides")
    width, height = size_wh
    x, y, w, h = row[1:5]
    kps = None
    if num_points:
        kps = np.array(row[5:]).reshape(num_kps, -1)
        is_labelled = (kps[:, :2] >= 0).all(1) & (kps[:, 2] > 0 if kps.shape[1] == 3 else True)
        kps = np.column_stack([kps[:, :2] * size_wh, is_labelled]) * is_labelled[:, None]
    bbox = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return LabelledFace(bbox, int(row[0]), kps)


def _class_names(root: Path) -> list[str]:
    for folder in (root, root.parent, root.parent.parent):
        if (folder / "classes.txt").is_file():
            names = [name.strip() for name in read_text(folder / "classes.txt").rstrip().split("\n")]
            if "" in names:
                raise DataError(f"{folder / 'classes.txt'}:{names.index('') + 1}: expected a class name")
            return names
        if (folder / "data.yaml").is_file():
            try:
                content = load_yaml(read_text(folder / "data.yaml"))
            except ValueError as error:
                raise DataError(f"{folder / 'data.yaml'}: not YAML ({error})".split("\n")[0]) from None
            names = content.get("names", []) if isinstance(content, dict) else []
            return [str(name) for name in (names.values() if isinstance(names, dict) else names)]
    return []
