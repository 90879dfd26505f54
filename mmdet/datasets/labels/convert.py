"""From one label format to another, with a report of what could not be carried over."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mmdet.datasets.labels import LabelFile, read_as
from mmdet.datasets.labels.coco import write_coco
from mmdet.datasets.labels.csv_table import write_csv
from mmdet.datasets.labels.labelme import write_labelme
from mmdet.datasets.labels.labelv2 import write_labelv2
from mmdet.datasets.labels.retinaface_json import write_ternaus_json
from mmdet.datasets.labels.retinaface_txt import write_retinaface_txt
from mmdet.datasets.labels.wider_txt import write_wider_txt
from mmdet.datasets.labels.xml import write_cvat, write_voc
from mmdet.datasets.labels.yolo import write_yolo
from mmdet.errors import ConfigError, DataError, unknown_name
from mmdet.files import inside
from mmdet.images import UnreadableImageError, read_image_size


@dataclass(frozen=True)
class LabelWriter:
    """How a format is written, and what of _ALL it holds ("some kps": faces with a part of their points)."""

    write: Callable[[LabelFile, str | Path], None]
    carries: tuple[str, ...]
    is_folder: bool = False


_ALL = ("ignore", "classes", "kps", "some kps")
LABEL_WRITERS: dict[str, LabelWriter] = {
    "labelv2": LabelWriter(write_labelv2, _ALL),
    "coco": LabelWriter(write_coco, _ALL),
    "csv": LabelWriter(write_csv, _ALL),
    "cvat": LabelWriter(write_cvat, _ALL[:3]),
    "labelme": LabelWriter(write_labelme, _ALL[:3], is_folder=True),
    "yolo": LabelWriter(write_yolo, _ALL[1:], is_folder=True),
    "voc": LabelWriter(write_voc, _ALL[:2], is_folder=True),
    "wider-txt": LabelWriter(write_wider_txt, ("ignore",)),
    "ternaus-json": LabelWriter(write_ternaus_json, ("kps",)),
    "retinaface-txt": LabelWriter(write_retinaface_txt, ("kps", "some kps")),
}


def convert(
    source: tuple[str, str | Path],
    target: tuple[str, str | Path],
    images: str | Path | None = None,
    **options: object,
) -> tuple[LabelFile, Mapping[str, int]]:
    """Read labels of one format, write them in another.

    Args:
        source: format and path.
        target: format and path, a folder for yolo, voc and labelme.
        images: folder of the images, for sizes that the source format lacks.
        **options: of the source's reader: classes, num_kps, ignore (wider-txt).

    Returns:
        The labels, and what was not carried over, with counts.

    Raises:
        ConfigError: an unknown format.
        DataError: the source is wrong, or a size is needed and no image tells it.
        WriteError: the target cannot be written.
    """
    if target[0] not in LABEL_WRITERS:
        raise ConfigError(unknown_name("target format", target[0], LABEL_WRITERS))
    labels = read_as(source[1], source[0], train=False, **options)
    if images is not None:
        labels = add_sizes(labels, images)
    writer = LABEL_WRITERS[target[0]]
    lost = Counter(labels.not_carried) + _lost(labels, writer.carries)
    if writer.is_folder:
        _write_folder(writer, labels, Path(target[1]))
    else:
        writer.write(labels, target[1])
    return labels, lost


def _write_folder(writer: LabelWriter, labels: LabelFile, target: Path) -> None:
    """Write all files of a folder elsewhere first: a conversion that fails leaves nothing."""
    stems = Counter(Path(name).with_suffix("").as_posix() for name in labels.names)
    for name in labels.names:
        inside(target, name)
        if stems[stem := Path(name).with_suffix("").as_posix()] > 1:
            raise DataError(f"{stems[stem]} images are called {stem}, with different suffixes; rename them")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as part:
        writer.write(labels, part)
        for file in sorted(Path(part).rglob("*.*")):
            final = target / file.relative_to(part)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, final)


def add_sizes(labels: LabelFile, images: str | Path) -> LabelFile:
    """Return the labels with the sizes that are missing read from the images.

    Raises:
        DataError: the folder or an image is missing.
    """
    if not Path(images).is_dir():
        raise DataError(f"images {images}: no such folder")
    sizes_hw = labels.sizes_hw.copy()
    for row in np.flatnonzero(sizes_hw.min(1, initial=1) == 0):
        try:
            sizes_hw[row] = read_image_size(Path(images) / labels.names[row])
        except UnreadableImageError as error:
            raise DataError(f"the size of {labels.names[row]} is unknown: {error}") from None
    return replace(labels, sizes_hw=sizes_hw)


def _lost(labels: LabelFile, carries: Sequence[str]) -> Counter[str]:
    """Count what a format that holds only `carries` cannot take."""
    num_points = (labels.kps[..., 2] > 0).sum(1)
    has_some = (num_points > 0) & (num_points < labels.num_kps)
    counts = {
        "ignore": ("ignore boxes", labels.is_ignored.sum()),
        "classes": ("faces of classes other than the first", (labels.labels > 0).sum()),
        "kps": ("faces with points", (num_points > 0).sum()),
        "some kps": ("faces with some of their points", has_some.sum()),
    }
    return +Counter({what: int(count) for key, (what, count) in counts.items() if key not in carries})
