"""Find what is wrong with a label file and its images: each kind once, with a count and examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from mmdet.datasets.labels import LabelFile, read_as
from mmdet.datasets.labels.base import DEFAULT_NUM_KPS
from mmdet.datasets.labels.findings import find_oddities, place_of
from mmdet.datasets.labels.labelv2 import LineError
from mmdet.datasets.labels.text import read_utf8
from mmdet.evaluation.widerface.files import read_wider_gt, split_name
from mmdet.images import UnreadableImageError, read_image, read_image_size

NUM_EXAMPLES = 3
NEAR_BITS = 2  # of 64, by which the fingerprints of near-identical images differ at most


@dataclass
class Problem:
    """One kind of problem: how many, where the first are, the images or faces it concerns.

    Attributes:
        kind: short name.
        what: a sentence, without the count.
        examples: the first places.
        count: how many.
        is_error: the data cannot be used as it is; else it is merely odd.
    """

    kind: str
    what: str
    examples: list[str] = field(default_factory=list)
    count: int = 0
    is_error: bool = True

    def add(self, places: Iterable[str]) -> "Problem":
        """Count places and keep the first ones."""
        for place in places:
            self.count += 1
            if len(self.examples) < NUM_EXAMPLES:
                self.examples.append(place)
        return self


@dataclass(frozen=True)
class LabelledSet:
    """Where the labels and images of a set are, as a data set's config says it."""

    ann_file: Path
    img_prefix: Path
    label_format: str = "labelv2"
    classes: Sequence[str] | None = None
    num_kps: int = DEFAULT_NUM_KPS


def read_all(source: LabelledSet) -> tuple[LabelFile, list[Problem]]:
    """Return the labels of the good lines, and a problem for each kind of bad line.

    Raises:
        DataError: nothing can be read.
    """
    options = {"train": False, "classes": source.classes, "num_kps": source.num_kps}
    if source.label_format != "labelv2":
        return read_as(source.ann_file, source.label_format, **options), []
    problems, dropped = [], set[int]()
    lines = read_utf8(source.ann_file).split(b"\n")
    with TemporaryDirectory() as folder:
        path = source.ann_file
        while True:
            try:
                labels = read_as(path, "labelv2", **options)
                break
            except LineError as error:
                text = str(error).replace(f"{path}:", f"{source.ann_file}:")
                bad = [_original(line, dropped, len(lines)) for line in error.lines]
                problem = Problem("bad lines", text.split(": ", 1)[1].split(" (")[0])
                problems.append(problem.add(f"{source.ann_file}:{line + 1}" for line in bad))
                dropped |= _with_blocks(bad, lines)
                path = Path(folder) / source.ann_file.name
                path.write_bytes(b"\n".join(x for i, x in enumerate(lines) if i not in dropped))
    if dropped:  # lines of the original file
        kept = [i for i in range(len(lines)) if i not in dropped]
        assert labels.lines is not None
        labels = replace(labels, lines=np.array(kept)[labels.lines - 1] + 1)
    return labels, problems


def find_label_problems(labels: LabelFile, path: Path) -> list[Problem]:
    """Return the problems of labels that could be read."""
    problems = []
    for finding in find_oddities(labels):
        what = finding.what.split(" faces ", 1)[-1]
        problem = Problem(finding.kind, f"faces {what}", count=len(finding.faces), is_error=finding.is_fatal)
        problem.examples = [place_of(labels, int(face), path) for face in finding.faces[:NUM_EXAMPLES]]
        problems.append(problem)
    names, counts = np.unique(np.array(labels.names, dtype=object).astype(str), return_counts=True)
    problems.append(Problem("repeated names", "names occur more than once").add(names[counts > 1]))
    size_wh = np.repeat(labels.sizes_hw[:, ::-1], np.diff(labels.offsets), axis=0)
    is_known = (size_wh > 0).all(1)
    beyond = np.flatnonzero(is_known & (labels.bboxes[:, 2:] > 1.05 * size_wh).any(1))
    problem = Problem("beyond the image", "boxes reach more than 5 % beyond the image", is_error=False)
    problems.append(problem.add(place_of(labels, int(row), path) for row in beyond))
    fits_as_xywh = labels.bboxes[:, :2] + labels.bboxes[:, 2:] <= size_wh + 1
    if is_known.sum() >= 20 and fits_as_xywh[is_known].all():
        what = "boxes would all fit as x y w h: are they that instead of x1 y1 x2 y2?"
        problems.append(Problem("x y w h", what, [str(path)], len(labels.bboxes), is_error=False))
    return [problem for problem in problems if problem.count]


def find_image_problems(labels: LabelFile, folder: Path, decode: bool) -> list[Problem]:
    """Return images that are missing, unreadable or of another size than the labels say.

    Args:
        labels: names and sizes.
        folder: of the images.
        decode: read all pixels; else the headers only.
    """
    missing = Problem("missing images", "images are not in the folder")
    broken = Problem("unreadable images", "images cannot be read")
    wrong = Problem("wrong size", "images have another size than the labels say")
    for name, size_hw in zip(labels.names, labels.sizes_hw.tolist(), strict=True):
        path = folder / name
        if not path.is_file():
            missing.add([name])
            continue
        try:
            found = read_image(path).shape[:2] if decode else read_image_size(path)
        except UnreadableImageError as error:
            broken.add([str(error)])
            continue
        if min(size_hw) and tuple(size_hw) not in (found, found[::-1]):
            wrong.add([f"{name}: {found[1]}x{found[0]} px, the labels say {size_hw[1]}x{size_hw[0]}"])
    return [problem for problem in (missing, broken, wrong) if problem.count]


def find_overlap(one: tuple[LabelFile, Path], other: tuple[LabelFile, Path]) -> list[Problem]:
    """Return images that stand in two sets, by name and by what they show."""
    shared = set(one[0].names) & set(other[0].names)
    problems = [Problem("names in both sets", "names are in both sets", is_error=False).add(sorted(shared))]
    prints = [_fingerprints(labels, folder) for labels, folder in (one, other)]
    near = Problem("same image in both sets", "images are nearly identical in both sets", is_error=False)
    pairs: dict[str, None] = {}  # in order, without the repetitions of a repeated name
    for start in range(0, len(prints[0]), 1024):
        common = prints[0][start : start + 1024] @ prints[1].T  # 64 - 2 x different bits
        for row, column in np.argwhere(common >= 64 - 2 * NEAR_BITS):
            pairs[f"{one[0].names[start + row]} and {other[0].names[column]}"] = None
    near.add(pairs)
    return [problem for problem in (*problems, near) if problem.count]


def compare_with_gt(labels: LabelFile, gt_dir: Path) -> list[Problem]:
    """Return how a label file and the .mat files of a gt folder disagree.

    Raises:
        DataError: the .mat files cannot be read.
    """
    gt = {(image.event, image.name): len(image.bboxes_xywh) for image in read_wider_gt(gt_dir)}
    counts = {split_name(r.name): len(r.bboxes) + len(r.bboxes_ignore) for r in labels}
    only_gt = Problem("gt without labels", f"images of {gt_dir} are not in the label file")
    only_labels = Problem("labels without gt", f"images are not in {gt_dir}", is_error=False)
    differ = Problem(
        "gt and labels differ", "images have another number of faces in gt and labels", is_error=False
    )
    only_gt.add("/".join(key) for key in gt if key not in counts)
    only_labels.add("/".join(key) for key in counts if key not in gt)
    differ.add(
        f"{'/'.join(key)}: {gt[key]} and {counts[key]}" for key in gt if counts.get(key, gt[key]) != gt[key]
    )
    return [problem for problem in (only_gt, only_labels, differ) if problem.count]


def _original(line: int, dropped: set[int], count: int) -> int:
    """Return the place in the whole file of a line of what is left."""
    return [i for i in range(count) if i not in dropped][line]


def _with_blocks(bad: Sequence[int], lines: Sequence[bytes]) -> set[int]:
    """Return bad lines, and with a header all lines of its image."""
    found = set(bad)
    for line in bad:
        if lines[line].lstrip().startswith(b"#"):
            line += 1
            while line < len(lines) and not lines[line].lstrip().startswith(b"#"):
                found.add(line)
                line += 1
    return found


def _fingerprints(labels: LabelFile, folder: Path) -> np.ndarray:
    """Return (N, 64) float32: 1 where the brightness grows from left to right, else -1; 0 if unreadable."""
    prints = np.zeros((len(labels), 64), np.float32)
    for row, name in enumerate(labels.names):
        path = folder / name
        image = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_4) if path.is_file() else None
        if image is not None:
            small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA)
            prints[row] = np.where(small[:, 1:] > small[:, :-1], 1, -1).ravel()
    return prints
