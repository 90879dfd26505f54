"""From raw head outputs to faces in the pixels of the original pictures. Runs on the host."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.bbox import clamp_xy
from mmdet.core.coders import Coder
from mmdet.core.nms import batched_nms, nms
from mmdet.core.structures import Detections, Outputs
from mmdet.errors import ConfigError, unknown_name

# Keys of a published test_cfg; the head of SCRFD reads no min_bbox_size.
_KNOWN_KEYS = ("nms_pre", "min_bbox_size", "score_thr", "nms", "max_per_img", "clip_border")
_KNOWN_NMS_KEYS = ("type", "iou_threshold", "offset")


class Detector(Protocol):
    """What post-processing, evaluation and export use of a model.

    Attributes:
        anchor_generator: the anchors that outputs belong to.
        coder: what the numbers of `Outputs.bbox_pred` and `kps_pred` mean.
    """

    anchor_generator: AnchorGenerator
    coder: Coder

    def scores(self, outputs: Outputs) -> Tensor:
        """Return the (B, A, C) probabilities of the classes."""


class Postprocess:
    """Threshold, decode, scale back and suppress duplicates.

    Boxes and keypoints are clamped to the picture the network saw (without its padding), then divided by
    the scale. Inverted boxes are kept, as in the reference; its test path decodes no keypoints, this one
    does, in the same way as boxes.

    Args:
        score_thr: keep scores above it (strict).
        iou_thr: a box whose IoU with a better one is above it (strict) is dropped, all levels
            together, each class for itself.
        nms_pre: at most so many anchors per level and image, best first; -1 for all.
        max_per_img: at most so many detections; -1 for all.
        clip_border: clamp to the picture; else boxes and keypoints may reach beyond it.
        nms_offset: 1 counts a box's width as x2 - x1 + 1 when boxes are compared (RetinaFace), 0 as x2 - x1.
    """

    def __init__(
        self,
        *,
        score_thr: float = 0.02,
        iou_thr: float = 0.45,
        nms_pre: int = -1,
        max_per_img: int = -1,
        clip_border: bool = True,
        nms_offset: float = 0,
    ):
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self.nms_pre = nms_pre
        self.max_per_img = max_per_img
        self.clip_border = clip_border
        self.nms_offset = nms_offset

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
        for key in nms_cfg:
            if key not in _KNOWN_NMS_KEYS:
                raise ConfigError(unknown_name("test_cfg.nms key", key, _KNOWN_NMS_KEYS))
        known = ("score_thr", "nms_pre", "max_per_img", "clip_border")
        options: dict[str, Any] = {key: cfg[key] for key in known if key in cfg}
        if "iou_threshold" in nms_cfg:
            options["iou_thr"] = nms_cfg["iou_threshold"]
        if "offset" in nms_cfg:
            options["nms_offset"] = nms_cfg["offset"]
        return cls(**options)

    @torch.no_grad()
    def __call__(
        self,
        model: Detector,
        outputs: Outputs,
        img_hw: Sequence[tuple[int, int]],
        scale_xy: Sequence[tuple[float, float]],
    ) -> list[Detections]:
        """Return the detections of each image, best score first, on the CPU.

        Args:
            model: says what the outputs mean.
            outputs: of a batch of B images, on any device.
            img_hw: height and width of each image inside the padding.
            scale_xy: factors from original pixels to network pixels.
        """
        outputs = outputs.float()
        scores = model.scores(outputs).cpu()  # (B, A, C)
        bbox_pred = outputs.bbox_pred.cpu()
        kps_pred = None if outputs.kps_pred is None else outputs.kps_pred.cpu()
        grid, coder = model.anchor_generator.grid(outputs.level_sizes_hw), model.coder
        found = []
        for image, (size_hw, scale) in enumerate(zip(img_hw, scale_xy, strict=True)):
            row = self._select(scores[image], grid.level_sizes)
            anchors = grid.anchors.take(row)
            unscale = torch.tensor(scale, dtype=torch.float32)
            limit = size_hw if self.clip_border else None
            bboxes = coder.decode_bboxes(bbox_pred[image, row], anchors)
            bboxes = clamp_xy(bboxes, limit) / unscale.repeat(2)
            points = None
            if kps_pred is not None:
                points = clamp_xy(coder.decode_kps(kps_pred[image, row], anchors), limit)
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
        # x2 and y2 one further make every width and every overlap one larger.
        compared = bboxes + bboxes.new_tensor((0, 0, self.nms_offset, self.nms_offset))
        if scores.shape[-1] == 1:
            keep = nms(compared, score, self.iou_thr)
        else:
            keep = batched_nms(compared, score, label, self.iou_thr)
        if self.max_per_img > 0:
            keep = keep[: self.max_per_img]
        points = None if kps is None else kps[row[keep]]
        return Detections(bboxes[keep], score[keep], label[keep], points)
