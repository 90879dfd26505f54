"""Decoding and NMS as a part of the exported graph, for users who want boxes and no code of their own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.core.anchors import Anchors
from mmdet.core.coders import Coder
from mmdet.core.nms import nms
from mmdet.core.structures import Outputs
from mmdet.deploy.runtime.description import Description

MAX_FACES = 3000  # per picture and class; more than any picture of WIDER FACE holds


class NonMaxSuppression(torch.autograd.Function):
    """The ONNX operator of this name; in torch the same by `mmdet.core.nms`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ARG004
        bboxes: Tensor,
        scores: Tensor,
        iou_thr: float,
        score_thr: float,
    ) -> Tensor:
        """Return the (M, 3) int64 image, class and anchor of the faces, image by image, class by class.

        Args:
            ctx: not used.
            bboxes: (N, A, 4) xyxy.
            scores: (N, C, A).
            iou_thr: strict.
            score_thr: strict.
        """
        selected = [torch.zeros(0, 3, dtype=torch.int64)]
        for image in range(scores.shape[0]):
            for label in range(scores.shape[1]):
                anchor = (scores[image, label] > score_thr).nonzero()[:, 0]
                keep = anchor[nms(bboxes[image, anchor], scores[image, label, anchor], iou_thr)[:MAX_FACES]]
                where = torch.tensor([[image, label]]).expand(len(keep), 2)
                selected.append(torch.cat((where, keep[:, None]), dim=1))
        return torch.cat(selected)

    @staticmethod
    def symbolic(graph: Any, bboxes: Any, scores: Any, iou_thr: float, score_thr: float) -> Any:
        """Return the ONNX operator; its corners may be x, y or y, x, since overlaps are the same."""
        constants = [
            graph.op("Constant", value_t=torch.tensor([MAX_FACES])),
            graph.op("Constant", value_t=torch.tensor([iou_thr], dtype=torch.float32)),
            graph.op("Constant", value_t=torch.tensor([score_thr], dtype=torch.float32)),
        ]
        return graph.op("NonMaxSuppression", bboxes, scores, *constants)


def nms_in_graph(
    scores: Sequence[Tensor], levels: Sequence[Outputs], coder: Coder, description: Description
) -> tuple[Tensor, ...]:
    """Return bboxes (M, 4) in input pixels, scores (M,), labels (M,), image_index (M,) [, kps (M, K, 2)].

    Args:
        scores: (N, A, C) per level, probabilities.
        levels: per level; their sizes are tensors while tracing, so that the graph works at any size.
        coder: decodes them.
        description: strides, anchors, thresholds.
    """
    assert description.nms is not None
    anchors = [_anchors(level, description, number) for number, level in enumerate(levels)]
    pairs = list(zip(levels, anchors, strict=True))
    bboxes = torch.cat([coder.decode_bboxes(level.bbox_pred, a) for level, a in pairs], dim=1)
    all_scores = torch.cat(list(scores), dim=1)  # (N, A, C)
    selected = NonMaxSuppression.apply(
        bboxes,
        all_scores.transpose(1, 2),
        description.nms["iou_threshold"],
        description.nms["score_threshold"],
    )
    image, label, anchor = selected.unbind(-1)
    found = [bboxes[image, anchor], all_scores[image, anchor, label], label, image]
    if description.num_kps:
        kps = [coder.decode_kps(level.kps_pred, a) for level, a in pairs if level.kps_pred is not None]
        found.append(torch.cat(kps, dim=1)[image, anchor].reshape(-1, description.num_kps, 2))
    return tuple(found)


def _anchors(level: Outputs, description: Description, number: int) -> Anchors:
    """Return the anchors of one level, as `core.anchors` has them, built from traced sizes."""
    ((height, width),) = level.level_sizes_hw
    stride, num_anchors = description.strides[number], description.num_anchors
    whs = torch.tensor(description.anchors[number]).repeat(height * width, 1)
    y, x = torch.arange(height), torch.arange(width)
    grid = torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)), dim=-1)
    cells = grid.reshape(-1, 1, 2).expand(-1, num_anchors, -1).reshape(-1, 2).float()
    return Anchors((cells + description.center_offset) * stride, stride, whs)
