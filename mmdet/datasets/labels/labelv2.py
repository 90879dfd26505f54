"""The labelv2 format: faces of all images in one text file, read with numpy in a fraction of a second.

    # event/name.jpg 1024 732                      name, width, height; further fields are not read
    122 380 132 392 125 384 0 130 384 0 ...        box x1 y1 x2 y2, then five points x y v
    246 378 258 392 -1 -1 -1 -1 -1 -1 ...          a point of -1 -1 -1 is not annotated (weight 0)
    10 20 40 60 1                                  fifth value 1: an ignore box; else a face without points
    10 20 40 60                                    box only: allowed for test files

Any v >= 0 gives weight 1. Values after the 19th are not used. Zero-size faces are legal. The same name
twice: the later block replaces the earlier one.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet.errors import DataError

NUM_KEYPOINTS = 5
NUM_VALUES = 4 + 3 * NUM_KEYPOINTS
MIN_IMAGE_SIDE = 32  # training drops images narrower than this, as mmdet does

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """The labels of one image: bboxes (n, 4), kps (n, 5, 3), bboxes_ignore (m, 4), all float32."""

    name: str
    size_hw: tuple[int, int]
    bboxes: np.ndarray
    kps: np.ndarray
    bboxes_ignore: np.ndarray


@dataclass(frozen=True)
class LabelFile(Sequence):
    """All records of a file in a few flat arrays, so that handing it to workers costs nothing.

    Attributes:
        names: N image names, in file order.
        sizes_hw: (N, 2) int32, what the header lines say.
        offsets: (N + 1,) int64; image i owns rows offsets[i] : offsets[i + 1] of the arrays below.
        bboxes: (F, 4) float32 xyxy; kps: (F, 5, 3) float32; is_ignored: (F,) bool.
    """

    names: tuple[str, ...]
    sizes_hw: np.ndarray
    offsets: np.ndarray
    bboxes: np.ndarray
    kps: np.ndarray
    is_ignored: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        """Return the labels of image `index`; arrays are copies or views, do not edit them."""
        rows = slice(self.offsets[index], self.offsets[index + 1])
        face = ~self.is_ignored[rows]
        height, width = self.sizes_hw[index]
        return Record(
            name=self.names[index],
            size_hw=(int(height), int(width)),
            bboxes=self.bboxes[rows][face],
            kps=self.kps[rows][face],
            bboxes_ignore=self.bboxes[rows][~face],
        )

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in file order."""
        return (self[i] for i in range(len(self)))

    def select(self, images: np.ndarray) -> "LabelFile":
        """Return the given images (int64 indices) in the given order."""
        counts = np.diff(self.offsets)[images]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][images] - offsets[:-1], counts)
        return LabelFile(
            names=tuple(self.names[i] for i in images),
            sizes_hw=self.sizes_hw[images],
            offsets=offsets,
            bboxes=self.bboxes[rows],
            kps=self.kps[rows],
            is_ignored=self.is_ignored[rows],
        )


def read_labelv2(
    path: str | Path, *, train: bool, min_size: float | None = None, filter_empty_gt: bool = True
) -> LabelFile:
    """Read a label file.

    Args:
        path: the file.
        train: drop images without a line and images narrower than 32 px; refuse lines of 4 values.
        min_size: faces narrower or lower than this become ignore boxes.
        filter_empty_gt: False keeps images without faces in training, too.

    Raises:
        DataError: the file is missing, not text, empty, or has a bad line (file:line and reason).

    Differs from the reference: an inverted box (x2 < x1) is an error instead of a training target.
    """
    labels = _parse(Path(path), train=train, min_size=min_size)
    labels = _latest_of_each_name(labels, path)
    if train:
        labels = _drop_unusable(labels, path, filter_empty_gt)
    return labels


@dataclass(frozen=True)
class _Lines:
    """The file as lines: start of each in `data`, number of blank-separated values, is it a header."""

    path: Path
    data: bytes
    start: np.ndarray
    num_values: np.ndarray
    is_header: np.ndarray

    def text(self, line: int) -> str:
        end = self.start[line + 1] if line + 1 < len(self.start) else len(self.data)
        try:
            return self.data[self.start[line] : end].decode().strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}:{line + 1}: not UTF-8 text ({error.reason})") from None

    def fail(self, line: int, reason: str, num_more: int = 0) -> None:
        """Raise the error of a line, naming the image it belongs to."""
        headers = np.flatnonzero(self.is_header[: line + 1])
        name = self.text(headers[-1])[1:].split()[:1] if len(headers) else []
        where = f" in {name[0]}" if name else ""
        more = f" ({num_more} more such lines)" if num_more else ""
        raise DataError(f"{self.path}:{line + 1}: {reason}{where}{more}")


def _scan(path: Path) -> _Lines:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip()
    except OSError as error:
        raise DataError(f"label file {path}: {error.strerror}") from None
    if not data:
        raise DataError(f"{path} is empty; expected lines '# name width height' and faces below each")
    text = np.frombuffer(data, np.uint8)
    blank = text <= 32
    value_start = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    start = np.concatenate([[0], np.flatnonzero(text == ord("\n")) + 1])
    first_value = np.searchsorted(value_start, start)
    num_values = np.diff(np.append(first_value, len(value_start)))
    is_header = text[value_start[first_value]] == ord("#")
    lines = _Lines(path, data, start, num_values, is_header & (num_values > 0))
    if (num_values == 0).any():
        lines.fail(int(np.argmin(num_values)), "blank line; remove it")
    if not is_header[0]:
        lines.fail(0, f"expected '# name width height' first, got {lines.text(0)[:60]!r}")
    return lines


def _parse(path: Path, train: bool, min_size: float | None) -> LabelFile:
    lines = _scan(path)
    headers, faces = np.flatnonzero(lines.is_header), np.flatnonzero(~lines.is_header)
    names, sizes_hw = _read_headers(lines, headers)
    counts = lines.num_values[faces]
    legal = (counts == 5) | (counts >= NUM_VALUES) | ((counts == 4) & (not train))
    _check(lines, faces, legal, lambda i: _wrong_count(int(counts[i]), train))

    values = _read_values(lines, headers, faces)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    bboxes = values[first[:, None] + np.arange(4)].astype(np.float32)
    _check(lines, faces, np.isfinite(bboxes).all(1), lambda i: f"box {bboxes[i].tolist()} is not finite")
    for axis, letter in ((0, "x"), (1, "y")):
        low, high = bboxes[:, axis], bboxes[:, axis + 2]
        message = f"{letter}2={{:g}} < {letter}1={{:g}}".format
        _check(lines, faces, high >= low, lambda i: message(high[i], low[i]))  # noqa: B023

    kps = np.zeros((len(faces), NUM_KEYPOINTS, 3), np.float32)
    with_kps = np.flatnonzero(counts >= NUM_VALUES)
    points = values[first[with_kps, None] + np.arange(4, NUM_VALUES)].astype(np.float32)
    points = points.reshape(-1, NUM_KEYPOINTS, 3)
    missing = (points == -1).all(2)
    valid = np.isfinite(points).all((1, 2)) & (missing | (points[..., 2] >= 0)).all(1)
    _check(lines, faces[with_kps], valid, lambda i: "a keypoint has v < 0 or nan; write -1 -1 -1 if unknown")
    points[..., 2] = ~missing
    kps[with_kps] = points

    is_ignored = np.zeros(len(faces), bool)
    flagged = np.flatnonzero(counts == 5)
    is_ignored[flagged] = values[first[flagged] + 4] == 1
    if min_size is not None:
        is_ignored |= ((bboxes[:, 2:] - bboxes[:, :2]) < min_size).any(1)
    offsets = np.append(np.searchsorted(faces, headers), len(faces))
    return LabelFile(names, sizes_hw, offsets, bboxes, kps, is_ignored)


def _check(lines: _Lines, line_numbers: np.ndarray, is_good: np.ndarray, describe) -> None:  # noqa: ANN001
    """Raise for the first False of `is_good`; describe(i) gives the reason of row i."""
    bad = np.flatnonzero(~is_good)
    if len(bad):
        lines.fail(int(line_numbers[bad[0]]), describe(bad[0]), num_more=len(bad) - 1)


def _wrong_count(count: int, train: bool) -> str:
    if count == 4 and train:
        return "4 values (only a box) are for test files; write 'x1 y1 x2 y2 0' to train on it"
    return (
        f"{count} values; expected 4 (box, test only), 5 (box, ignore flag) or {NUM_VALUES} (box, 5 points)"
    )


def _read_headers(lines: _Lines, headers: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    names, sizes_hw = [], np.empty((len(headers), 2), np.int32)
    for row, line in enumerate(headers):
        fields = lines.text(line)[1:].split()
        try:
            name, width, height = fields[0], int(fields[1]), int(fields[2])
            if min(width, height) <= 0:
                raise ValueError
        except (IndexError, ValueError):
            text = lines.text(line)[:80]
            raise DataError(
                f"{lines.path}:{line + 1}: expected '# name width height' with positive whole numbers "
                f"(names cannot contain blanks), got {text!r}"
            ) from None
        names.append(name)
        sizes_hw[row] = height, width
    return tuple(names), sizes_hw


def _read_values(lines: _Lines, headers: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the numbers of all face lines, one after the other, as float64."""
    ends = np.append(lines.start[1:], len(lines.data))
    blocks = zip(ends[headers], np.append(lines.start[headers[1:]], len(lines.data)), strict=True)
    text = b" ".join(lines.data[begin:end] for begin, end in blocks)
    expected = int(lines.num_values[faces].sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns, and later raises, at text that is no number
        try:
            values = np.fromstring(text, np.float64, sep=" ") if expected else np.empty(0)
        except (DeprecationWarning, ValueError):
            values = None
    if values is None or len(values) != expected:
        _fail_at_bad_number(lines, faces)
    return values


def _fail_at_bad_number(lines: _Lines, faces: np.ndarray) -> None:
    for line in faces:
        for word in lines.text(line).split():
            try:
                float(word)
            except ValueError:
                lines.fail(line, f"{word!r} is not a number")
    raise DataError(f"{lines.path}: cannot read the numbers of the face lines")


def _latest_of_each_name(labels: LabelFile, path: str | Path) -> LabelFile:
    """Keep, at the place of its first block, the last block of each name (as a dict does)."""
    latest = {name: index for index, name in enumerate(labels.names)}
    num_repeated = len(labels) - len(latest)
    if not num_repeated:
        return labels
    logger.warning("%s: %d images are listed more than once; the last block counts", path, num_repeated)
    return labels.select(np.fromiter(latest.values(), np.int64))


def _drop_unusable(labels: LabelFile, path: str | Path, filter_empty_gt: bool) -> LabelFile:
    wide_enough = labels.sizes_hw.min(1) >= MIN_IMAGE_SIDE
    if not wide_enough.all():
        narrow = np.flatnonzero(~wide_enough)
        names = ", ".join(labels.names[i] for i in narrow[:3])
        logger.warning(
            "%s: %d images narrower than %d px are not trained on (%s%s)",
            path,
            len(narrow),
            MIN_IMAGE_SIDE,
            names,
            ", ..." if len(narrow) > 3 else "",
        )
    keep = wide_enough
    if filter_empty_gt:
        keep = keep & (np.diff(labels.offsets) > 0)
        num_empty = int((wide_enough & ~keep).sum())
        if num_empty:
            logger.info("%s: %d images without faces are not trained on", path, num_empty)
    if not keep.any():
        raise DataError(f"{path}: none of {len(labels)} images has a face and {MIN_IMAGE_SIDE} px or more")
    return labels if keep.all() else labels.select(np.flatnonzero(keep))
