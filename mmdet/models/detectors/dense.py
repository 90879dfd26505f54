"""Dense detectors: backbone, neck and head in a row, and the flat outputs of all anchors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.coders import Coder
from mmdet.core.structures import Outputs

RawMaps = tuple[list[Tensor], list[Tensor], list[Tensor | None]]


class SCRFD(nn.Module):
    """Single-stage face detector (arXiv:2105.04714).

    Another family overrides what differs: the class attributes, and `scores` if it is not a sigmoid.

    Args:
        backbone: (B, 3, H, W) images to feature maps.
        neck: those to the maps the head sees.
        bbox_head: those to `RawMaps`; layers only.
        anchor_generator: the anchors that the outputs belong to.
        coder: what `Outputs.bbox_pred` and `kps_pred` mean.

    Attributes:
        default_criterion: entry of `CRITERIA` that trains it unless model.criterion says otherwise.
        default_coder: entry of `CODERS` unless model.bbox_head.bbox_coder says otherwise.
        keeps_features: outputs come with `features`; set where a criterion needs them.
        train_cfg, test_cfg: the dicts that training and decoding follow; set by `mmdet.models.build`.
    """

    default_criterion = "SCRFDCriterion"
    default_coder = "DistanceCoder"
    keeps_features = False
    train_cfg: dict | None = None
    test_cfg: dict | None = None

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: nn.Module,
        anchor_generator: AnchorGenerator,
        coder: Coder,
    ):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self.anchor_generator = anchor_generator
        self.coder = coder

    def forward(self, images: Tensor) -> Outputs:
        """Return what the network says for each anchor; shapes depend on the shape of images only.

        Args:
            images: (B, 3, H, W) RGB, normalised, any H and W.
        """
        if not self.keeps_features:
            return flatten_head_outputs(*self.raw(images), self.bbox_head)
        features = tuple(self.neck(self.backbone(images)))
        maps: RawMaps = self.bbox_head(features)
        return replace(flatten_head_outputs(*maps, self.bbox_head), features=features)

    def levels(self, images: Tensor) -> list[Outputs]:
        """Return what `forward` does, level by level (exported files have one output per level)."""
        return split_levels(self.raw(images), self.bbox_head)

    def raw(self, images: Tensor) -> RawMaps:
        """Return class, box and keypoint maps per level, as `SCRFDHead.forward` does."""
        return self.bbox_head(self.neck(self.backbone(images)))

    def scores(self, outputs: Outputs) -> Tensor:
        """Return the (B, A, C) probabilities of the classes."""
        return outputs.cls_logits.sigmoid()


def flatten_head_outputs(
    cls: Sequence[Tensor], bbox: Sequence[Tensor], kps: Sequence[Tensor | None], head: Any
) -> Outputs:
    """Put the maps of all levels into anchor order: levels, rows, columns, anchors of a cell.

    Args:
        cls: (B, n * C, H, W) per level, from `head`, as are the others.
        bbox: (B, n * 4, H, W) per level; with DFL (B, n * 4 * (reg_max + 1), H, W).
        kps: (B, n * 2K, H, W) per level, or Nones.
        head: says how many numbers an anchor has, and holds the integral of DFL. It has `num_logits` if those
            of the classes are not num_classes.
    """
    bbox_dfl_logits = None
    if head.use_dfl:
        logits = flatten_maps(bbox, 4 * (head.reg_max + 1))
        # Not unflatten: the exporter cannot write that before opset 13.
        bbox_dfl_logits = logits.reshape(*logits.shape[:2], 4, head.reg_max + 1)
        bbox_pred = head.integral(bbox_dfl_logits)
    else:
        bbox_pred = flatten_maps(bbox, 4)
    return Outputs(
        cls_logits=flatten_maps(cls, getattr(head, "num_logits", head.num_classes)),
        bbox_pred=bbox_pred,
        kps_pred=flatten_maps(kps, 2 * head.num_kps) if head.num_kps else None,  # type: ignore[arg-type]
        bbox_dfl_logits=bbox_dfl_logits,
        level_sizes_hw=tuple((m.shape[2], m.shape[3]) for m in cls),
    )


def split_levels(maps: RawMaps, head: Any) -> list[Outputs]:
    """Return the flat outputs of each level."""
    return [flatten_head_outputs([c], [b], [k], head) for c, b, k in zip(*maps, strict=True)]


def flatten_maps(maps: Sequence[Tensor], num_values: int) -> Tensor:
    """Return (B, A, num_values) from one (B, n * num_values, H, W) map per level."""
    if len(maps) > 1 and all(m.is_contiguous() for m in maps):  # then one copy into this order is enough
        joined = torch.cat([m.flatten(2) for m in maps], dim=2)
        return joined.transpose(1, 2).reshape(joined.shape[0], -1, num_values)
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, num_values) for m in maps], dim=1)
