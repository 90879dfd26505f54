"""How a criterion calls an assigner."""

from typing import Protocol

from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.structures import Assignment


class Assigner(Protocol):
    """Decides which anchors learn which face, for a whole batch and without gradients.

    Attributes:
        needs_predictions: False if anchors and faces decide alone, so that assigning could run ahead of the
            network. An assigner that needs them takes the network's `Outputs` as a further keyword argument
            `outputs`.
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
