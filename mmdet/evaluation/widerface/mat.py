"""Write the four ground-truth .mat files of the WIDER protocol for any labelv2 file.

The nesting is the official one, so the official MATLAB code and every public evaluator read the files.
"""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from mmdet.datasets.labels import LabelFile, Record, read_labels
from mmdet.errors import DataError
from mmdet.evaluation.widerface.files import split_name
from mmdet.files import atomic_write

# Smallest face height, in pixels, that counts in each setting. The official lists were made by hand and
# by detectors; 99 % of their faces are at least 50, 30 and 10 px high (measured on the four .mat files).
MIN_HEIGHTS = {"easy": 50, "medium": 30, "hard": 10}


def write_wider_gt(label_file: str | Path, out_dir: str | Path) -> None:
    """Write wider_face_val.mat and wider_{easy,medium,hard}_val.mat.

    A face counts in a setting when it is at least MIN_HEIGHTS[setting] px high. Lower faces and ignore
    boxes are in the files but in no list: a detection on them is neither right nor wrong. Images that lie
    in no folder belong to the event "images".

    Args:
        label_file: labelv2 file of the images to evaluate on.
        out_dir: folder to write to, made if absent.

    Raises:
        DataError: the label file is bad, or two images have the same event and name.
        WriteError: out_dir cannot be written.
    """
    labels = read_labels(label_file, train=False)
    events = _group_by_event(labels, label_file)
    out = Path(out_dir)
    _save(out / "wider_face_val.mat", _common(events))
    for setting, min_height in MIN_HEIGHTS.items():
        lists = [
            [_count_from_1(_height(record) >= min_height, record) for record in images.values()]
            for images in events.values()
        ]
        _save(
            out / f"wider_{setting}_val.mat",
            {**_common(events), "gt_list": _cells([_cells(e) for e in lists])},
        )


def _save(path: Path, content: dict[str, np.ndarray]) -> None:
    with atomic_write(path, parents=True) as part:
        savemat(part, content, do_compression=True)


def _group_by_event(labels: LabelFile, path: str | Path) -> dict[str, dict[str, Record]]:
    """Return event -> image name without suffix -> record, both in file order."""
    events: dict[str, dict[str, Record]] = {}
    for record in labels:
        event, name = split_name(record.name)
        images = events.setdefault(event, {})
        if name in images:
            raise DataError(
                f"{path}: {record.name} and {images[name].name} differ in the suffix only; rename one"
            )
        images[name] = record
    return events


def _common(events: dict[str, dict[str, Record]]) -> dict[str, np.ndarray]:
    """Return the three variables that all four files share."""
    return {
        "event_list": _cells(list(events)),
        "file_list": _cells([_cells(list(images)) for images in events.values()]),
        "face_bbx_list": _cells([_cells([_xywh(r) for r in images.values()]) for images in events.values()]),
    }


def _cells(items: list) -> np.ndarray:
    """Return an (n, 1) cell array."""
    cells = np.empty((len(items), 1), object)
    for row, item in enumerate(items):
        cells[row, 0] = item
    return cells


def _xywh(record: Record) -> np.ndarray:
    """Return (n + m, 4): faces, then ignore boxes; int32 where exact, as in the official files."""
    bboxes = np.concatenate([record.bboxes, record.bboxes_ignore]).astype(np.float64)
    xywh = np.concatenate([bboxes[:, :2], bboxes[:, 2:] - bboxes[:, :2]], axis=1)
    whole = xywh.astype(np.int32)
    return whole if (whole == xywh).all() else xywh


def _height(record: Record) -> np.ndarray:
    return record.bboxes[:, 3] - record.bboxes[:, 1]


def _count_from_1(counts: np.ndarray, record: Record) -> np.ndarray:
    """Return the (k, 1) MATLAB indices of the faces that count."""
    dtype = np.uint8 if len(record.bboxes) < 256 else np.uint16
    return (np.flatnonzero(counts)[:, None] + 1).astype(dtype)
