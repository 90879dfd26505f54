"""What tools/retinaface.py does: faces of all images of a folder as JSON, one file per image.

Images are fitted into a square of max_size, padded on both sides with black. Coordinates are cut to whole
pixels where the original cuts them: boxes before the padding is taken off and again at the end, keypoints at
the end. No file is written for a image without faces.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mmdet.deploy.runtime.checks import check_fraction
from mmdet.device import pick_device
from mmdet.distributed import read_torchrun
from mmdet.errors import DataError
from mmdet.files import atomic_write, write_text
from mmdet.images import UnreadableImageError, read_image
from mmdet.retinaface.predictor import IOU_THR, SCORE_THR, Found, Predictor, fit, no_face

logger = logging.getLogger("mmdet")

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
COLOURS = ((0, 0, 255), (0, 255, 255), (255, 0, 255), (0, 255, 0), (255, 0, 0))  # BGR, one per keypoint


class Pads(NamedTuple):
    """Pixels on each side of a fitted image inside the square."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class FolderOptions:
    """How to go through a folder.

    Attributes:
        visualize: also write the images with their faces drawn.
        batch_size: images per forward pass.
        workers: threads that read images.
        score_thr, iou_thr: see `Predictor.predict_jsons`.
        keep_top_k: at most so many faces of a image.
    """

    visualize: bool = False
    batch_size: int = 1
    workers: int = 4
    score_thr: float = SCORE_THR
    iou_thr: float = IOU_THR
    keep_top_k: int = 750


def predict_folder(
    predictor: Predictor, folder: Path, out: Path, options: FolderOptions, rank: int = 0, world_size: int = 1
) -> int:
    """Detect faces in the images rank, rank + world_size, ... below a folder.

    Args:
        predictor: the model.
        folder: searched with its subfolders.
        out: labels/SUBFOLDER/NAME.json and viz/SUBFOLDER/NAME.jpg go here.
        options: see there.
        rank: of this process.
        world_size: number of processes that share the work.

    Returns:
        How many images had faces.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    paths = find_images(folder)[rank::world_size]
    num_with_faces = 0
    with ThreadPoolExecutor(max(options.workers, 1)) as pool:
        for first in range(0, len(paths), options.batch_size):
            part = paths[first : first + options.batch_size]
            images = [
                (path, image)
                for path, image in zip(part, pool.map(_read, part), strict=True)
                if image is not None
            ]
            for (path, image), annotations in zip(images, _predict(predictor, images, options), strict=True):
                if annotations[0]["score"] >= 0:
                    num_with_faces += 1
                    _write(path.relative_to(folder), image, annotations, out, options.visualize)
    return num_with_faces


def run_folder(
    folder: Path,
    out: Path,
    options: FolderOptions,
    *,
    config: Path,
    weights: Path,
    max_size: int,
    half: bool = False,
    device: str = "auto",
) -> None:
    """Build the predictor and go through a folder, this rank's share of it; print how many had faces.

    Args:
        folder: see `predict_folder`.
        out: likewise.
        options: likewise.
        config: of the model.
        weights: of the model.
        max_size: longest side of the network's input, pixels.
        half: run in half precision.
        device: "auto", "npu", "cuda" or "cpu"; each local rank takes one of its own.

    Raises:
        MMDetError: of the kind that fits.
    """
    from mmdet.apis import init_detector

    check_fraction("--confidence_threshold", options.score_thr)
    check_fraction("--nms_threshold", options.iou_thr)
    find_images(folder)  # before the model is built
    launch = read_torchrun()
    picked = pick_device(device, launch.local_rank, first_npu=launch.first_npu)
    predictor = Predictor(init_detector(config, weights, picked), max_size, half)
    num = predict_folder(predictor, folder, out, options, launch.rank, launch.world_size)
    print(f"rank {launch.rank}: {num} images with faces, see {out / 'labels'}", flush=True)


def find_images(folder: Path) -> list[Path]:
    """Return the images below a folder, sorted.

    Raises:
        DataError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"--input_path {folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"--input_path {folder} holds no image ({', '.join(SUFFIXES)})")
    return paths


def pad_square(image: np.ndarray, side: int) -> tuple[np.ndarray, Pads]:
    """Return the image in the middle of a black square; an odd pixel goes right or below."""
    height, width = image.shape[:2]
    left, top = (side - width) // 2, (side - height) // 2
    pads = Pads(left, top, side - width - left, side - height - top)
    border = cv2.BORDER_CONSTANT
    return cv2.copyMakeBorder(
        image, pads.top, pads.bottom, pads.left, pads.right, border, value=(0, 0, 0)
    ), pads


def to_annotations(found: Found, pads: Pads, scale: float, keep_top_k: int) -> list[dict[str, Any]]:
    """Return the annotations of one image, in its pixels, cut to integers.

    Args:
        found: in pixels of the square.
        pads: of the image in the square.
        scale: from pixels of the square to pixels of the image.
        keep_top_k: at most so many.
    """
    if not len(found.bboxes):
        return [no_face()]
    corner = np.array([pads.left, pads.top])
    bboxes = ((found.bboxes[:keep_top_k].astype(int) - np.tile(corner, 2)) * scale).astype(int)
    kps = ((found.kps[:keep_top_k] - corner) * scale).astype(int)
    return [
        {"bbox": bbox.tolist(), "score": float(score), "landmarks": points.tolist()}
        for bbox, score, points in zip(bboxes, found.scores, kps, strict=False)
    ]


def _read(path: Path) -> np.ndarray | None:
    """Return the BGR image; None, with a warning, if it is none."""
    try:
        return read_image(path)
    except UnreadableImageError as error:
        logger.warning("%s; left out", error)
        return None


def _predict(
    predictor: Predictor, images: Sequence[tuple[Path, np.ndarray]], options: FolderOptions
) -> Iterator[list[dict[str, Any]]]:
    """Yield the annotations of each image, all in one forward pass."""
    if not images:
        return
    side = predictor.max_size
    padded = [pad_square(fit(image[..., ::-1], side), side) for _, image in images]
    outputs = predictor.run([square for square, _ in padded])
    for (_, image), (_, pads), output in zip(images, padded, outputs, strict=True):
        found = predictor.decode(output, options.score_thr, options.iou_thr)
        yield to_annotations(found, pads, max(image.shape[:2]) / side, options.keep_top_k)


def _write(
    name: Path, image: np.ndarray, annotations: list[dict[str, Any]], out: Path, visualize: bool
) -> None:
    """Write the JSON file, and the drawn image, under the image's path in the folder."""
    content = {"file_name": name.name, "annotations": annotations, "file_path": name.as_posix()}
    write_text((out / "labels" / name).with_suffix(".json"), json.dumps(content, indent=2), parents=True)
    if visualize:
        with atomic_write((out / "viz" / name).with_suffix(".jpg"), parents=True) as part:
            ok, encoded = cv2.imencode(".jpg", draw(image, annotations))
            assert ok
            part.write_bytes(encoded.tobytes())


def draw(image: np.ndarray, annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return a copy of a BGR image with boxes and keypoints drawn."""
    image = image.copy()
    for annotation in annotations:
        x1, y1, x2, y2 = annotation["bbox"]
        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 255, 0), 2)
        for point, colour in zip(annotation["landmarks"], COLOURS, strict=False):
            cv2.circle(image, tuple(point), 2, colour, 3)
    return image
