"""Small data sets on disk for the tests of this folder."""

from pathlib import Path

import cv2
import numpy as np

from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms import Compose, Transform
from mmdet.datasets.transforms.color import Normalize, PhotoMetricDistortion
from mmdet.datasets.transforms.crop import RandomSquareCrop
from mmdet.datasets.transforms.formatting import LoadImageFromFile
from mmdet.datasets.transforms.geometric import Pad, RandomFlip, Resize
from mmdet.datasets.transforms.test_time import MultiScaleFlipAug

NORMALIZE = dict(mean=(127.5, 127.5, 127.5), std=(128.0, 128.0, 128.0))


def write_images(root: Path, num: int, faces_per_image: int = 2) -> None:
    """Write `num` noise images, every third one higher than wide, and their label file."""
    (root / "images").mkdir(parents=True)
    lines = []
    for i in range(num):
        rng = np.random.RandomState(i)
        height, width = (80, 60) if i % 3 == 0 else (60, 80)
        cv2.imwrite(
            str(root / "images" / f"{i}.png"), rng.randint(0, 256, (height, width, 3)).astype(np.uint8)
        )
        lines.append(f"# {i}.png {width} {height}")
        lines += [f"{5 + 3 * k} 10 {25 + 3 * k} {30 + k} 0" for k in range(faces_per_image)]
    (root / "labelv2.txt").write_text("\n".join(lines) + "\n")


def train_transform(side: int = 64) -> Transform:
    return Compose(
        [
            RandomSquareCrop(crop_choice=(0.5, 1.0, 1.5)),
            LoadImageFromFile(to_float32=True),
            Resize(img_scale=(side, side), keep_ratio=False),
            RandomFlip(flip_ratio=0.5),
            PhotoMetricDistortion(),
            Normalize(**NORMALIZE),
        ]
    )


def eval_transform(side: int = 64) -> Transform:
    steps = [Resize(), Normalize(**NORMALIZE), Pad(size=(side, side))]
    return MultiScaleFlipAug(transforms=steps, img_scale=(side, side))


def make_dataset(root: Path, seed: int = 0, **options: object) -> FacesDataset:
    return FacesDataset(root / "labelv2.txt", root / "images", train_transform(), seed=seed, **options)
