"""Make batches of fixed shape out of samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmdet.core.structures import Assignment, Batch, Note, Sample
from mmdet.datasets.labels.base import DEFAULT_NUM_KPS
from mmdet.errors import ConfigError


class Collate:
    """Stack images, and pad the faces of each to one of a few slot counts.

    Images of different size are padded right and below with 0 (after normalisation) to the largest.
    Ignore boxes share the slots with the faces, after them. G is the smallest slot count that holds the
    fullest image of the batch. An image with more than the largest count loses its ignore boxes first, then
    its faces, smallest area first; a note of the batch names it and counts the lost faces.

    Args:
        gt_slots: allowed values of G, for example (32, 128, 512, 2048).
        num_kps: K of samples (a batch of images without faces has to know).
        assign: says which face each anchor learns (core/assigners/base.py); None: the criterion does.
    """

    def __init__(
        self,
        gt_slots: Sequence[int],
        num_kps: int = DEFAULT_NUM_KPS,
        assign: Callable[[Batch], Assignment] | None = None,
    ) -> None:
        slots = tuple(sorted(int(slot) for slot in gt_slots))
        if not slots or slots[0] < 1:
            raise ConfigError(f"data.gt_slots = {tuple(gt_slots)}: expected positive numbers")
        self.gt_slots = slots
        self.num_kps = num_kps
        self.assign = assign

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return the batch of B samples."""
        notes = [note for sample in samples for note in sample.notes]
        fitting = [self._fit(sample, notes) for sample in samples]
        needed = max(len(s.gt_bboxes) + len(s.gt_bboxes_ignore) for s in fitting)
        num_slots = next(slot for slot in self.gt_slots if slot >= needed)
        shape = (len(samples), num_slots)
        gt_bboxes = np.zeros((*shape, 4), np.float32)
        gt_labels = np.zeros(shape, np.int64)
        gt_kps = np.zeros((*shape, self.num_kps, 3), np.float32)
        gt_valid, gt_ignore = np.zeros(shape, bool), np.zeros(shape, bool)
        for row, sample in enumerate(fitting):
            num_faces = len(sample.gt_bboxes)
            end = num_faces + len(sample.gt_bboxes_ignore)
            gt_bboxes[row, :num_faces] = sample.gt_bboxes
            gt_bboxes[row, num_faces:end] = sample.gt_bboxes_ignore
            gt_labels[row, :num_faces] = sample.gt_labels
            gt_kps[row, :num_faces] = sample.gt_kps
            gt_valid[row, :num_faces] = True
            gt_ignore[row, num_faces:end] = True
        images = [sample.image for sample in samples]
        pixel_ops = [sample.pixel_ops for sample in samples if sample.pixel_ops is not None]
        is_raw = len(pixel_ops) > 0  # all samples of a pipeline are alike
        batch = Batch(
            images=torch.from_numpy(np.stack(images)) if is_raw else stack_images(images),
            gt_bboxes=torch.from_numpy(gt_bboxes),
            gt_labels=torch.from_numpy(gt_labels),
            gt_kps=torch.from_numpy(gt_kps),
            gt_valid=torch.from_numpy(gt_valid),
            gt_ignore=torch.from_numpy(gt_ignore),
            valid_hw=torch.tensor([sample.image.shape[:2] for sample in samples], dtype=torch.int64),
            names=tuple(sample.name for sample in samples),
            notes=tuple(notes),
            pixel_ops=torch.from_numpy(np.stack(pixel_ops)) if is_raw else None,
        )
        return batch if self.assign is None else replace(batch, assigned=self.assign(batch))

    def _fit(self, sample: Sample, notes: list[Note]) -> Sample:
        """Return the sample with at most gt_slots[-1] boxes; append a note if it lost any."""
        limit = self.gt_slots[-1]
        num_faces, num_ignore = len(sample.gt_bboxes), len(sample.gt_bboxes_ignore)
        if num_faces + num_ignore <= limit:
            return sample
        faces = _largest(sample.gt_bboxes, limit)
        ignore = _largest(sample.gt_bboxes_ignore, limit - len(faces))
        lost = num_faces - len(faces)
        detail = (
            f"{num_faces} faces and {num_ignore} ignore boxes exceed data.gt_slots={self.gt_slots}; "
            f"the smallest {lost} faces and {num_ignore - len(ignore)} ignore boxes are left out; "
            "add a larger slot to keep them"
        )
        notes.append(Note("too many faces", sample.name, detail, count=lost))
        return sample.replace(
            gt_bboxes=sample.gt_bboxes[faces],
            gt_labels=sample.gt_labels[faces],
            gt_kps=sample.gt_kps[faces],
            gt_bboxes_ignore=sample.gt_bboxes_ignore[ignore],
        )


@dataclass
class TestBatch:
    """B images to detect faces in, and what maps detections back to the files.

    Attributes:
        images: (B, 3, H, W) float32, normalised, padded right and below with 0.
        img_hw: B heights and widths of the resized images inside `images`, without any padding.
        scale_xy: B factors from file pixels to `images` pixels.
        names: B image names; indices: their places in the data set.
        size_hw: B heights and widths of the image files.
    """

    __test__ = False  # for pytest: no test class

    images: Tensor
    img_hw: tuple[tuple[int, int], ...]
    scale_xy: tuple[tuple[float, float], ...]
    names: tuple[str, ...]
    size_hw: tuple[tuple[int, int], ...]

    def to(self, device: torch.device, non_blocking: bool = False) -> "TestBatch":
        """Return the batch with its images on `device`."""
        return replace(self, images=self.images.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "TestBatch":
        """Return the batch in page-locked memory (torch's DataLoader calls this)."""
        return replace(self, images=self.images.pin_memory())


def collate_test(samples: Sequence[Sample]) -> TestBatch:
    """Return the test batch of B samples; labels are left behind."""
    return TestBatch(
        images=stack_images([sample.image for sample in samples]),
        img_hw=tuple(resized_hw(sample) for sample in samples),
        scale_xy=tuple(sample.scale_xy for sample in samples),
        names=tuple(sample.name for sample in samples),
        size_hw=tuple(sample.size_hw for sample in samples),
    )


def resized_hw(sample: Sample) -> tuple[int, int]:
    """Return height and width of a test sample's image after Resize, without the padding."""
    return round(sample.size_hw[0] * sample.scale_xy[1]), round(sample.size_hw[1] * sample.scale_xy[0])


def stack_images(images: Sequence[np.ndarray]) -> Tensor:
    """Return (B, 3, H, W) float32 from B (h, w, 3) arrays; zeros right and below the smaller ones."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    same_size = all(image.shape[:2] == (height, width) for image in images)
    make = torch.empty if same_size else torch.zeros
    batch = make((len(images), 3, height, width), dtype=torch.float32)
    view = batch.numpy()
    for row, image in zip(view, images, strict=True):
        row[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def _largest(bboxes: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of the `limit` largest boxes, in their original order (ties: lower index stays)."""
    area = (bboxes[:, 2] - bboxes[:, 0]) * (bboxes[:, 3] - bboxes[:, 1])
    return np.sort(np.argsort(-area, kind="stable")[:limit])
