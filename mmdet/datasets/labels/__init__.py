"""Label files: `base` holds what every format is read into, each other file one format. No torch here.

Read base, labelv2, findings and prepare (for every format), then whichever format; sniff tells which format
a file looks like, convert goes from one to another. A format of one's own is added by a module named in
`custom_imports`: `LABEL_READERS["mine"] = read_mine`, with the arguments of `read_labelv2`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets.labels.base import DEFAULT_NUM_KPS, LabelFile, Record
from mmdet.datasets.labels.coco import read_coco
from mmdet.datasets.labels.csv_table import read_csv
from mmdet.datasets.labels.labelme import read_labelme
from mmdet.datasets.labels.labelv2 import read_labelv2
from mmdet.datasets.labels.prepare import prepare
from mmdet.datasets.labels.retinaface_json import read_ternaus_json
from mmdet.datasets.labels.retinaface_txt import read_retinaface_txt
from mmdet.datasets.labels.sniff import guess_format
from mmdet.datasets.labels.wider_txt import read_wider_txt
from mmdet.datasets.labels.xml import read_cvat, read_voc
from mmdet.datasets.labels.yolo import read_yolo
from mmdet.errors import ConfigError, DataError, unknown_name

LABEL_READERS: dict[str, Callable[..., LabelFile]] = {
    "labelv2": read_labelv2,
    "ternaus-json": read_ternaus_json,
    "retinaface-txt": read_retinaface_txt,
    "wider-txt": read_wider_txt,
    "coco": read_coco,
    "yolo": read_yolo,
    "voc": read_voc,
    "cvat": read_cvat,
    "labelme": read_labelme,
    "csv": read_csv,
}

__all__ = ["LABEL_READERS", "LabelFile", "Record", "read_labels"]


def read_labels(
    path: str | Path,
    label_format: str = "labelv2",
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
    min_size: float | None = None,
    filter_empty_gt: bool = True,
) -> LabelFile:
    """Read a label file and leave out what training does not use (`labels.prepare`).

    Args:
        path: the file.
        label_format: a name of LABEL_READERS.
        train: False keeps all images.
        classes: class names, in the order of the model's outputs; None: as the file or the format says.
        num_kps: points per face.
        min_size: faces narrower or lower than this become ignore boxes.
        filter_empty_gt: False keeps images without faces in training, too.

    Raises:
        ConfigError: an unknown format.
        DataError: as the reader says, or no image is left to train on.
    """
    labels = read_as(path, label_format, train=train, classes=classes, num_kps=num_kps)
    return prepare(labels, path, train=train, min_size=min_size, filter_empty_gt=filter_empty_gt)


def read_as(path: str | Path, label_format: str, **options: Any) -> LabelFile:
    """Read all of a label file; `options` are the reader's.

    Raises:
        ConfigError: an unknown format.
        DataError: as the reader says; it names the format that the file looks like, if that is another.
    """
    if label_format not in LABEL_READERS:
        raise ConfigError(unknown_name("label_format", label_format, LABEL_READERS))
    try:
        return LABEL_READERS[label_format](path, **options)
    except DataError as error:
        guess = guess_format(path)
        if guess in (None, label_format):
            raise
        raise DataError(
            f"{error}. It looks like {guess}; tools/convert_labels.py {guess} converts it"
        ) from None
