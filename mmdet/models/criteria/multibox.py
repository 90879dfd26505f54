"""MultiBoxCriterion: SSD's loss with hard negatives, as RetinaFace trains with it.

Letters: B images, A anchors, R the length of the assignment's list of positives. Boxes and keypoints are
compared at the positives only; the class loss and the choice of negatives look at all A anchors.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.core.anchors import AnchorGenerator, AnchorGrid, Anchors, PriorGenerator
from mmdet.core.assigners.base import assignment_of
from mmdet.core.assigners.multibox import MultiBoxAssigner, MultiBoxAssignment
from mmdet.core.coders import PriorCoder
from mmdet.core.select import largest_mask
from mmdet.core.structures import Batch, Outputs
from mmdet.errors import ConfigError
from mmdet.models.criteria.scrfd import Loss, identity


class MultiBoxCriterion:
    """The training loss of RetinaFace (arXiv:1512.02325, section 2.2; arXiv:1905.00641, equation 1).

    With N the number of positives and K_n that of positives whose face has keypoints, over the batch:

    * loss_cls = cls_weight * sum of the cross-entropy of positives and hard negatives / N. Per image, the
      hard negatives are the neg_pos_ratio * positives anchors of highest face probability that are neither
      positive nor ignored; equally probable ones by index.
    * loss_bbox = sum over 4 codes of loss_bbox(pred, target) / N.
    * loss_kps = sum over 2K codes of loss_kps(pred, target) / K_n; a point without annotation does not count.

    N and K_n are averaged over the ranks, so that the gradient is that of one process with the whole batch.
    A batch without positives has loss 0.

    Args:
        anchor_generator, coder: the detector's.
        assigner: a MultiBoxAssigner; it usually has run in the loader.
        loss_bbox, loss_kps: elementwise, they carry their weights; loss_kps None: no keypoints.
        neg_pos_ratio: negatives per positive.
        cls_weight: of loss_cls.
        mean_across_ranks: averages a tensor of 2 over the ranks; called once per step.

    Differs from the reference: the negatives are chosen by a difference of two logits, which cannot
    underflow (there, one maximum for all rows of a batch hides rows more than 103 below it); a face without
    keypoints trains class and box instead of background; of a partly annotated face, the annotated points.
    """

    def __init__(
        self,
        *,
        anchor_generator: AnchorGenerator | PriorGenerator,
        coder: PriorCoder,
        assigner: MultiBoxAssigner,
        loss_bbox: Loss,
        loss_kps: Loss | None = None,
        neg_pos_ratio: int = 7,
        cls_weight: float = 1.0,
        mean_across_ranks: Callable[[Tensor], Tensor] = identity,
    ):
        if not isinstance(coder, PriorCoder):
            raise ConfigError(f"MultiBoxCriterion works with PriorCoder, not with {type(coder).__name__}")
        if not isinstance(assigner, MultiBoxAssigner):
            raise ConfigError(
                f"MultiBoxCriterion works with MultiBoxAssigner, not with {type(assigner).__name__}"
            )
        if neg_pos_ratio < 1:
            raise ConfigError(f"neg_pos_ratio={neg_pos_ratio} must be at least 1")
        self.anchor_generator = anchor_generator
        self.coder = coder
        self.assigner = assigner
        self.loss_bbox = loss_bbox
        self.loss_kps = loss_kps
        self.neg_pos_ratio = neg_pos_ratio
        self.cls_weight = cls_weight
        self.mean_across_ranks = mean_across_ranks

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses, fp32 scalars on the device; their sum is the total loss.

        Args:
            outputs: fp32, of the network on `batch.images`; two logits per anchor, background and face.
            batch: the faces. Slots that are not `gt_valid` may hold anything.
        """
        grid = self.anchor_generator.grid(outputs.level_sizes_hw, outputs.cls_logits.device)
        assigned = assignment_of(batch, grid, self.assigner)
        assert isinstance(assigned, MultiBoxAssignment)
        positives = _Positives(assigned, grid, batch.gt_valid)
        kps_weight = positives.of_gt((batch.gt_kps[..., 2] > 0).float()) * assigned.exists  # (K, R)
        counts = torch.stack((assigned.num_positives.sum(), (kps_weight.amax(dim=0) > 0).float().sum()))
        counts = self.mean_across_ranks(counts)
        num_positives, num_with_kps = torch.where(counts > 0, counts, 1.0)

        target = self.coder.encode_bboxes(positives.of_gt(batch.gt_bboxes), positives.anchors, dim=0)
        bbox_loss = self.loss_bbox(positives.pick(outputs.bbox_pred), target) * assigned.exists
        class_loss = self._class_loss(outputs.cls_logits, assigned)
        losses = {
            "loss_cls": class_loss * self.cls_weight / num_positives,
            "loss_bbox": bbox_loss.sum() / num_positives,
        }
        if self.loss_kps is not None:
            assert outputs.kps_pred is not None
            points = positives.of_gt(batch.gt_kps[..., :2].flatten(2))  # (2K, R)
            target = self.coder.encode_kps(points, positives.anchors, dim=0)
            loss = self.loss_kps(positives.pick(outputs.kps_pred), target)
            losses["loss_kps"] = (loss.unflatten(0, (-1, 2)) * kps_weight[:, None]).sum() / num_with_kps
        return losses

    def _class_loss(self, logits: Tensor, assigned: MultiBoxAssignment) -> Tensor:
        """Return the summed cross-entropy of positives and hard negatives; logits (B, A, 2)."""
        background, face = logits.unbind(dim=-1)
        margin = face - background  # ln(p / (1 - p)) of a face
        is_out = assigned.is_positive | assigned.is_ignored
        hardness = torch.where(is_out, torch.finfo(torch.float32).min, margin.detach().float())
        count = torch.minimum(self.neg_pos_ratio * assigned.num_positives, assigned.num_free)
        of_negatives = _softplus(margin) * largest_mask(hardness, count)
        of_positives = _softplus(-margin.flatten().index_select(0, assigned.row)) * assigned.exists
        return of_negatives.sum() + of_positives.sum()


def _softplus(values: Tensor) -> Tensor:
    """Return ln(1 + exp(x)); it is x from 50 on, to the last bit even in double precision."""
    return F.softplus(values, threshold=50.0)


class _Positives:
    """What is known about the R positives, in planes."""

    def __init__(self, assigned: MultiBoxAssignment, grid: AnchorGrid, gt_valid: Tensor):
        self._assigned, self._is_face = assigned, gt_valid[..., None]
        center, wh = (_planes(values, assigned.anchor) for values in (grid.centers, grid.whs))
        self.anchors = Anchors(center, stride=None, wh=wh)  # center and wh are (2, R)

    def pick(self, values: Tensor) -> Tensor:
        """Return (n, R) of (B, A, n), what the network says at the positives."""
        return _planes(values.flatten(0, 1), self._assigned.row)

    def of_gt(self, values: Tensor) -> Tensor:
        """Return (n, R) of (B, G, n), what is known about the face of each positive."""
        # What padding slots hold must reach neither a loss nor a gradient (0 * inf is nan).
        return _planes(torch.where(self._is_face, values, 0).flatten(0, 1), self._assigned.gt_row)


def _planes(rows: Tensor, index: Tensor) -> Tensor:
    """Return the rows at `index` (R,) of (N, n) as planes (n, R): every operator on them takes a third."""
    return rows.index_select(0, index).t().contiguous()
