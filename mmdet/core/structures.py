"""What travels between the stages: Sample -> Batch -> Outputs -> Assignment / Detections.

Letters used in shapes everywhere: B images, G ground-truth slots, A anchors of all levels, C classes,
K keypoints. Boxes are xyxy in pixels unless the name says otherwise (`bbox_pred`: codes, whose meaning the
detector's coder knows).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Note:
    """Something the user should hear about one image; made in a worker, told by the main process.

    Attributes:
        kind: "unreadable", "wrong size" or "too many faces".
        name: path as the label file writes it.
        detail: the rest of the message.
        count: how many things it concerns (faces dropped; else 1).
    """

    kind: str
    name: str
    detail: str
    count: int = 1


@dataclass
class Sample:
    """One image and its faces, on the host; what a dataset yields and transforms change.

    Attributes:
        image: (H, W, 3) BGR; uint8, or float32 once a transform made it so.
        gt_bboxes: (n, 4) float32 xyxy.
        gt_labels: (n,) int64, class index.
        gt_kps: (n, K, 3) float32: x, y, weight (0 = not annotated).
        gt_bboxes_ignore: (m, 4) float32 xyxy, regions that are neither face nor background.
        name: path as the label file writes it.
        size_hw: height and width of the image file.
        scale_xy: factors from file pixels to `image` pixels (test time only).
        notes: what went wrong on the way here (an unreadable file replaced by another, ...).
        pixel_ops: (P,) float32, what the device still has to do to the pixels; None: nothing.
    """

    image: np.ndarray
    gt_bboxes: np.ndarray
    gt_labels: np.ndarray
    gt_kps: np.ndarray
    gt_bboxes_ignore: np.ndarray
    name: str
    size_hw: tuple[int, int]
    scale_xy: tuple[float, float] = (1.0, 1.0)
    notes: tuple[Note, ...] = ()
    pixel_ops: np.ndarray | None = None

    def replace(self, **changes: object) -> "Sample":
        """Return a copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass
class Batch:
    """B samples with fixed shapes; G is one of a few slot sizes (`data.gt_slots`).

    Attributes:
        images: (B, 3, H, W), RGB, normalised, float32. With `pixel_ops` not yet: (B, H, W, 3) BGR uint8.
        gt_bboxes: (B, G, 4) float32 xyxy, pixels of `images`; zeros on padding.
        gt_labels: (B, G) int64.
        gt_kps: (B, G, K, 3) float32: x, y, weight.
        gt_valid: (B, G) bool, a face to learn.
        gt_ignore: (B, G) bool, an ignore region; never true together with gt_valid.
        valid_hw: (B, 2) int64, height and width of the padded sample inside `images`; anchors whose
            cell starts beyond it take no part. Equal to (H, W) when all samples have one size.
        names: B image names, for messages; stays on the host.
        notes: what the loader tells the user about these images; stays on the host.
        pixel_ops: (B, P) float32, colour changes left to `datasets.device_augment`; None: images are ready.
        assigned: which face each anchor learns, where that needs no predictions; None: the criterion assigns.
    """

    images: Tensor
    gt_bboxes: Tensor
    gt_labels: Tensor
    gt_kps: Tensor
    gt_valid: Tensor
    gt_ignore: Tensor
    valid_hw: Tensor
    names: tuple[str, ...] = field(default=())
    notes: tuple[Note, ...] = field(default=())
    pixel_ops: Tensor | None = None
    assigned: "Assignment | None" = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Return height and width of `images`."""
        height, width = self.images.shape[2:] if self.pixel_ops is None else self.images.shape[1:3]
        return height, width

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with every tensor replaced."""
        assigned = None if self.assigned is None else self.assigned.map(change)
        return replace(self, **_changed(self, change), assigned=assigned)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in an order that depends on the kind of batch only."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Return the batch with all its tensors on `device`."""
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory (torch's DataLoader calls this)."""
        return self.map(lambda t: t.pin_memory())


@dataclass
class Outputs:
    """What a dense detector says for each anchor, levels concatenated in stride order.

    Inside a level the order is row-major over cells, then anchors of a cell.

    Attributes:
        cls_logits: (B, A, C), or as many numbers per anchor as the detector's `scores` reads.
        bbox_pred: (B, A, 4) box codes, see core/coders.py (with DFL: the expectations).
        kps_pred: (B, A, 2K) keypoint codes x0, y0, x1, ...; None without keypoints.
        bbox_dfl_logits: (B, A, 4, reg_max + 1) with DFL, else None.
        level_sizes_hw: feature-map height and width per level.
        features: what the head saw, (B, C, H, W) per level; None unless the detector `keeps_features`.
    """

    cls_logits: Tensor
    bbox_pred: Tensor
    kps_pred: Tensor | None
    bbox_dfl_logits: Tensor | None
    level_sizes_hw: tuple[tuple[int, int], ...]
    features: tuple[Tensor, ...] | None = None

    def float(self) -> "Outputs":
        """Return the outputs in fp32 (losses and decoding are computed in fp32)."""
        tensors: dict[str, Any] = {k: v.float() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


@dataclass
class Assignment:
    """Which face each anchor learns.

    Attributes:
        gt_index: (B, A) int64 in [0, G), meaningful where is_positive.
        is_positive: (B, A) bool.
        is_ignored: (B, A) bool, anchors that take no part in any loss (inside an ignore region, or
            beyond `Batch.valid_hw`).
    """

    gt_index: Tensor
    is_positive: Tensor
    is_ignored: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Assignment":
        """Return the assignment with every tensor replaced."""
        return replace(self, **_changed(self, change))


def _changed(values: Any, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Return the fields of a dataclass that are tensors, changed."""
    tensors = {f.name: getattr(values, f.name) for f in fields(values)}
    return {name: change(value) for name, value in tensors.items() if isinstance(value, Tensor)}


@dataclass
class Detections:
    """Faces of one image after NMS, best score first; lengths vary here only.

    Attributes:
        bboxes: (n, 4) float32 xyxy; scores: (n,) float32; labels: (n,) int64.
        kps: (n, K, 2) float32 or None when the model has no keypoints.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    kps: Tensor | None
