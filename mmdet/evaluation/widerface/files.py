"""The files of the WIDER FACE protocol: four .mat of ground truth, one .txt of detections per image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.errors import DataError
from mmdet.evaluation.widerface.matfile import read_mat
from mmdet.files import inside, write_text

SETTINGS = ("easy", "medium", "hard")
# event -> image name without suffix -> (n, 5) x, y, w, h, score
Predictions = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class WiderImage:
    """The ground truth of one image.

    Attributes:
        event: folder name, for example "0--Parade".
        name: file name without ".jpg".
        bboxes_xywh: (n, 4) float64, pixels; some faces of the official set have no size.
        kept: per setting, (n,) bool: the faces that count; the others are ignored.
    """

    event: str
    name: str
    bboxes_xywh: np.ndarray
    kept: Mapping[str, np.ndarray]


def read_wider_gt(gt_dir: str | Path) -> list[WiderImage]:
    """Read wider_face_val.mat and wider_{easy,medium,hard}_val.mat, in the order of the files.

    Raises:
        DataError: the folder or one of the four files is missing, unreadable or disagrees with the others.
    """
    folder = Path(gt_dir)
    face_file = folder / "wider_face_val.mat"
    faces = _load_mat(face_file, ("event_list", "file_list", "face_bbx_list"))
    events = _texts(faces["event_list"], face_file)
    names = [_texts(cell, face_file) for cell in _cells(faces["file_list"], len(events), face_file)]
    sizes = [len(of_event) for of_event in names]
    bboxes = _nested(faces["face_bbx_list"], sizes, face_file)
    kept = {}
    for setting in SETTINGS:
        path = folder / f"wider_{setting}_val.mat"
        indices = _nested(_load_mat(path, ("gt_list",))["gt_list"], sizes, path)
        kept[setting] = [[_one_dimension(i, path) for i in of_event] for of_event in indices]
    return [
        _make_image(folder, event, name, bboxes[e][i], {s: lists[e][i] for s, lists in kept.items()})
        for e, event in enumerate(events)
        for i, name in enumerate(names[e])
    ]


def _make_image(
    folder: Path, event: str, name: str, bboxes: Any, indices: Mapping[str, np.ndarray]
) -> WiderImage:
    """Check one image's arrays and turn the indices of the faces that count into masks."""
    if not isinstance(bboxes, np.ndarray) or bboxes.size % 4:
        raise DataError(f"{folder}/wider_face_val.mat: {event}/{name}.jpg has no (n, 4) boxes")
    xywh = np.asarray(bboxes, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(xywh).all():
        raise DataError(f"{folder}/wider_face_val.mat: a box of {event}/{name}.jpg is not finite")
    kept = {}
    for setting, index in indices.items():
        if not ((index >= 1) & (index <= len(xywh))).all():
            raise DataError(
                f"{folder}/wider_{setting}_val.mat: gt_list does not fit {event}/{name}.jpg of "
                f"wider_face_val.mat ({len(xywh)} faces). Take all four files from one release."
            )
        kept[setting] = np.zeros(len(xywh), dtype=bool)
        kept[setting][index.astype(np.int64) - 1] = True  # MATLAB counts from 1
    return WiderImage(event, name, xywh, kept)


def _load_mat(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. The gt folder needs wider_face_val.mat, wider_easy_val.mat, "
            "wider_medium_val.mat and wider_hard_val.mat."
        )
    content = read_mat(path, keys)
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(f"{path}: no variable {missing[0]!r}; this is not a WIDER FACE ground-truth file.")
    return content


def _cells(value: Any, length: int | None, path: Path) -> list:
    """Return a cell array of a length; DataError for anything else."""
    if not isinstance(value, list) or length not in (None, len(value)):
        raise DataError(f"{path}: its cells are not nested as in WIDER FACE's ground truth")
    return value


def _texts(value: Any, path: Path) -> list[str]:
    """Return the texts of a cell array."""
    texts = _cells(value, None, path)
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{path}: a name of an event or a file is no text")
    return texts


def _nested(value: Any, sizes: Sequence[int], path: Path) -> list[list]:
    """Return a cell array of one cell array per event, with one item per image."""
    events = _cells(value, len(sizes), path)
    return [_cells(cell, size, path) for cell, size in zip(events, sizes, strict=True)]


def _one_dimension(index: Any, path: Path) -> np.ndarray:
    if not isinstance(index, np.ndarray):
        raise DataError(f"{path}: gt_list holds something else than numbers of faces")
    return index.ravel()


def split_name(name: str) -> tuple[str, str]:
    """Return the event ("images" if none) and the image name without suffix of "EVENT/NAME.jpg"."""
    event, _, file = name.rpartition("/")
    stem, dot, _ = file.rpartition(".")
    return event or "images", stem if dot else file


def require_images(gt: Sequence[WiderImage], names: Iterable[str], source: str | Path) -> None:
    """Check, before a long prediction, that a data set holds every image of the ground truth.

    Args:
        gt: from `read_wider_gt`.
        names: "EVENT/NAME.jpg" of the images to predict.
        source: the label file that lists them, for the message.

    Raises:
        DataError: some are missing; the first is named.
    """
    known = {split_name(name) for name in names}
    missing = [image for image in gt if (image.event, image.name) not in known]
    if missing:
        raise DataError(
            f"{source} lacks {len(missing)} of the {len(gt)} images of the ground truth, the first: "
            f"{missing[0].event}/{missing[0].name}. Take labels and gt folder from the same data set."
        )


def read_predictions(folder: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read EVENT/NAME.txt files: name, count, then a line "x y w h score" per face.

    Blanks at the end of a line are tolerated. The image is known by its file name, as in the official
    MATLAB code.

    Raises:
        DataError: no such folder, no .txt in it, or a file that does not hold what it announces.
    """
    root = Path(folder)
    files = sorted(root.glob("*/*.txt"))
    if not files:
        raise DataError(f"{root}: no EVENT/NAME.txt prediction files there.")
    predictions: dict[str, dict[str, np.ndarray]] = {}
    for path in files:
        predictions.setdefault(path.parent.name, {})[path.stem] = _read_prediction(path)
    return predictions


def _read_prediction(path: Path) -> np.ndarray:
    _, _, rest = path.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
    count, _, body = rest.partition("\n")
    try:
        values = list(map(float, body.split()))
        if len(values) != 5 * int(count):
            raise ValueError(f"{count.strip()} faces announced, {len(values)} numbers found")
    except ValueError as error:
        raise DataError(f"{path}: {error}. Expected: name, count, then 'x y w h score' lines.") from None
    return np.array(values, dtype=np.float64).reshape(-1, 5)


def prediction_path(folder: str | Path, event: str, name: str) -> Path:
    """Return where the detections of an image are written.

    Raises:
        DataError: the names, which come from a label file, lead out of the folder.
    """
    return inside(folder, Path(event) / f"{name}.txt")


def write_predictions(predictions: Predictions, folder: str | Path) -> None:
    """Write EVENT/NAME.txt files: coordinates with 5 decimals, scores with 6 digits, rows as given."""
    for event, images in predictions.items():
        for name, rows in images.items():
            lines = [f"{event}/{name}.jpg", str(len(rows))]
            lines += ["{:.5f} {:.5f} {:.5f} {:.5f} {:g}".format(*row) for row in np.asarray(rows).tolist()]
            path = prediction_path(folder, event, name)
            write_text(path, "\n".join(lines) + "\n", parents=True, durable=False)  # thousands of files
