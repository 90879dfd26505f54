"""The labelv2 format: faces of all images in one text file, read with numpy in a fraction of a second.

    # event/name.jpg 1024 732                      name, width, height; further fields are not read
    122 380 132 392 125 384 0 130 384 0 ...        box x1 y1 x2 y2, then K points x y v (five, unless said)
    246 378 258 392 -1 -1 -1 -1 -1 -1 ...          a point of -1 -1 -1 is not annotated (weight 0)
    246 378 258 392 -1 -1 -1 ... 0.8               one more value, blur or score: not read
    246 378 258 392 -1 -1 -1 ... 0.8 2             and another: the class, an index (an extension of ours)
    10 20 40 60 1                                  fifth value 1: an ignore box; 0: a face without points
    10 20 40 60                                    box only: allowed for test files

Any v >= 0 gives weight 1. Zero-size faces are legal. A name may hold blanks if width and height end the line.
The original readers read all of this but names with blanks, without the classes.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from mmdet.datasets.labels.base import DEFAULT_CLASSES, DEFAULT_NUM_KPS, LabelFile, Record
from mmdet.datasets.labels.text import read_utf8
from mmdet.errors import DataError
from mmdet.files import write_text
from mmdet.process import MAX_IMAGE_PIXELS


def read_labelv2(
    path: str | Path,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    num_kps: int = DEFAULT_NUM_KPS,
) -> LabelFile:
    """Read a labelv2 file, all of it; `read_labels` leaves out what training does not use.

    Args:
        path: the file.
        train: refuse lines of 4 values.
        classes: class names; a face whose line has no class is of the first.
        num_kps: K, points of a face line.

    Raises:
        DataError: the file is missing, not text, empty, or has a bad line (file:line and reason).

    Differs from the reference: an inverted box (x2 < x1) is an error instead of a training target.
    """
    lines = _scan(Path(path))
    headers, faces = np.flatnonzero(lines.is_header), np.flatnonzero(~lines.is_header)
    names, sizes_hw = _read_headers(lines, headers)
    counts = lines.num_values[faces]
    full = 4 + 3 * num_kps
    legal = np.isin(counts, (5, full + 1, full + 2)) | (counts == full) & (num_kps > 0)
    legal |= (counts == 4) & (not train)
    _check(lines, faces, legal, lambda i: _wrong_count(int(counts[i]), train, num_kps))

    values = _read_values(lines, headers, faces)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    bboxes = _read_bboxes(lines, faces, values[first[:, None] + np.arange(4)])
    kps = np.zeros((len(faces), num_kps, 3), np.float32)
    with_kps = np.flatnonzero((counts >= full) & (num_kps > 0))
    points = values[first[with_kps, None] + np.arange(4, full)]
    kps[with_kps] = _read_kps(lines, faces[with_kps], points.reshape(len(with_kps), num_kps, 3))
    is_ignored = np.zeros(len(faces), bool)
    flagged = np.flatnonzero((counts == 5) | (counts > 4) & (num_kps == 0))
    flags = values[first[flagged] + 4]
    message = "fifth value {:g}; write 0 (a face without points) or 1 (an ignore box)".format
    _check(lines, faces[flagged], np.isin(flags, (0, 1)), lambda i: message(flags[i]))
    is_ignored[flagged] = flags == 1
    labels = np.zeros(len(faces), np.int64)
    classes = tuple(classes or DEFAULT_CLASSES)
    with_class = np.flatnonzero(counts == full + 2)
    labels[with_class] = _read_classes(
        lines, faces[with_class], values[first[with_class] + full + 1], classes
    )
    return LabelFile(
        names=names,
        sizes_hw=sizes_hw,
        offsets=np.append(np.searchsorted(faces, headers), len(faces)),
        bboxes=bboxes,
        labels=labels,
        kps=kps,
        is_ignored=is_ignored,
        classes=classes,
        lines=faces + 1,
    )


def write_labelv2(labels: LabelFile, path: str | Path) -> None:
    """Write a labelv2 file that reads back equal; faces carry their class if there are several classes.

    Raises:
        DataError: an image's size is unknown, or its name would read back as another.
        WriteError: the file cannot be written.
    """
    unknown = np.flatnonzero(labels.sizes_hw.min(1, initial=1) == 0)
    if len(unknown):
        raise DataError(f"{path}: the size of {labels.names[unknown[0]]} is unknown; labelv2 needs it")
    with_class = len(labels.classes) > 1
    text = "".join(f"{line}\n" for record in labels for line in labelv2_lines(record, with_class))
    write_text(path, text)


def labelv2_lines(record: Record, with_class: bool = False) -> Iterator[str]:
    """Yield the header and the face lines of an image whose size is known."""
    assert record.size_hw is not None
    height, width = record.size_hw
    header = f"# {record.name} {width} {height}"
    if _read_header(header) != (record.name, width, height):
        raise DataError(f"labelv2 cannot hold the image name {record.name!r}; rename the file")
    yield header
    for bbox, label, kps in zip(record.bboxes, record.labels, record.kps, strict=True):
        points = [f"{number(x)} {number(y)} 0" if weight else "-1 -1 -1" for x, y, weight in kps]
        is_short = not (kps[:, 2] > 0).any() and not with_class
        end = ["0", str(label)] if with_class else []
        yield " ".join([*map(number, bbox), *(["0"] if is_short else [*points, *end])])
    for bbox in record.bboxes_ignore:
        yield " ".join([*map(number, bbox), "1"])


def number(value: np.float32) -> str:
    """Return the shortest decimal number that reads back equal."""
    return str(value).removesuffix(".0")


class LineError(DataError):
    """Bad lines of one kind; `lines` counts them from 0."""

    def __init__(self, message: str, lines: Sequence[int] | np.ndarray) -> None:
        super().__init__(message)
        self.lines = [int(line) for line in lines]


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

    def fail(self, lines: Sequence[int] | np.ndarray, reason: str) -> NoReturn:
        """Raise the error of bad lines, naming the first and the image it belongs to."""
        line = int(lines[0])
        headers = np.flatnonzero(self.is_header[: line + 1])
        header = _read_header(self.text(headers[-1])) if len(headers) else None
        where = f" in {header[0]}" if header else ""
        more = f" ({len(lines) - 1} more such lines)" if len(lines) > 1 else ""
        raise LineError(f"{self.path}:{line + 1}: {reason}{where}{more}", lines)


def _scan(path: Path) -> _Lines:
    data = read_utf8(path).rstrip()
    if not data:
        raise DataError(f"{path} is empty; expected lines '# name width height' and faces below each")
    text = np.frombuffer(data, np.uint8)
    blank = text <= 32
    value_start = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    start = np.concatenate([[0], np.flatnonzero(text == ord("\n")) + 1])
    if not len(value_start):
        raise DataError(f"{path}:1: no text; expected '# name width height' first")
    first_value = np.searchsorted(value_start, start)
    num_values = np.diff(np.append(first_value, len(value_start)))
    is_header = text[value_start[np.minimum(first_value, len(value_start) - 1)]] == ord("#")
    lines = _Lines(path, data, start, num_values, is_header & (num_values > 0))
    if (num_values == 0).any():
        lines.fail(np.flatnonzero(num_values == 0), "blank line; remove it")
    if not is_header[0]:
        lines.fail(
            np.arange(np.argmax(np.append(is_header, True))),
            f"expected '# name width height' first, got {lines.text(0)[:60]!r}",
        )
    return lines


def _read_bboxes(lines: _Lines, faces: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (F, 4) float32; refuse boxes that are not finite or are inverted."""
    with np.errstate(over="ignore"):  # what is too large becomes inf, and is named
        bboxes = values.astype(np.float32)
    _check(
        lines, faces, np.all(np.isfinite(bboxes), axis=1), lambda i: f"box {bboxes[i].tolist()} is not finite"
    )
    for axis, letter in ((0, "x"), (1, "y")):
        low, high = bboxes[:, axis], bboxes[:, axis + 2]
        message = f"{letter}2={{:g}} < {letter}1={{:g}}".format
        _check(lines, faces, np.asarray(high >= low), lambda i: message(high[i], low[i]))  # noqa: B023
    return bboxes


def _read_kps(lines: _Lines, faces: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (F, K, 3) float32 with weights instead of v."""
    points = values.astype(np.float32)
    missing = (points == -1).all(2)
    valid = np.isfinite(points).all((1, 2)) & (missing | (points[..., 2] >= 0)).all(1)
    _check(lines, faces, valid, lambda _: "a keypoint has v < 0 or nan; write -1 -1 -1 if unknown")
    points[..., 2] = ~missing
    return points


def _read_classes(lines: _Lines, faces: np.ndarray, values: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return (F,) int64; refuse what is no index into `classes`."""
    valid = (values == np.floor(values)) & (values >= 0) & (values < len(classes))
    message = (
        f"class {{:g}}, but the classes are {tuple(classes)}; set classes of the data set (--classes)".format
    )
    _check(lines, faces, valid, lambda i: message(values[i]))
    return values.astype(np.int64)


def _check(lines: _Lines, line_numbers: np.ndarray, is_good: np.ndarray, describe) -> None:  # noqa: ANN001
    """Raise for the first False of `is_good`; describe(i) gives the reason of row i."""
    bad = np.flatnonzero(~is_good)
    if len(bad):
        lines.fail(line_numbers[bad], describe(bad[0]))


def _wrong_count(count: int, train: bool, num_kps: int) -> str:
    if count == 4 and train:
        return "4 values (only a box) are for test files; write 'x1 y1 x2 y2 0' to train on it"
    if not num_kps:
        return f"{count} values; expected 4 (box, test only), 5 (box, ignore flag) or 6 (with a class)"
    full = 4 + 3 * num_kps
    words = f"{full} (box, {num_kps} points), {full + 1} (with a score) or {full + 2} (with score and class)"
    others = "" if (count - 4) % 3 else f"; if it has {(count - 4) // 3} points, set num_kps of the data set"
    return f"{count} values; expected 4 (box, test only), 5 (box, ignore flag), {words}{others}"


def _read_headers(lines: _Lines, headers: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    found = [_read_header(lines.text(line)) for line in headers]
    bad = [line for line, header in zip(headers, found, strict=True) if header is None]
    if bad:
        text = lines.text(bad[0])[:80]
        sizes = f"positive whole numbers and at most {MAX_IMAGE_PIXELS} pixels"
        lines.fail(bad, f"expected '# name width height' with {sizes}, got {text!r}")
    read = [header for header in found if header is not None]
    sizes_hw = np.array([(height, width) for _, width, height in read], np.int32)
    return tuple(name for name, _, _ in read), sizes_hw


def _read_header(text: str) -> tuple[str, int, int] | None:
    """Return name, width and height of "# name width height ..." or "# name with blanks width height"."""
    fields = text[1:].split()
    if len(fields) >= 3 and "." in fields[0] and (size := _read_size(fields[1:3])):
        return fields[0], *size
    name, *last = text[1:].rsplit(None, 2) if len(fields) >= 3 else ("", "", "")
    size = _read_size(last)
    return (name.strip(), *size) if size else None


def _read_size(words: Sequence[str]) -> tuple[int, int] | None:
    is_whole = all(word.isascii() and word.isdigit() and 0 < len(word) < 10 for word in words)
    width, height = (int(word) for word in words) if is_whole else (0, 0)
    return (width, height) if 0 < width * height <= MAX_IMAGE_PIXELS else None


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
            _fail_at_bad_number(lines, faces)
    if len(values) != expected:
        _fail_at_bad_number(lines, faces)
    return values


def _fail_at_bad_number(lines: _Lines, faces: np.ndarray) -> NoReturn:
    bad: list[int] = []
    word = ""
    for line in faces:
        wrong = next((word for word in lines.text(line).split() if not _is_number(word)), None)
        if wrong is not None:
            bad, word = [*bad, line], word or wrong
    if bad:
        lines.fail(bad, f"{word!r} is not a number")
    raise DataError(f"{lines.path}: cannot read the numbers of the face lines")


def _is_number(word: str) -> bool:
    """Return whether numpy reads it; Python also reads 1_000 and digits of other scripts."""
    try:
        float(word)
    except ValueError:
        return False
    return word.isascii() and "_" not in word
