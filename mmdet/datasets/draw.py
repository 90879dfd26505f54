"""Draw what training sees: augmented images with boxes, keypoints and ignore boxes."""

from pathlib import Path

import cv2
import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms import Compose, Transform
from mmdet.datasets.transforms.color import Normalize
from mmdet.datasets.transforms.test_time import MultiScaleFlipAug
from mmdet.errors import DataError

GREEN, GRAY, RED = (0, 255, 0), (160, 160, 160), (0, 0, 255)


def write_samples(dataset: FacesDataset, out_dir: str | Path, num: int, epoch: int = 0) -> list[Path]:
    """Write `num` samples spread over the data set as 0000_<name>.jpg, ...; return the files.

    Faces are green, ignore boxes gray, annotated keypoints red. Normalisation is left out.

    Raises:
        DataError: out_dir cannot be written.
    """
    out = Path(out_dir)
    pipeline = _without_normalize(dataset.pipeline)
    files = []
    for number, index in enumerate(np.linspace(0, len(dataset) - 1, min(num, len(dataset))).astype(int)):
        sample = pipeline(dataset.load(index), np.random.RandomState([dataset.seed, epoch, index]))
        files.append(out / f"{number:04d}_{Path(sample.name).stem}.jpg")
        try:
            out.mkdir(parents=True, exist_ok=True)
            files[-1].write_bytes(cv2.imencode(".jpg", draw_sample(sample))[1].tobytes())
        except OSError as error:
            raise DataError(f"{files[-1]}: cannot be written ({error.strerror})") from error
    return files


def draw_sample(sample: Sample) -> np.ndarray:
    """Return a (H, W, 3) uint8 drawing of a sample whose pixels are not normalised."""
    drawn = np.ascontiguousarray(sample.image.clip(0, 255).astype(np.uint8))
    for bboxes, color in ((sample.gt_bboxes_ignore, GRAY), (sample.gt_bboxes, GREEN)):
        for x1, y1, x2, y2 in bboxes.round().astype(int).tolist():
            cv2.rectangle(drawn, (x1, y1), (x2, y2), color, 1)
    for x, y, weight in sample.gt_kps.reshape(-1, 3).tolist():
        if weight > 0:
            cv2.circle(drawn, (round(x), round(y)), 1, RED, -1)
    return drawn


def _without_normalize(pipeline: Transform) -> Transform:
    """Return the same transforms without Normalize; it draws no random numbers, so nothing else changes."""
    if isinstance(pipeline, MultiScaleFlipAug):
        return _without_normalize(pipeline.steps)
    if not isinstance(pipeline, Compose):
        return pipeline
    return Compose([_without_normalize(t) for t in pipeline.transforms if not isinstance(t, Normalize)])
