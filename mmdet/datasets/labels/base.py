"""What every label format is read into: a `LabelFile`, image by image a `Record`. No torch here.

A reader checks its format and fills a `LabelFile`. What does not depend on the format (repeated names, images
too narrow or without faces, faces too small, odd boxes) is done by `prepare`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmdet.errors import DataError

DEFAULT_CLASSES = ("FG",)
DEFAULT_NUM_KPS = 5


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
        lines: (F,) line numbers from 1; None where the format has none.
        not_carried: what the file holds and a LabelFile cannot, with counts.
    """

    names: tuple[str, ...]
    sizes_hw: np.ndarray
    offsets: np.ndarray
    bboxes: np.ndarray
    labels: np.ndarray
    kps: np.ndarray
    is_ignored: np.ndarray
    classes: tuple[str, ...] = DEFAULT_CLASSES
    lines: np.ndarray | None = None
    not_carried: Mapping[str, int] = field(default_factory=dict)

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
            lines=None if self.lines is None else self.lines[rows],
        )


def concatenate(parts: Sequence[LabelFile]) -> LabelFile:
    """Return the images of several files with the same classes and number of points, in order."""
    num_rows = np.cumsum([0, *(len(part.bboxes) for part in parts)])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, num_rows, strict=False)]
    names = ("sizes_hw", "bboxes", "labels", "kps", "is_ignored")
    arrays: dict[str, Any] = {n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
    return replace(
        parts[0],
        names=tuple(name for part in parts for name in part.names),
        offsets=np.append(np.concatenate(offsets), num_rows[-1]),
        lines=None,
        **arrays,
    )


@dataclass(frozen=True)
class LabelledFace:
    """One face as a reader finds it: box x1, y1, x2, y2; kps (K, 3) x, y, weight, or None."""

    bbox: Sequence[float]
    label: int = 0
    kps: np.ndarray | None = None
    is_ignored: bool = False


def make_record(
    name: str, faces: Sequence[LabelledFace], num_kps: int, size_hw: tuple[int, int] | None, where: str
) -> Record:
    """Return the record of an image from its faces.

    Raises:
        DataError: a box is not finite or is inverted, or points are not finite; begins with `where`.
    """
    for number, face in enumerate(faces):
        x1, y1, x2, y2 = face.bbox
        if not _is_finite(face.bbox) or x2 < x1 or y2 < y1:
            raise DataError(
                f"{where}: face {number} of {name}: box {list(face.bbox)} is inverted or not finite"
            )
        if face.kps is not None and not _is_finite(face.kps):
            raise DataError(f"{where}: face {number} of {name}: a point is not finite")
    shown = [face for face in faces if not face.is_ignored]
    none = np.zeros((num_kps, 3), np.float32)
    kps = [none if face.kps is None else face.kps for face in shown]
    return Record(
        name=name,
        bboxes=np.array([face.bbox for face in shown], np.float32).reshape(-1, 4),
        labels=np.array([face.label for face in shown], np.int64),
        kps=np.array(kps, np.float32).reshape(-1, num_kps, 3),
        bboxes_ignore=np.array([face.bbox for face in faces if face.is_ignored], np.float32).reshape(-1, 4),
        size_hw=size_hw,
    )


def _is_finite(values: Sequence[float] | np.ndarray) -> bool:
    """Return whether all numbers are finite as float32, too, in which they are kept."""
    return bool((np.abs(values) <= np.finfo(np.float32).max).all())


class ClassIndex:
    """Indices of class names: those given, or every name in order of appearance.

    Attributes:
        names: the classes so far.
        unknown: how often a name was not among those given.
    """

    def __init__(self, classes: Sequence[str] | None) -> None:
        self.is_open, self.names = classes is None, list(classes or ())
        self.unknown = 0

    def get(self, name: str) -> int | None:
        """Return the index of a name; None if it is not among those given."""
        if name not in self.names:
            if not self.is_open:
                self.unknown += 1
                return None
            self.names.append(name)
        return self.names.index(name)


def join_records(
    records: Iterable[Record],
    num_kps: int,
    classes: Sequence[str] = DEFAULT_CLASSES,
    not_carried: Mapping[str, int] | None = None,
) -> LabelFile:
    """Return a `LabelFile` of records made one by one: faces first, then the ignore regions of each image.

    Args:
        records: kps are (n, num_kps, 3).
        num_kps: K, for files without a face.
        classes: names that the records' labels index.
        not_carried: see LabelFile.

    Raises:
        DataError: a number is not finite as float32.
    """
    records = list(records)
    for record in records:
        if not all(_is_finite(array) for array in (record.bboxes, record.bboxes_ignore, record.kps)):
            raise DataError(f"{record.name}: a box or point is not finite or beyond the range of float32")
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
        not_carried=dict(not_carried or {}),
    )
