"""How a criterion calls an assigner."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGenerator, AnchorGrid
from mmdet.core.structures import Assignment, Batch
from mmdet.errors import ConfigError


class Assigner(Protocol):
    """Decides which anchors learn which face, for a whole batch and without gradients.

    Attributes:
        needs_predictions: False if anchors and faces decide alone, so that assigning could run ahead of the
            network. An assigner that needs them takes the network's `Outputs` as a further keyword argument
            `outputs`. One whose last choice alone does has `follow` instead (task_aligned.py), which a
            criterion calls with scores and IoUs of the candidates.
        fills_slots: True, where there is such an attribute: `with_slots` of an assignment widens it to more
            slots, so that slots without a face need not be looked at.
    """

    needs_predictions: bool

    def __call__(
        self, grid: AnchorGrid, gt_bboxes: Tensor, gt_valid: Tensor, gt_ignore: Tensor, valid_hw: Tensor
    ) -> Assignment:
        """Assign the anchors of a batch.

        Args:
            grid: the A anchors.
            gt_bboxes: (B, G, 4) xyxy, pixels. Slots neither valid nor ignored may hold anything.
            gt_valid: (B, G) bool, faces to learn.
            gt_ignore: (B, G) bool, ignore boxes.
            valid_hw: (B, 2) height and width of each padded sample; anchors beyond it take no part.
        """


@dataclass(frozen=True)
class AssignAhead:
    """Assigns on the host where the batch is made, so that no assigner runs on the device.

    Attributes:
        anchor_generator: the detector's.
        assigner: one with `needs_predictions` False.
    """

    anchor_generator: AnchorGenerator
    assigner: Assigner

    def __call__(self, batch: Batch) -> Assignment:
        """Return the assignment of a batch on the host, for feature maps of ceil(size / stride) cells."""
        num_slots = batch.gt_valid.shape[1]
        if not getattr(self.assigner, "fills_slots", False):
            return self._assign(batch, num_slots)
        is_used = (batch.gt_valid | batch.gt_ignore).any(dim=0)
        num_used = int((is_used * torch.arange(1, num_slots + 1)).max())  # the host may look at values
        return self._assign(batch, max(num_used, 1)).with_slots(num_slots)

    def _assign(self, batch: Batch, num_slots: int) -> Any:
        """Assign the first slots only."""
        bboxes, valid, ignore = (v[:, :num_slots] for v in (batch.gt_bboxes, batch.gt_valid, batch.gt_ignore))
        return self.assigner(self.grid(batch), bboxes, valid, ignore, batch.valid_hw)

    def grid(self, batch: Batch) -> AnchorGrid:
        """Return the anchors of a batch."""
        height, width = batch.size_hw
        sizes = [(-(-height // stride), -(-width // stride)) for stride in self.anchor_generator.strides]
        return self.anchor_generator.grid(sizes, batch.gt_bboxes.device)


def assign_ahead(criterion: Any) -> AssignAhead | None:
    """Return what assigns for a criterion ahead of the network; None if that needs the network's outputs.

    Args:
        criterion: with `anchor_generator` and `assigner`, or without: then None.
    """
    assigner = getattr(criterion, "assigner", None)
    generator = getattr(criterion, "anchor_generator", None)
    if assigner is None or generator is None or assigner.needs_predictions:
        return None
    return AssignAhead(generator, assigner)


def assignment_of(batch: Batch, grid: AnchorGrid, assigner: Assigner) -> Assignment:
    """Return the batch's own assignment, or assign now.

    Raises:
        ConfigError: the batch was assigned for feature maps of other sizes.
    """
    if batch.assigned is None:
        return assigner(grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
    if batch.assigned.is_ignored.shape[1] != grid.num_anchors:
        raise ConfigError(
            f"the batch was assigned to {batch.assigned.is_ignored.shape[1]} anchors, the network has "
            f"{grid.num_anchors}: its feature maps are not ceil(image / stride); set data.assign_ahead=False"
        )
    return batch.assigned
