"""The training data pipeline as the reference runs it: float32 from the file on, one sample at a time.

Numpy and OpenCV, written from the rules in words, random draws in the reference's order. A baseline, and an
oracle: with the same random numbers the product gives the same batch, bit by bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from mmdet.datasets.labels import Record

FLIPPED = [1, 0, 2, 4, 3]


@dataclass(frozen=True)
class Recipe:
    """The settings of the published training pipelines."""

    scales: Sequence[float]
    clip: bool
    size: int = 640
    mean: float = 127.5
    std: float = 128.0


def make_batch(
    paths: Sequence[Path], records: Sequence[Record], rngs: Sequence[np.random.RandomState], recipe: Recipe
) -> tuple[torch.Tensor, list[np.ndarray], list[np.ndarray]]:
    """Return images (B, 3, S, S), and per image bboxes (n, 4) and kps (n, 5, 3)."""
    samples = [make_sample(*each, recipe) for each in zip(paths, records, rngs, strict=True)]
    images, bboxes, kps = zip(*samples, strict=True)
    return torch.stack([torch.from_numpy(image) for image in images]), list(bboxes), list(kps)


def make_sample(
    path: Path, record: Record, rng: np.random.RandomState, recipe: Recipe
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the image (3, S, S), bboxes and kps of one file."""
    image = cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    image = image.astype(np.float32)
    image, bboxes, kps = _crop(image, record.bboxes.copy(), record.kps.copy(), rng, recipe)

    scale = np.float32(recipe.size / image.shape[0])
    image = cv2.resize(image, (recipe.size, recipe.size), interpolation=cv2.INTER_LINEAR)
    bboxes, kps[..., :2] = bboxes * scale, kps[..., :2] * scale
    if recipe.clip:
        bboxes, kps[..., :2] = bboxes.clip(0, recipe.size), kps[..., :2].clip(0, recipe.size)

    if rng.choice(2, p=[0.5, 0.5]) == 0:
        image = np.ascontiguousarray(image[:, ::-1])
        bboxes = bboxes[:, [2, 1, 0, 3]]
        bboxes[:, 0::2] = recipe.size - bboxes[:, 0::2]
        kps = kps[:, FLIPPED]
        kps[..., 0] = recipe.size - kps[..., 0]

    image = _distort(image, rng)
    image = cv2.cvtColor(image.copy(), cv2.COLOR_BGR2RGB)
    mean, factor = np.full((1, 3), recipe.mean, np.float64), np.full((1, 3), 1 / recipe.std, np.float64)
    cv2.subtract(image, mean, image)
    cv2.multiply(image, factor, image)
    return np.ascontiguousarray(image.transpose(2, 0, 1)), bboxes, kps


def _crop(
    image: np.ndarray, bboxes: np.ndarray, kps: np.ndarray, rng: np.random.RandomState, recipe: Recipe
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    center = (bboxes[:, :2] + bboxes[:, 2:]) / 2
    while True:
        side = int(rng.choice(recipe.scales) * min(height, width))
        for _ in range(250):
            left, top = _corner(rng, width, side), _corner(rng, height, side)
            inside = (
                (center[:, 0] > left)
                & (center[:, 1] > top)
                & (center[:, 0] < left + side)
                & (center[:, 1] < top + side)
            )
            if not inside.any():
                continue
            bboxes, kps = bboxes[inside], kps[inside]
            if recipe.clip:
                bboxes[:, 0::2] = bboxes[:, 0::2].clip(left, left + side)
                bboxes[:, 1::2] = bboxes[:, 1::2].clip(top, top + side)
                kps[..., 0] = kps[..., 0].clip(left, left + side)
                kps[..., 1] = kps[..., 1].clip(top, top + side)
            bboxes -= np.tile(np.array([left, top], np.float32), 2)
            kps[..., :2] -= np.array([left, top], np.float32)
            patch = np.full((side, side, 3), 128, dtype=np.float32)
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
            patch[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
            return patch, bboxes, kps


def _corner(rng: np.random.RandomState, size: int, side: int) -> int:
    if side == size:
        return 0
    return int(rng.randint(0, size - side)) if side < size else int(rng.randint(size - side, 0))


def _distort(image: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    if rng.randint(2):
        image += np.float32(rng.uniform(-32, 32))
    contrast_first = rng.randint(2)
    if contrast_first and rng.randint(2):
        image *= np.float32(rng.uniform(0.5, 1.5))
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if rng.randint(2):
        image[..., 1] *= np.float32(rng.uniform(0.5, 1.5))
    if rng.randint(2):
        image[..., 0] += np.float32(rng.uniform(-18, 18))
        image[..., 0][image[..., 0] > 360] -= 360
        image[..., 0][image[..., 0] < 0] += 360
    image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if not contrast_first and rng.randint(2):
        image *= np.float32(rng.uniform(0.5, 1.5))
    if rng.randint(2):
        image = image[..., rng.permutation(3)]
    return image
