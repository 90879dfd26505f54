"""What every label format is read into: a `LabelFile`, image by image a `Record`. No torch here.

A reader checks its format and fills a `LabelFile`. What does not depend on the format (repeated names, images
too narrow or without faces, faces too small) is done by `prepare`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmdet.errors import DataError

MIN_IMAGE_SIDE = 32  # training drops images narrower than this, as mmdet does
DEFAULT_CLASSES = ("FG",)
DEFAULT_NUM_KPS = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """The labels of one image.

    Attributes:
        name: path of the image file, relative to the images' folder, with forward slashes.
        bboxes: (n, 4) float32 xyxy, pixels.
        labels: (n,) int64 class indices.
        kps: (n, K, 3) float32 x, y, weight (0: not annotated).
        bboxes_ignore: (m, 4) float32, regions that are neither face nor background.
        size_hw: height and width of the image; None where the format does not say.
    """

    name: str
    bboxes: np.ndarray
    labels: np.ndarray
    kps: np.ndarray
    bboxes_ignore: np.ndarray
    size_hw: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelFile(Sequence):
    """All records of a file in a few flat arrays, so that handing it to workers costs nothing.

    Attributes:
        names: N image names, in file order.
        sizes_hw: (N, 2) int32 heights and widths, 0 where the format does not say.
        offsets: (N + 1,) int64; image i owns rows offsets[i] : offsets[i + 1] of the arrays below.
        bboxes: (F, 4) float32 xyxy, pixels.
        labels: (F,) int64 indices into `classes`.
        kps: (F, K, 3) float32 x, y, weight (0: not annotated); K may be 0.
        is_ignored: (F,) bool, ignore regions.
        classes: class names.
    """

    names: tuple[str, ...]
    sizes_hw: np.ndarray
    offsets: np.ndarray
    bboxes: np.ndarray
    labels: np.ndarray
    kps: np.ndarray
    is_ignored: np.ndarray
    classes: tuple[str, ...] = DEFAULT_CLASSES

    @property
    def num_kps(self) -> int:
        """K."""
        return self.kps.shape[1]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        """Return the labels of image `index`; arrays are copies or views, do not edit them."""
        rows = slice(self.offsets[index], self.offsets[index + 1])
        face = ~self.is_ignored[rows]
        height, width = (int(side) for side in self.sizes_hw[index])
        return Record(
            name=self.names[index],
            bboxes=self.bboxes[rows][face],
            labels=self.labels[rows][face],
            kps=self.kps[rows][face],
            bboxes_ignore=self.bboxes[rows][~face],
            size_hw=(height, width) if height else None,
        )

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in file order."""
        return (self[i] for i in range(len(self)))

    def select(self, images: np.ndarray) -> "LabelFile":
        """Return the given images (int64 indices) in the given order."""
        counts = np.diff(self.offsets)[images]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][images] - offsets[:-1], counts)
        return replace(
            self,
            names=tuple(self.names[i] for i in images),
            sizes_hw=self.sizes_hw[images],
            offsets=offsets,
            bboxes=self.bboxes[rows],
            labels=self.labels[rows],
            kps=self.kps[rows],
            is_ignored=self.is_ignored[rows],
        )


def join_records(
    records: Iterable[Record], num_kps: int, classes: Sequence[str] = DEFAULT_CLASSES
) -> LabelFile:
    """Return a `LabelFile` of records made one by one: faces first, then the ignore regions of each image.

    Args:
        records: kps are (n, num_kps, 3).
        num_kps: K, for files without a face.
        classes: names that the records' labels index.
    """
    records = list(records)
    counts = [len(r.bboxes) + len(r.bboxes_ignore) for r in records]
    bboxes = [part for r in records for part in (r.bboxes, r.bboxes_ignore)]
    num_ignored = [len(r.bboxes_ignore) for r in records]
    labels = [p for r in records for p in (r.labels, np.zeros(len(r.bboxes_ignore), np.int64))]
    kps = [p for r in records for p in (r.kps, np.zeros((len(r.bboxes_ignore), num_kps, 3), np.float32))]
    place = [np.arange(count) >= count - ignored for count, ignored in zip(counts, num_ignored, strict=True)]
    return LabelFile(
        names=tuple(r.name for r in records),
        sizes_hw=np.array([r.size_hw or (0, 0) for r in records], np.int32).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        bboxes=np.concatenate([np.zeros((0, 4), np.float32), *bboxes]).astype(np.float32),
        labels=np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64),
        kps=np.concatenate([np.zeros((0, num_kps, 3), np.float32), *kps]).astype(np.float32),
        is_ignored=np.concatenate([np.zeros(0, bool), *place]),
        classes=tuple(classes),
    )


def prepare(
    labels: LabelFile,
    path: str | Path,
    *,
    train: bool,
    min_size: float | None = None,
    filter_empty_gt: bool = True,
) -> LabelFile:
    """Return what a data set uses of a file that was read; the log says what was left out.

    The same name twice: the later block replaces the earlier one.

    Args:
        labels: as a reader returned them.
        path: the file, for messages.
        train: drop images without a face and images narrower than 32 px (where the size is known).
        min_size: faces narrower or lower than this become ignore boxes.
        filter_empty_gt: False keeps images without faces in training, too.

    Raises:
        DataError: no image is left to train on.
    """
    if min_size is not None:
        is_small = (labels.bboxes[:, 2:] - labels.bboxes[:, :2] < min_size).any(1)
        labels = replace(labels, is_ignored=labels.is_ignored | is_small)
    labels = _latest_of_each_name(labels, path)
    return _drop_unusable(labels, path, filter_empty_gt) if train else labels


def _latest_of_each_name(labels: LabelFile, path: str | Path) -> LabelFile:
    """Keep, at the place of its first block, the last block of each name (as a dict does)."""
    latest = {name: index for index, name in enumerate(labels.names)}
    num_repeated = len(labels) - len(latest)
    if not num_repeated:
        return labels
    logger.warning("%s: %d images are listed more than once; the last block counts", path, num_repeated)
    return labels.select(np.fromiter(latest.values(), np.int64))


def _drop_unusable(labels: LabelFile, path: str | Path, filter_empty_gt: bool) -> LabelFile:
    shorter_side = labels.sizes_hw.min(1)
    is_wide_enough = (shorter_side >= MIN_IMAGE_SIDE) | (shorter_side == 0)
    if not is_wide_enough.all():
        narrow = np.flatnonzero(~is_wide_enough)
        logger.warning(
            "%s: %d images narrower than %d px are not trained on (%s%s)",
            path,
            len(narrow),
            MIN_IMAGE_SIDE,
            ", ".join(labels.names[i] for i in narrow[:3]),
            ", ..." if len(narrow) > 3 else "",
        )
    keep = is_wide_enough
    if filter_empty_gt:
        keep = keep & (np.diff(labels.offsets) > 0)
        num_empty = int((is_wide_enough & ~keep).sum())
        if num_empty:
            logger.info("%s: %d images without faces are not trained on", path, num_empty)
    if not keep.any():
        raise DataError(f"{path}: none of {len(labels)} images has a face and {MIN_IMAGE_SIDE} px or more")
    return labels if keep.all() else labels.select(np.flatnonzero(keep))
