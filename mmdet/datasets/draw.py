"""Draw what training sees: augmented images with boxes, keypoints and ignore boxes."""

from pathlib import Path

import numpy as np

from mmdet.core.structures import Sample
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms import Compose, Transform
from mmdet.datasets.transforms.color import Normalize
from mmdet.datasets.transforms.test_time import MultiScaleFlipAug
from mmdet.errors import DataError
from mmdet.visualize.draw import draw_faces, encode, spread


def write_samples(dataset: FacesDataset, out_dir: str | Path, num: int, epoch: int = 0) -> list[Path]:
    """Write `num` samples spread over the data set as 0000_<name>.jpg, ...; return the files.

    Faces are green, ignore boxes gray, annotated keypoints red. Normalisation is left out.

    Raises:
        DataError: out_dir cannot be written.
    """
    out = Path(out_dir)
    pipeline = without_normalize(dataset.pipeline)
    files = []
    for number, index in enumerate(spread(len(dataset), num)):
        sample = pipeline(dataset.load(index), np.random.RandomState([dataset.seed, epoch, index]))
        files.append(out / f"{number:04d}_{Path(sample.name).stem}.jpg")
        try:
            out.mkdir(parents=True, exist_ok=True)
            files[-1].write_bytes(encode(files[-1].name, draw_sample(sample)))
        except OSError as error:
            raise DataError(f"{files[-1]}: cannot be written ({error.strerror})") from error
    return files


def draw_sample(sample: Sample) -> np.ndarray:
    """Return a (H, W, 3) uint8 drawing of a sample whose pixels are not normalised."""
    drawn = np.ascontiguousarray(sample.image.clip(0, 255).astype(np.uint8))
    draw_faces(drawn, sample.gt_bboxes, sample.gt_kps, sample.gt_bboxes_ignore)
    return drawn


def without_normalize(pipeline: Transform) -> Transform:
    """Return the same transforms without Normalize; it draws no random numbers, so nothing else changes."""
    if isinstance(pipeline, MultiScaleFlipAug):
        return without_normalize(pipeline.steps)
    if not isinstance(pipeline, Compose):
        return pipeline
    return Compose([without_normalize(t) for t in pipeline.transforms if not isinstance(t, Normalize)])
