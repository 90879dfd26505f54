"""How many faces teach nothing: those that get no anchor from the assigner of a config, at its crops."""

import numpy as np

from mmdet.config.types import RunConfig
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.datasets.build import build_pipeline
from mmdet.datasets.check.problems import Problem
from mmdet.datasets.collate import Collate
from mmdet.datasets.faces import blank_sample
from mmdet.datasets.labels import LabelFile
from mmdet.models.build import build_criterion

MOST_IMAGES = 1000
BATCH = 16
SIDES = (0, 4, 8, 16, 32, np.inf)  # of a face in the network's input, pixels
# Steps that neither move a face nor change the size of an image.
PIXELS_ONLY: tuple[str, ...] = (
    *("LoadImageFromFile", "LoadAnnotations", "DefaultFormatBundle", "ImageToTensor", "Collect", "Normalize"),
    *(
        "PhotoMetricDistortion",
        "Albumentations",
        "HueSaturationValue",
        "RandomGamma",
        "RandomBrightnessContrast",
    ),
)


def find_unlearned(labels: LabelFile, cfg: RunConfig) -> list[Problem]:
    """Count the faces without an anchor in one random crop of up to 1,000 images; no image file is read.

    Args:
        labels: of the training set, with sizes.
        cfg: its model's anchors and assigner, and the pipeline of data.train.

    Returns:
        One oddity with a line per size of face; none where all faces get an anchor, where the assigner needs
        the network, or no size is known.
    """
    assign = assign_ahead(build_criterion(cfg.model, cfg.train_cfg))
    usable = np.flatnonzero((labels.sizes_hw.min(1, initial=1) > 0) & (np.diff(labels.offsets) > 0))
    if assign is None or not len(usable):
        return []
    steps = [step for step in cfg.data.train["pipeline"] if step.get("type") not in PIXELS_ONLY]
    pipeline = build_pipeline(steps)
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(len(usable), MOST_IMAGES)).astype(int))]
    collate = Collate(cfg.data.gt_slots, labels.num_kps, assign)
    parts = []
    for start in range(0, len(chosen), BATCH):
        samples = []
        for row in chosen[start : start + BATCH].tolist():
            blank = blank_sample(labels[row], labels.sizes_hw[row].tolist())
            samples.append(pipeline(blank, np.random.RandomState([0, row])))
        parts.append(_learned(collate(samples)))
    sides, learned = np.concatenate(parts, axis=1)
    return _describe(sides, learned, len(chosen))


def _learned(batch: Batch) -> np.ndarray:
    """Return (2, n): side in pixels, and 1 for an anchor at least, of the n faces of an assigned batch."""
    assert batch.assigned is not None
    image, anchor = np.nonzero(batch.assigned.is_positive.numpy())
    learned = np.zeros(batch.gt_valid.shape, bool)
    learned[image, batch.assigned.gt_index.numpy()[image, anchor]] = True
    bboxes, is_face = batch.gt_bboxes.numpy(), batch.gt_valid.numpy()
    sides = np.sqrt((bboxes[..., 2:] - bboxes[..., :2]).prod(-1))
    return np.stack([sides[is_face], learned[is_face]])


def _describe(sides: np.ndarray, learned: np.ndarray, num_images: int) -> list[Problem]:
    count = int((learned == 0).sum())
    if not count:
        return []
    what = f"of {len(sides)} faces, in crops of {num_images} images as training makes them, get no anchor"
    lines = []
    for low, high in zip(SIDES, SIDES[1:], strict=False):
        is_here = (low <= sides) & (sides < high)
        if lost := int((learned[is_here] == 0).sum()):
            lines.append(f"{lost} of {int(is_here.sum())} faces of {low:g} to {high:g} px in the input")
    return [Problem("no anchor", what, lines, count, is_error=False)]
