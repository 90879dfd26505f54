"""The files of the WIDER FACE protocol: four .mat of ground truth, one .txt of detections per image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet.errors import DataError
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
    faces = _load_mat(folder / "wider_face_val.mat", ("event_list", "file_list", "face_bbx_list"))
    lists = {s: _load_mat(folder / f"wider_{s}_val.mat", ("gt_list",))["gt_list"] for s in SETTINGS}
    images = []
    for e, event_cell in enumerate(faces["event_list"]):
        event = str(event_cell[0][0])
        for i, name_cell in enumerate(faces["file_list"][e][0]):
            name = str(name_cell[0][0])
            bboxes = np.asarray(faces["face_bbx_list"][e][0][i][0], dtype=np.float64).reshape(-1, 4)
            kept = {}
            for setting, cells in lists.items():
                try:
                    index = np.asarray(cells[e][0][i][0], dtype=np.int64).ravel()
                    kept[setting] = np.zeros(len(bboxes), dtype=bool)
                    kept[setting][index - 1] = True  # MATLAB counts from 1
                except IndexError:
                    raise DataError(
                        f"{folder}/wider_{setting}_val.mat: gt_list does not fit {event}/{name}.jpg of "
                        f"wider_face_val.mat ({len(bboxes)} faces). Take all four files from one release."
                    ) from None
            images.append(WiderImage(event, name, bboxes, kept))
    return images


def _load_mat(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    from scipy.io import loadmat  # a quarter of what the trainer imports besides torch, for evaluation only

    if not path.is_file():
        raise DataError(
            f"{path}: no such file. The gt folder needs wider_face_val.mat, wider_easy_val.mat, "
            "wider_medium_val.mat and wider_hard_val.mat."
        )
    try:
        content = loadmat(path, variable_names=keys)
    except Exception as error:  # scipy raises many kinds, all meaning the same to the user
        raise DataError(f"{path}: not a readable .mat file ({error}). Download or make it again.") from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(f"{path}: no variable {missing[0]!r}; this is not a WIDER FACE ground-truth file.")
    return content


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


def write_predictions(predictions: Predictions, folder: str | Path) -> None:
    """Write EVENT/NAME.txt files: coordinates with 5 decimals, scores with 6 digits, rows as given."""
    for event, images in predictions.items():
        for name, rows in images.items():
            lines = [f"{event}/{name}.jpg", str(len(rows))]
            lines += ["{:.5f} {:.5f} {:.5f} {:.5f} {:g}".format(*row) for row in np.asarray(rows).tolist()]
            path = inside(folder, Path(event) / f"{name}.txt")
            write_text(path, "\n".join(lines) + "\n", parents=True, durable=False)  # thousands of files
