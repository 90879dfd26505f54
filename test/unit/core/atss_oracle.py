"""ATSS on one image as a slow loop, and what its tests draw."""

import torch

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.bbox import pairwise_overlaps

SCRFD = AnchorGenerator(strides=[8, 16, 32], base_sizes=[16, 64, 256], scales=[1, 2], ratios=[1.0])


def make_grid(generator, height, width):
    return generator.grid([(-(-height // s), -(-width // s)) for s in generator.strides])


def oracle(grid, faces, valid, valid_hw, topk, ignored=None):
    """Assign one image with the A x G matrix, one face at a time. Returns gt_index, -1 for background."""
    usable = (grid.centers[:, 1] < valid_hw[0]) & (grid.centers[:, 0] < valid_hw[1])
    if ignored is not None:
        usable &= ~ignored
    iou = pairwise_overlaps(grid.bboxes, faces)
    best = torch.full((grid.num_anchors,), -1.0)
    gt_index = torch.full((grid.num_anchors,), -1)
    for g in range(len(faces)):
        if not valid[g]:
            continue
        x1, y1, x2, y2 = faces[g]
        distance = (grid.centers - torch.stack(((x1 + x2) / 2, (y1 + y2) / 2))).square().sum(1).sqrt()
        candidates = []
        for level, size in zip(grid.levels, grid.level_sizes, strict=True):
            index = torch.arange(level.offset, level.offset + size)
            index = index[usable[index]]
            candidates.append(index[distance[index].sort(stable=True)[1][:topk]])
        candidates = torch.cat(candidates)
        threshold = iou[candidates, g].mean() + iou[candidates, g].std()
        for a in candidates.tolist():
            cx, cy = grid.centers[a]
            margin = min(cx - x1, cy - y1, x2 - cx, y2 - cy) / max((x2 - x1) * (y2 - y1), 1e-4) ** 0.5
            if iou[a, g] >= threshold and margin > 0.001 and iou[a, g] > best[a]:
                best[a], gt_index[a] = iou[a, g], g
    return gt_index


def random_faces(seed, count, low, high, size_range):
    """Draw (count, 4) boxes with centres in [low, high) on both axes."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=generator) * (high - low) + low
    smallest, largest = size_range
    size = smallest * (largest / smallest) ** torch.rand(count, 2, generator=generator)
    return torch.cat((center - size / 2, center + size / 2), dim=1)
