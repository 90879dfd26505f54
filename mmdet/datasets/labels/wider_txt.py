"""The text labels of WIDER FACE itself (wider_face_train_bbx_gt.txt): boxes with flags, no points, no sizes.

0--Parade/0_Parade_marchingband_1_849.jpg        the name, which may hold blanks
1                                                number of faces
449 330 122 149 0 0 0 0 0 0                      x y w h blur expression illumination invalid occlusion pose
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdet.datasets.labels.base import (
    DEFAULT_CLASSES,
    DEFAULT_NUM_KPS,
    LabelFile,
    LabelledFace,
    join_records,
    make_record,
)
from mmdet.datasets.labels.text import read_text
from mmdet.errors import ConfigError, DataError
from mmdet.files import write_text

FLAGS = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")


def read_wider_txt(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
    ignore: Sequence[str] = ("invalid=1",),
) -> LabelFile:
    """Read WIDER FACE's own label file; faces without a size are left out and counted.

    Args:
        path: the file.
        train: not read; the format is the same for training and test.
        classes: class names; every face is the first.
        num_kps: K of the result; the format has no points.
        ignore: "FLAG=LEAST", the flags from which on a face becomes an ignore box, for example "blur=2".

    Raises:
        ConfigError: an unknown flag.
        DataError: the file is missing, not text, or has a bad line (file:line and reason).
    """
    limits = [_read_limit(text) for text in ignore]
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    records, lost, at = [], Counter[str](), 0
    while at < len(lines):
        name, count = lines[at], _read_count(lines, at + 1, path)
        if not name:
            raise DataError(f"{path}:{at + 1}: expected the name of an image, got an empty line")
        at += 2
        rows = [_read_row(lines, at + i, path) for i in range(count)]
        sized = [row for row in rows if min(row[2:4]) > 0]
        lost["faces without a size"] += len(rows) - len(sized)
        faces = [
            LabelledFace(
                (x, y, x + w, y + h), is_ignored=any(flags[place] >= least for place, least in limits)
            )
            for x, y, w, h, *flags in sized
        ]
        records.append(make_record(name, faces, num_kps, None, str(path)))
        at += count
        if not count and at < len(lines) and set(lines[at].split()) == {"0"}:
            at += 1  # an image without faces has a line of zeros
    return join_records(records, num_kps, classes or DEFAULT_CLASSES, +lost)


def write_wider_txt(labels: LabelFile, path: str | Path) -> None:
    """Write labels in this format; ignore boxes are marked invalid.

    Raises:
        WriteError: the file cannot be written.
    """
    lines = []
    for record in labels:
        lines += [record.name, str(len(record.bboxes) + len(record.bboxes_ignore))]
        for bboxes, invalid in ((record.bboxes, 0), (record.bboxes_ignore, 1)):
            for x1, y1, x2, y2 in bboxes.astype(np.float64):
                lines.append(f"{x1:g} {y1:g} {x2 - x1:g} {y2 - y1:g} 0 0 0 {invalid} 0 0")
        if lines[-1] == "0":
            lines.append("0 0 0 0 0 0 0 0 0 0")
    write_text(path, "".join(f"{line}\n" for line in lines))


def _read_limit(text: str) -> tuple[int, int]:
    """Return the place of a flag and its least value from "FLAG=LEAST" or "FLAG"."""
    name, _, least = text.partition("=")
    if name not in FLAGS or not (least or "1").isdecimal():
        raise ConfigError(f"ignore = {text!r}: expected FLAG or FLAG=LEAST with a flag of {', '.join(FLAGS)}")
    return FLAGS.index(name), int(least or 1)


def _read_count(lines: Sequence[str], at: int, path: str | Path) -> int:
    if at < len(lines) and lines[at].isdecimal() and len(lines[at]) < 8:
        return int(lines[at])
    got = repr(lines[at][:60]) if at < len(lines) else "the end of the file"
    raise DataError(f"{path}:{at + 1}: expected the number of faces, got {got}")


def _read_row(lines: Sequence[str], at: int, path: str | Path) -> list[float]:
    try:
        row = [float(word) for word in lines[at].split()]
    except (IndexError, ValueError):
        row = []
    if len(row) not in (4, 10) or not np.isfinite(row).all():
        got = repr(lines[at][:60]) if at < len(lines) else "the end of the file"
        raise DataError(f"{path}:{at + 1}: expected x y w h and six flags, got {got}")
    return row if len(row) == 10 else row + [0.0] * 6
