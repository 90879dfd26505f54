"""SCRFD: backbone, neck and head, and the flat outputs that losses and decoding work on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdet.core.structures import Outputs
from mmdet.models.dense_heads.scrfd_head import SCRFDHead
from mmdet.models.layers import NUM_KPS

RawMaps = tuple[list[Tensor], list[Tensor], list[Tensor | None]]


class SCRFD(nn.Module):
    """Single-stage face detector (arXiv:2105.04714).

    Attributes:
        train_cfg, test_cfg: the dicts that training and decoding follow; set by `mmdet.models.build`.
    """

    train_cfg: dict | None = None
    test_cfg: dict | None = None

    def __init__(self, *, backbone: nn.Module, neck: nn.Module, bbox_head: SCRFDHead):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head

    def forward(self, images: Tensor) -> Outputs:
        """Return what the network says for each anchor; shapes depend on the shape of images only.

        Args:
            images: (B, 3, H, W) RGB, normalised, any H and W.
        """
        return flatten_head_outputs(*self.raw(images), self.bbox_head)

    def raw(self, images: Tensor) -> RawMaps:
        """Return class, box and keypoint maps per level, as `SCRFDHead.forward` does."""
        return self.bbox_head(self.neck(self.backbone(images)))


def flatten_head_outputs(
    cls: Sequence[Tensor], bbox: Sequence[Tensor], kps: Sequence[Tensor | None], head: SCRFDHead
) -> Outputs:
    """Put the maps of all levels into anchor order: levels, rows, columns, anchors of a cell.

    Args:
        cls: (B, n * C, H, W) per level, from `head`, as are the others.
        bbox: (B, n * 4, H, W) per level; with DFL (B, n * 4 * (reg_max + 1), H, W).
        kps: (B, n * 10, H, W) per level, or Nones.
        head: says how many numbers an anchor has, and holds the integral of DFL.
    """
    bbox_dfl_logits = None
    if head.use_dfl:
        logits = flatten_maps(bbox, 4 * (head.reg_max + 1))
        bbox_dfl_logits = logits.unflatten(-1, (4, head.reg_max + 1))  # (B, A, 4, reg_max + 1)
        bbox_ltrb = head.integral(bbox_dfl_logits)
    else:
        bbox_ltrb = flatten_maps(bbox, 4)
    return Outputs(
        cls_logits=flatten_maps(cls, head.num_classes),
        bbox_ltrb=bbox_ltrb,
        kps=flatten_maps(kps, 2 * NUM_KPS) if head.use_kps else None,  # type: ignore[arg-type]
        bbox_dfl_logits=bbox_dfl_logits,
        level_sizes_hw=tuple((m.shape[2], m.shape[3]) for m in cls),
    )


def flatten_maps(maps: Sequence[Tensor], num_values: int) -> Tensor:
    """Return (B, A, num_values) from one (B, n * num_values, H, W) map per level."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, num_values) for m in maps], dim=1)
