"""Write the four ground-truth .mat files of the WIDER protocol for a label file.

The nesting is the official one, so the official MATLAB code and every public evaluator read the files.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from mmdet.datasets.labels import read_labels
from mmdet.evaluation.widerface.files import SETTINGS, WiderImage
from mmdet.evaluation.widerface.from_labels import make_wider_gt
from mmdet.files import atomic_write


def write_wider_gt(label_file: str | Path, out_dir: str | Path) -> None:
    """Write wider_face_val.mat and wider_{easy,medium,hard}_val.mat; `make_wider_gt` says which faces count.

    Args:
        label_file: labelv2 file of the images to evaluate on.
        out_dir: folder to write to, made if absent.

    Raises:
        DataError: the label file is bad, or two images have the same event and name.
        WriteError: out_dir cannot be written.
    """
    images = make_wider_gt(read_labels(label_file, train=False), label_file)
    events = [list(group) for _, group in groupby(images, key=lambda image: image.event)]
    out = Path(out_dir)
    _save(out / "wider_face_val.mat", _common(events))
    for setting in SETTINGS:
        lists = [_cells([_count_from_1(image.kept[setting]) for image in event]) for event in events]
        _save(out / f"wider_{setting}_val.mat", {**_common(events), "gt_list": _cells(lists)})


def _save(path: Path, content: dict[str, np.ndarray]) -> None:
    from scipy.io import savemat  # here: training needs no scipy

    with atomic_write(path, parents=True) as part:
        savemat(part, content, do_compression=True)


def _common(events: Sequence[Sequence[WiderImage]]) -> dict[str, np.ndarray]:
    """Return the three variables that all four files share."""
    return {
        "event_list": _cells([event[0].event for event in events]),
        "file_list": _cells([_cells([image.name for image in event]) for event in events]),
        "face_bbx_list": _cells([_cells([_exact(image.bboxes_xywh) for image in event]) for event in events]),
    }


def _cells(items: list) -> np.ndarray:
    """Return an (n, 1) cell array."""
    cells = np.empty((len(items), 1), object)
    for row, item in enumerate(items):
        cells[row, 0] = item
    return cells


def _exact(xywh: np.ndarray) -> np.ndarray:
    """Return int32 where that is exact, as in the official files."""
    whole = xywh.astype(np.int32)
    return whole if (whole == xywh).all() else xywh


def _count_from_1(is_kept: np.ndarray) -> np.ndarray:
    """Return the (k, 1) MATLAB indices of the faces that count."""
    dtype = np.uint8 if len(is_kept) < 256 else np.uint16
    return (np.flatnonzero(is_kept)[:, None] + 1).astype(dtype)
