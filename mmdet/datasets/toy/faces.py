"""A drawn, seeded data set in the shape of WIDER FACE: any size, no download, no licence.

Image i of a split depends only on (seed, split, i), so the first 100 images of a set of 1,000 are those of a
set of 100. Images are portraits, groups, crowds or empty, one event folder each:

    out/train/labelv2.txt  out/train/images/EVENT/*.jpg
    out/val/labelv2.txt    out/val/images/EVENT/*.jpg    out/val/gt/wider_{face,easy,medium,hard}_val.mat
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState

from mmdet.datasets.toy import draw as toy_draw
from mmdet.errors import ConfigError, DataError

_SPLITS = ("train", "val")
_EVENTS = ("0--Portrait", "1--Group", "2--Crowd", "3--Empty")
_EVENT_SHARE = (0.35, 0.45, 0.1, 0.1)
_FAR_SHARE = 0.05  # of the faces in crowds: so far away that they become ignore regions
_MIN_FACE = 8.0  # shorter side in pixels; smaller ones become ignore regions


@dataclass(frozen=True)
class ToyFace:
    """A labelled face.

    Attributes:
        bbox: (4,) xyxy, pixels, inside the image.
        kps: (5, 2), or None if the label has no points.
        is_ignored: too small or too blurred to count.
    """

    bbox: np.ndarray
    kps: np.ndarray | None
    is_ignored: bool


@dataclass(frozen=True)
class ToyImage:
    """A drawn image and its label; `name` is the path below images/."""

    image: np.ndarray
    faces: tuple[ToyFace, ...]
    name: str
    quality: int


def draw_toy_image(seed: int, split: str, index: int, size: tuple[int, int] = (320, 480)) -> ToyImage:
    """Draw image `index` of a split.

    Args:
        seed: of the whole data set.
        split: "train" or "val".
        index: from 0.
        size: smallest and largest long side, pixels.
    """
    rng = RandomState([seed, _SPLITS.index(split), index])
    event = int(rng.choice(len(_EVENTS), p=_EVENT_SHARE))
    long_side = rng.randint(size[0], size[1] + 1)
    short_side = int(long_side * rng.uniform(0.67, 1))
    height, width = (short_side, long_side) if rng.rand() < 0.6 else (long_side, short_side)

    image = toy_draw.draw_background(rng, height, width)
    toy_draw.draw_distractors(rng, image, rng.randint(2, 12))
    faces = [_draw_face(rng, image, spot) for spot in _choose_spots(rng, event, height, width)]
    image = toy_draw.finish(rng, image)
    folder = _EVENTS[event]
    name = f"{folder}/{folder.replace('--', '_')}_{split}_{index:06d}.jpg"
    return ToyImage(image, tuple(face for face in faces if face is not None), name, int(rng.randint(75, 96)))


def _choose_spots(rng: RandomState, event: int, height: int, width: int) -> list[np.ndarray]:
    """Return (x, y, half height) of each face, small ones first; none hides much of another."""
    side = min(height, width)
    num, low, high = (
        (1, 0.16, 0.34),
        (rng.randint(2, 7), 0.05, 0.16),
        (rng.randint(10, 30), 0.02, 0.06),
        (0, 0, 0),
    )[event]
    spots: list[np.ndarray] = []
    for _ in range(num):
        for _ in range(12):
            half = side * np.exp(rng.uniform(np.log(low), np.log(high))) if high else 0
            if num >= 10 and rng.rand() < _FAR_SHARE:
                half = 0.011 * side
            x, y = rng.uniform(0.4 * half, width - 0.4 * half), rng.uniform(0.6 * half, height - 0.4 * half)
            spot = np.array([x, y, half])
            if not any(_collide(spot, other) for other in spots):
                spots.append(spot)
                break
    return sorted(spots, key=lambda spot: spot[2])


def _collide(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two heads overlap, or the nearer one's shoulders hide the other's face."""
    far, near = (a, b) if a[2] < b[2] else (b, a)
    dx, dy = abs(far[0] - near[0]), far[1] - near[1]
    heads = dx < 1.05 * (far[2] + near[2]) and abs(dy) < 1.25 * (far[2] + near[2])
    body = dx < 1.7 * near[2] + 0.8 * far[2] and -far[2] < dy - near[2] < 3 * near[2]
    return heads or body


def _draw_face(rng: RandomState, image: np.ndarray, spot: np.ndarray) -> ToyFace | None:
    """Draw one person and return the label, None if less than 40 % of the face is in the image."""
    center, half_h = spot[:2], spot[2]
    head = toy_draw.draw_head(rng)
    roll = float(np.clip(rng.normal(0, 0.2), -0.6, 0.6) if rng.rand() < 0.93 else rng.uniform(-1.5, 1.5))
    blur = float(half_h * rng.uniform(0.03, 0.12)) if rng.rand() < 0.15 else 0.0
    scale = half_h / head.axes[1]
    if rng.rand() < 0.8:
        toy_draw.draw_person(rng, image, center, half_h)
    kps = toy_draw.paste_head(image, head, center, scale, roll, blur)

    cos, sin = np.cos(roll), np.sin(roll)
    half = scale * np.hypot(head.axes * cos, head.axes[::-1] * sin)  # extent of a turned ellipse
    limit = np.array([image.shape[1], image.shape[0]], dtype=np.float64)
    low, high = np.clip(center - half, 0, limit), np.clip(center + half, 0, limit)
    if np.prod(high - low) < 0.4 * np.prod(2 * half):
        return None
    if rng.rand() < 0.12:
        _occlude(rng, image, center, half)
    is_inside = bool(((kps >= 0) & (kps < limit)).all())
    has_kps = is_inside and 2 * half.min() >= 12 and rng.rand() < 0.9
    return ToyFace(
        np.concatenate([low, high]), kps if has_kps else None, bool((high - low).min() < _MIN_FACE)
    )


def _occlude(rng: RandomState, image: np.ndarray, center: np.ndarray, half: np.ndarray) -> None:
    """Put something in front of up to about a third of a face."""
    side = rng.choice([-1, 1])
    at = center + half * (side * rng.uniform(0.7, 1.0), rng.uniform(-0.6, 0.8))
    size = np.maximum(half * rng.uniform(0.3, 0.6, 2), 1).astype(int)
    cv2.ellipse(image, tuple(at.astype(int)), tuple(size), rng.randint(180), 0, 360, toy_draw.color(rng), -1)


def label_lines(toy: ToyImage) -> Iterator[str]:
    """Yield the image's lines of labelv2.txt: "# name width height", then one line per face."""
    height, width = toy.image.shape[:2]
    yield f"# {toy.name} {width} {height}"
    for face in toy.faces:
        bbox = " ".join(f"{v:.2f}" for v in face.bbox)
        if face.is_ignored:
            yield f"{bbox} 1"
        elif face.kps is None:
            yield bbox + " -1 -1 -1" * 5
        else:
            yield bbox + "".join(f" {x:.2f} {y:.2f} 0" for x, y in face.kps)


def write_toy_faces(
    out: str | Path, train: int, val: int, seed: int = 0, size: tuple[int, int] = (320, 480), workers: int = 1
) -> None:
    """Draw and write a data set.

    Args:
        out: folder to make; files of an older set there are replaced.
        train: number of training images.
        val: number of validation images.
        seed: same seed, same bytes.
        size: smallest and largest long side, pixels.
        workers: processes that draw.

    Raises:
        ConfigError: a count, the seed or the size makes no sense.
        DataError: `out` cannot be written.
    """
    if train < 0 or val < 0 or not 0 <= seed < 2**32 or not 64 <= size[0] <= size[1]:
        raise ConfigError(
            f"train={train}, val={val}, seed={seed}, size={tuple(size)}: counts must be >= 0, the seed in "
            "[0, 2**32), and 64 <= smallest long side <= largest."
        )
    from mmdet.evaluation.widerface.mat import write_wider_gt  # brings scipy, which drawing does not need

    root = Path(out)
    try:
        for split, num in zip(_SPLITS, (train, val), strict=True):
            for event in _EVENTS:
                (root / split / "images" / event).mkdir(parents=True, exist_ok=True)
            draw = partial(_write_image, root=root / split, seed=seed, split=split, size=size)
            with open(root / split / "labelv2.txt", "w", encoding="utf-8") as label_file:
                label_file.writelines(_map(draw, num, workers))
        if val:
            write_wider_gt(root / "val" / "labelv2.txt", root / "val" / "gt")
    except OSError as error:
        raise DataError(f"{out}: cannot write the toy data set there ({error}).") from error


def _map(draw: partial, num: int, workers: int) -> Iterator[str]:
    if workers <= 1:
        yield from map(draw, range(num))
        return
    count = min(workers, os.cpu_count() or 1)
    with ProcessPoolExecutor(count, get_context("spawn"), cv2.setNumThreads, (0,)) as pool:
        yield from pool.map(draw, range(num), chunksize=16)


def _write_image(index: int, root: Path, seed: int, split: str, size: tuple[int, int]) -> str:
    toy = draw_toy_image(seed, split, index, size)
    _, jpeg = cv2.imencode(".jpg", toy.image, [cv2.IMWRITE_JPEG_QUALITY, toy.quality])
    (root / "images" / toy.name).write_bytes(jpeg.tobytes())
    return "\n".join(label_lines(toy)) + "\n"
