"""Targets and losses of SCRFD as the reference computes them: one image at a time, anchors x faces.

Only what the reference does in every training step is here: the dense matrices of ATSS, index lists of
positives, target tensors over all anchors per image, and losses level by level. It follows the description
of the reference in words; no line is taken from it. It serves two ends: a baseline to measure against, and
an oracle for the batched code. That is why it decodes boxes by itself and asks no coder of the product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.core.anchors import AnchorGrid

INF = 1e8

# (distances of one level (n, G), k) -> indices (k, G) of the nearest.
Nearest = Callable[[Tensor, int], Tensor]


def nearest_any_tie(distance: Tensor, k: int) -> Tensor:
    """Choose as the reference: torch.topk, which breaks ties as it likes."""
    return distance.topk(k, dim=0, largest=False)[1]


def nearest_lowest_index(distance: Tensor, k: int) -> Tensor:
    """Choose the lowest index of equally near anchors, as the product does; slow."""
    return distance.sort(dim=0, stable=True)[1][:k]


@dataclass(frozen=True)
class Face:
    """The faces of one image: bboxes (n, 4), kps (n, 5, 3)."""

    bboxes: Tensor
    kps: Tensor


def assign(
    grid: AnchorGrid, faces: Tensor, topk: int = 9, nearest: Nearest = nearest_any_tie
) -> tuple[Tensor, Tensor]:
    """Assign the anchors of one image by the anchors x faces matrices.

    Args:
        grid: the A anchors.
        faces: (G, 4).
        topk: candidates per level and face.
        nearest: how ties are broken.

    Returns:
        gt_index (A,) int64, 0 for background and k for face k - 1; max_overlaps (A,).
    """
    num_anchors, num_faces = grid.num_anchors, len(faces)
    gt_index = faces.new_zeros(num_anchors, dtype=torch.int64)
    if num_faces == 0:
        return gt_index, faces.new_zeros(num_anchors)
    overlaps = dense_overlaps(grid.bboxes, faces)  # (A, G)
    center = (faces[:, :2] + faces[:, 2:]) / 2
    anchor_center = (grid.bboxes[:, :2] + grid.bboxes[:, 2:]) / 2
    distance = (anchor_center[:, None] - center[None]).pow(2).sum(-1).sqrt()  # (A, G)

    candidates, start = [], 0
    for size in grid.level_sizes:
        level = distance[start : start + size]
        candidates.append(nearest(level, min(topk, size)) + start)
        start += size
    candidate = torch.cat(candidates)  # (L * topk, G)

    column = torch.arange(num_faces, device=faces.device)
    overlap = overlaps[candidate, column]
    threshold = overlap.mean(0) + overlap.std(0)
    is_positive = overlap >= threshold[None]

    # Every entry of the A x G matrices has one flat number, face by face.
    flat = (candidate + column * num_anchors).view(-1)
    x = anchor_center[:, 0].view(1, -1).expand(num_faces, num_anchors).reshape(-1)[flat].view(-1, num_faces)
    y = anchor_center[:, 1].view(1, -1).expand(num_faces, num_anchors).reshape(-1)[flat].view(-1, num_faces)
    sides = torch.stack([x - faces[:, 0], y - faces[:, 1], faces[:, 2] - x, faces[:, 3] - y], dim=1)
    area = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
    is_inside = sides.min(dim=1)[0] / area.clamp(min=1e-4).sqrt() > 0.001
    is_positive = is_positive & is_inside

    best = torch.full_like(overlaps, -INF).t().contiguous().view(-1)
    chosen = flat[is_positive.view(-1)]
    best[chosen] = overlaps.t().contiguous().view(-1)[chosen]
    max_overlaps, face = best.view(num_faces, -1).t().max(dim=1)
    gt_index[max_overlaps != -INF] = face[max_overlaps != -INF] + 1
    return gt_index, max_overlaps


def dense_overlaps(anchors: Tensor, faces: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the (A, G) IoU of all pairs."""
    area_a = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
    area_f = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
    lt = torch.max(anchors[:, None, :2], faces[None, :, :2])  # (A, G, 2)
    rb = torch.min(anchors[:, None, 2:], faces[None, :, 2:])
    wh = (rb - lt).clamp(min=0)
    inter = wh[..., 0] * wh[..., 1]
    union = area_a[:, None] + area_f[None] - inter
    return inter / torch.max(union, union.new_tensor([eps]))


@dataclass(frozen=True)
class ImageTargets:
    """Targets of one image over all A anchors.

    Attributes:
        labels: (A,) int64, 0 face, 1 background.
        bboxes: (A, 4); kps: (A, 10) and kps_weights: (A, 10), zero outside positives.
        num_positives: how many anchors learn a face.
    """

    labels: Tensor
    bboxes: Tensor
    kps: Tensor
    kps_weights: Tensor
    num_positives: int


def image_targets(grid: AnchorGrid, face: Face, nearest: Nearest = nearest_any_tie) -> ImageTargets:
    """Assign one image and write the targets of its positives at their indices."""
    num_anchors = grid.num_anchors
    gt_index, _ = assign(grid, face.bboxes, nearest=nearest)
    positive = torch.nonzero(gt_index > 0, as_tuple=False).squeeze(-1).unique()
    learned = gt_index[positive] - 1
    labels = face.bboxes.new_full((num_anchors,), 1, dtype=torch.int64)
    bboxes = torch.zeros_like(grid.bboxes)
    kps, kps_weights = face.bboxes.new_zeros(num_anchors, 10), face.bboxes.new_zeros(num_anchors, 10)
    if len(positive):
        labels[positive] = 0
        bboxes[positive] = face.bboxes[learned]
        kps[positive] = face.kps[learned][:, :, :2].reshape(-1, 10)
        kps_weights[positive] = face.kps[learned][:, :, 2].mean(dim=1, keepdim=True)
    return ImageTargets(labels, bboxes, kps, kps_weights, int(positive.numel()))


def targets_and_losses(
    grid: AnchorGrid,
    cls_maps: Sequence[Tensor],
    bbox_maps: Sequence[Tensor],
    kps_maps: Sequence[Tensor] | None,
    faces: Sequence[Face],
    nearest: Nearest = nearest_any_tie,
) -> dict[str, Tensor]:
    """Return loss_cls, loss_bbox and loss_kps of a batch, with the weights of all published configs.

    Args:
        grid: the anchors.
        cls_maps: per level (B, n, H, W), and alike bbox_maps (B, 4n, H, W), kps_maps (B, 10n, H, W).
        bbox_maps: see there.
        kps_maps: None for a model without keypoints.
        faces: B images.
        nearest: how ties of the assignment are broken.
    """
    images = [image_targets(grid, face, nearest) for face in faces]
    num_samples = max(float(sum(max(image.num_positives, 1) for image in images)), 1.0)
    labels = _by_level(grid, [image.labels for image in images])
    bbox_targets = _by_level(grid, [image.bboxes for image in images])
    kps_targets = _by_level(grid, [image.kps for image in images])
    kps_weights = _by_level(grid, [image.kps_weights for image in images])
    anchors = _by_level(grid, [grid.bboxes] * len(images))

    loss_cls, loss_bbox, loss_kps, weight_sum = [], [], [], []
    for level in range(len(grid.levels)):
        cls = cls_maps[level].permute(0, 2, 3, 1).reshape(-1)
        ltrb = bbox_maps[level].permute(0, 2, 3, 1).reshape(-1, 4)
        label = labels[level].reshape(-1)
        positive = torch.nonzero(label == 0, as_tuple=False).squeeze(1)
        quality = cls.new_zeros(label.shape)
        if len(positive) == 0:
            loss_bbox.append(ltrb.sum() * 0)
            loss_kps.append(ltrb.sum() * 0)
            weight_sum.append(cls.new_zeros(()))
        else:
            stride = grid.levels[level].stride
            anchor = anchors[level].reshape(-1, 4)[positive]
            center = (anchor[:, :2] + anchor[:, 2:]) / 2 / stride
            pred = torch.cat((center - ltrb[positive][:, :2], center + ltrb[positive][:, 2:]), dim=-1)
            target = bbox_targets[level].reshape(-1, 4)[positive] / stride
            weight = cls.detach().sigmoid()[positive]
            quality[positive] = _aligned_iou(pred.detach(), target)
            loss_bbox.append((_diou_loss(pred, target) * weight).sum())
            weight_sum.append(weight.sum())
            if kps_maps is not None:
                offsets = kps_maps[level].permute(0, 2, 3, 1).reshape(-1, 10)[positive]
                points = kps_targets[level].reshape(-1, 10)[positive] / stride
                wanted = points - center.repeat(1, 5)
                per_point = F.smooth_l1_loss(offsets, wanted, beta=1 / 9, reduction="none")
                per_point = per_point * kps_weights[level].reshape(-1, 10)[positive]
                loss_kps.append((per_point * weight[:, None]).sum())
        loss_cls.append(_quality_focal_loss(cls, label, quality))

    total_weight = sum(weight_sum)
    losses = {"loss_cls": sum(loss_cls) / num_samples, "loss_bbox": 2.0 * sum(loss_bbox) / total_weight}
    if kps_maps is not None:
        losses["loss_kps"] = 0.1 * sum(loss_kps) / total_weight
    return losses  # type: ignore[return-value]


def _by_level(grid: AnchorGrid, per_image: Sequence[Tensor]) -> list[Tensor]:
    """Return per level (B, n, ...) of B tensors (A, ...)."""
    return list(torch.stack(list(per_image)).split(grid.level_sizes, dim=1))


def _quality_focal_loss(logits: Tensor, label: Tensor, quality: Tensor) -> Tensor:
    """Return the summed loss (beta 2): all anchors as background first, then the positives again."""
    score = logits.sigmoid()
    zero = torch.zeros_like(logits)
    loss = F.binary_cross_entropy_with_logits(logits, zero, reduction="none") * score.pow(2)
    positive = torch.nonzero(label == 0, as_tuple=False).squeeze(1)
    gap = (quality[positive] - score[positive]).abs().pow(2)
    wanted = F.binary_cross_entropy_with_logits(logits[positive], quality[positive], reduction="none")
    loss[positive] = wanted * gap
    return loss.sum()


def _aligned_iou(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    wh = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh[:, 0] * wh[:, 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return inter / (area_a + area_b - inter).clamp(min=eps)


def _diou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    wh = (torch.min(pred[:, 2:], target[:, 2:]) - torch.max(pred[:, :2], target[:, :2])).clamp(min=0)
    inter = wh[:, 0] * wh[:, 1]
    area_p = (pred[:, 2] - pred[:, 0]) * (pred[:, 3] - pred[:, 1])
    area_t = (target[:, 2] - target[:, 0]) * (target[:, 3] - target[:, 1])
    iou = inter / (area_p + area_t - inter + eps)
    hull = (torch.max(pred[:, 2:], target[:, 2:]) - torch.min(pred[:, :2], target[:, :2])).clamp(min=0)
    diagonal = hull.pow(2).sum(1) + eps
    shift = (target[:, :2] + target[:, 2:] - pred[:, :2] - pred[:, 2:]).pow(2).sum(1) / 4
    return 1 - (iou - shift / diagonal)
