"""From what the head says and where the faces are to the losses: assign, make targets, weigh, sum.

Letters: B images, G face slots, A anchors, C classes, M candidate anchors per face. A positive anchor is
one winning (face, candidate) pair, so everything about positives is computed on (M, B, G) pairs and
multiplied by `candidate_wins`; only the class loss looks at all A anchors. Shapes never depend on how
many positives there are.

The numbers of a pair lie in planes, (4, M, B, G) for boxes: with 4 or 10 as the last dimension the same
operators take three times as long on a CPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGenerator, Anchors
from mmdet.core.assigners.atss import ATSSAssignment
from mmdet.core.assigners.base import Assigner, assignment_of
from mmdet.core.bbox import BboxPair, bbox_overlaps
from mmdet.core.coders import Coder, DistanceCoder
from mmdet.core.structures import Batch, Outputs
from mmdet.errors import ConfigError
from mmdet.models.losses.iou import BboxLoss

Loss = Callable[[Tensor, Tensor], Tensor]  # aligned prediction and target -> one value per element


def identity(tensor: Tensor) -> Tensor:
    """Return the tensor: the mean over one rank."""
    return tensor


class SCRFDCriterion:
    """The training loss of SCRFD.

    With w = sigmoid(class score) of a positive anchor, not differentiated, and W = the sum of w over all
    positives of all images:

    * loss_cls = sum over all anchors of QFL / N. The target of a positive is the IoU of its decoded box
      with its face. N = sum over images of max(positives, 1), averaged over ranks, at least 1.
    * loss_bbox = sum of w * IoU loss / W.
    * loss_kps = sum over 2K coordinates of w * v * SmoothL1 / W, v = mean weight of the face's keypoints.
    * loss_dfl = sum over 4 sides of w * DFL / 4 / W.

    W is averaged over ranks; it counts faces without keypoints too. Boxes and keypoints are in strides.

    Args:
        anchor_generator: the detector's.
        coder: the detector's; distances, since losses are computed in strides.
        assigner: one that names the candidates, as core/assigners/atss.py does. If it has `follow`, that
            chooses among them by the predictions (core/assigners/task_aligned.py).
        loss_cls: (logits, quality) -> elementwise loss; so are the others. Each carries its weight.
        loss_bbox: of models/losses/iou.py.
        loss_kps: (pred, target), None for a model without keypoints.
        loss_dfl: (logits, target), None for a head that regresses distances directly.
        num_classes: C.
        mean_across_ranks: averages a tensor of 2 over the ranks; called once per step.

    Differs from the reference: without positives, or with all scores 0, the box and keypoint losses
    are 0 instead of NaN or an error.
    """

    def __init__(
        self,
        *,
        anchor_generator: AnchorGenerator,
        coder: Coder,
        assigner: Assigner,
        loss_cls: Loss,
        loss_bbox: BboxLoss,
        loss_kps: Loss | None = None,
        loss_dfl: Loss | None = None,
        num_classes: int = 1,
        mean_across_ranks: Callable[[Tensor], Tensor] = identity,
    ):
        if not isinstance(coder, DistanceCoder):
            raise ConfigError(f"SCRFDCriterion works with DistanceCoder, not with {type(coder).__name__}")
        self.anchor_generator = anchor_generator
        self.coder = coder
        self.assigner = assigner
        self.loss_cls = loss_cls
        self.loss_bbox = loss_bbox
        self.loss_kps = loss_kps
        self.loss_dfl = loss_dfl
        self.num_classes = num_classes
        self.mean_across_ranks = mean_across_ranks

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses, fp32 scalars on the device; their sum is the total loss.

        Args:
            outputs: fp32, of the network on `batch.images`.
            batch: the faces. Slots that are not `gt_valid` may hold anything.
        """
        grid = self.anchor_generator.grid(outputs.level_sizes_hw, outputs.cls_logits.device)
        assigned: Any = assignment_of(batch, grid, self.assigner)  # an ATSSAssignment
        anchor = assigned.candidate_anchor  # (M, B, G)
        take = _Taker(assigned.candidate_row)

        # What padding slots hold, and what the head says at losing anchors, must reach neither a loss nor
        # a gradient (0 * inf is nan): both are replaced by zeros before any arithmetic.
        faces = _to_planes(_keep(batch.gt_valid, batch.gt_bboxes))[:, None]  # (4, 1, B, G)
        cells = grid.cells.index_select(1, anchor.flatten()).view(3, *anchor.shape)
        center, per_pixel = cells[:2], cells[2]  # (2, M, B, G) in strides, (M, B, G) strides per pixel
        target = _from_planes(faces * per_pixel)  # (M, B, G, 4)
        in_strides = Anchors(center, stride=None, wh=None)

        def decode(wanted: Tensor) -> Tensor:
            ltrb = _to_planes(take(outputs.bbox_pred)).masked_fill(~wanted, 0)
            return _from_planes(self.coder.decode_bboxes(ltrb, in_strides, dim=0))

        if hasattr(self.assigner, "follow"):
            with torch.no_grad():
                iou = bbox_overlaps(decode(assigned.candidate_wins), target)
            score = self._class_score(outputs.cls_logits, batch, take)
            assigned = self.assigner.follow(assigned, score, iou)
        wins = assigned.candidate_wins
        pred = decode(wins)

        weight = self._best_score(outputs.cls_logits, take) * wins  # (M, B, G)
        pair = BboxPair(pred, target)
        quality = pair.iou() * wins
        num_samples, weight_sum = self._normalisers(assigned.num_samples, weight)

        class_loss = self._class_loss(outputs.cls_logits, quality, assigned, batch)
        losses = {
            "loss_cls": class_loss / num_samples,
            "loss_bbox": (self.loss_bbox.of(pair) * weight).sum() / weight_sum,
        }
        if self.loss_kps is not None:
            losses["loss_kps"] = self._kps_loss(take(outputs.kps_pred), cells, weight, batch) / weight_sum
        if self.loss_dfl is not None:
            logits = _keep(wins, take(outputs.bbox_dfl_logits).flatten(-2)).unflatten(-1, (4, -1))
            anchors = Anchors(_from_planes(center), stride=None, wh=None)
            sides = self.coder.encode_bboxes(target, anchors, max_distance=logits.shape[-1] - 1)
            losses["loss_dfl"] = (self.loss_dfl(logits, sides).sum(-1) * weight).sum() / 4 / weight_sum
        return losses

    def _best_score(self, logits: Tensor, take: "_Taker") -> Tensor:
        """Return (M, B, G), the highest score of the candidates over the classes, not differentiated."""
        best = logits.detach()
        best = best.amax(dim=-1) if self.num_classes > 1 else best[..., 0]
        return best.flatten().gather(0, take.row).view(take.shape).sigmoid()

    def _class_score(self, logits: Tensor, batch: Batch, take: "_Taker") -> Tensor:
        """Return (M, B, G), the score of the candidates for the face's class, not differentiated."""
        logits = take(logits.detach())
        if self.num_classes == 1:
            return logits[..., 0].sigmoid()
        label = torch.where(batch.gt_valid, batch.gt_labels, 0).float()[..., None]
        is_class = label == torch.arange(self.num_classes, device=label.device)  # (B, G, C)
        return (logits.sigmoid() * is_class).sum(dim=-1)

    def _normalisers(self, num_samples: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return N and W, averaged over the ranks in one collective."""
        mean = self.mean_across_ranks(torch.stack((num_samples, weight.sum())))
        return mean[0].clamp(min=1), mean[1].clamp(min=1e-12)

    def _class_loss(self, logits: Tensor, quality: Tensor, assigned: ATSSAssignment, batch: Batch) -> Tensor:
        """Return the summed class loss of all anchors that are not ignored."""
        dense = assigned.by_anchor(quality)[..., None]  # (B, A, 1)
        if self.num_classes > 1:
            label = torch.where(batch.gt_valid, batch.gt_labels, 0).float()
            label = assigned.by_anchor(label * assigned.candidate_wins)[..., None]
            dense = dense * (label == torch.arange(self.num_classes, device=label.device))  # (B, A, C)
        # Multiplied, since where() takes three times as long here; the loss of any finite logit is finite.
        return (self.loss_cls(logits, dense) * ~assigned.is_ignored[..., None]).sum()

    def _kps_loss(self, pred: Tensor, cells: Tensor, weight: Tensor, batch: Batch) -> Tensor:
        """Return the summed keypoint loss; pred (M, B, G, 2K) in strides, cells as in `AnchorGrid`."""
        assert self.loss_kps is not None
        in_strides = Anchors(cells[:2], stride=None, wh=None)
        face_weight = batch.gt_kps[..., 2].mean(dim=-1)  # (B, G)
        has_kps = batch.gt_valid & (face_weight > 0)
        weight = weight * torch.where(has_kps, face_weight, 0)  # (M, B, G)
        points = _to_planes(_keep(has_kps, batch.gt_kps[..., :2].flatten(2)))
        points = points.unflatten(0, (-1, 2))[:, :, None]  # (K, 2, 1, B, G)
        target = self.coder.encode_kps((points * cells[2]).flatten(0, 1), in_strides, dim=0)  # (2K, M, B, G)
        pred = torch.where(weight > 0, _to_planes(pred), 0)
        return (self.loss_kps(pred, target).sum(dim=0) * weight).sum()


class _Taker:
    """Reads rows of (B, A, ...) tensors at candidate anchors (M, B, G)."""

    def __init__(self, row: Tensor):
        self.shape = row.shape
        self.row = row.flatten()

    def __call__(self, values: Tensor | None) -> Any:
        """Return (M, B, G, ...)."""
        assert values is not None, "the head does not give what this loss needs"
        return values.flatten(0, 1).index_select(0, self.row).unflatten(0, self.shape)


def _keep(mask: Tensor, values: Tensor, other: Tensor | float = 0.0) -> Tensor:
    """Return values (..., D) where mask (...), `other` elsewhere."""
    return torch.where(mask[..., None], values, other)


def _to_planes(values: Tensor) -> Tensor:
    """Return (D, ...) of values (..., D)."""
    return values.movedim(-1, 0).contiguous()


def _from_planes(values: Tensor) -> Tensor:
    """Return (..., D) of planes (D, ...), without moving anything in memory."""
    return values.movedim(0, -1)
