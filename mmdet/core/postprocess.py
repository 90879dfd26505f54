"""From raw head outputs to faces in the pixels of the original pictures. Runs on the host."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGrid
from mmdet.core.bbox import distance2bbox, distance2kps
from mmdet.core.nms import batched_nms, nms
from mmdet.core.structures import Detections, Outputs
from mmdet.errors import ConfigError, unknown_name

# Keys of a published test_cfg; the head of SCRFD reads no min_bbox_size.
_KNOWN_KEYS = ("nms_pre", "min_bbox_size", "score_thr", "nms", "max_per_img")


class Postprocess:
    """Threshold, decode, scale back and suppress duplicates.

    Boxes and keypoints are clamped to the picture the network saw (without its padding), then divided by
    the scale. Inverted boxes are kept, as in the reference; its test path decodes no keypoints, this one
    does, in the same way as boxes.

    Args:
        score_thr: keep scores above it (strict).
        iou_threshold: a box whose IoU with a better one is above it (strict) is dropped, all levels
            together, each class for itself.
        nms_pre: at most so many anchors per level and image, best first; -1 for all.
        max_per_img: at most so many detections; -1 for all.
    """

    def __init__(
        self,
        *,
        score_thr: float = 0.02,
        iou_threshold: float = 0.45,
        nms_pre: int = -1,
        max_per_img: int = -1,
    ):
        self.score_thr = score_thr
        self.iou_threshold = iou_threshold
        self.nms_pre = nms_pre
        self.max_per_img = max_per_img

    @classmethod
    def from_test_cfg(cls, test_cfg: Mapping[str, Any] | None) -> "Postprocess":
        """Build from the `test_cfg` of a config file; keys left out have this class's defaults."""
        cfg = dict(test_cfg or {})
        for key in cfg:
            if key not in _KNOWN_KEYS:
                raise ConfigError(unknown_name("test_cfg key", key, _KNOWN_KEYS))
        nms_cfg = dict(cfg.get("nms") or {})
        if nms_cfg.get("type", "nms") != "nms":
            raise ConfigError(unknown_name("test_cfg.nms.type", nms_cfg["type"], ["nms"]))
        known = ("score_thr", "nms_pre", "max_per_img")
        options: dict[str, Any] = {key: cfg[key] for key in known if key in cfg}
        if "iou_threshold" in nms_cfg:
            options["iou_threshold"] = nms_cfg["iou_threshold"]
        return cls(**options)

    @torch.no_grad()
    def __call__(
        self,
        outputs: Outputs,
        grid: AnchorGrid,
        img_hw: Sequence[tuple[int, int]],
        scale_xy: Sequence[tuple[float, float]],
    ) -> list[Detections]:
        """Return the detections of each image, best score first, on the CPU.

        Args:
            outputs: of a batch of B images, on any device.
            grid: the anchors for `outputs.level_sizes_hw`.
            img_hw: height and width of each image inside the padding.
            scale_xy: factors from original pixels to network pixels.
        """
        scores = outputs.cls_logits.float().sigmoid().cpu()  # (B, A, C)
        ltrb = outputs.bbox_ltrb.float().cpu()
        kps = None if outputs.kps is None else outputs.kps.float().cpu()
        centers, strides = grid.centers.cpu(), grid.strides.cpu()[:, None]
        found = []
        for image, (size_hw, scale) in enumerate(zip(img_hw, scale_xy, strict=True)):
            row = self._select(scores[image], grid.level_sizes)
            center, stride = centers[row], strides[row]
            unscale = torch.tensor(scale, dtype=torch.float32)
            bboxes = distance2bbox(center, ltrb[image, row] * stride, size_hw) / unscale.repeat(2)
            points = None
            if kps is not None:
                points = distance2kps(center, kps[image, row] * stride, size_hw)
                points = points.unflatten(-1, (-1, 2)) / unscale
            found.append(self._suppress(bboxes, scores[image, row], points))
        return found

    def _select(self, scores: Tensor, level_sizes: Sequence[int]) -> Tensor:
        """Return the anchors (n,) worth decoding: above the threshold, at most nms_pre per level."""
        best = scores.amax(dim=-1)  # (A,)
        rows, first = [], 0
        for size in level_sizes:
            row = (best[first : first + size] > self.score_thr).nonzero()[:, 0] + first
            if 0 < self.nms_pre < len(row):
                row = row[best[row].argsort(descending=True, stable=True)[: self.nms_pre]]
            rows.append(row)
            first += size
        return torch.cat(rows)

    def _suppress(self, bboxes: Tensor, scores: Tensor, kps: Tensor | None) -> Detections:
        """Run NMS on the decoded anchors of one image: (n, 4), (n, C), (n, K, 2)."""
        row, label = (scores > self.score_thr).nonzero().unbind(-1)
        bboxes, score = bboxes[row], scores[row, label]
        if scores.shape[-1] == 1:
            keep = nms(bboxes, score, self.iou_threshold)
        else:
            keep = batched_nms(bboxes, score, label, self.iou_threshold)
        if self.max_per_img > 0:
            keep = keep[: self.max_per_img]
        points = None if kps is None else kps[row[keep]]
        return Detections(bboxes[keep], score[keep], label[keep], points)
