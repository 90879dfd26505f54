"""Heads, the layers that predict per anchor: `HEADS`, by the name in `model.bbox_head.type`.

A head holds layers only. Which anchor learns what (core/assigners/), what its numbers mean (core/coders.py)
and the losses (criteria/) have rooms of their own, although a config file names them in the same dict.
"""

from collections.abc import Callable

from torch import nn

from mmdet.models.dense_heads.retinaface_head import RetinaFaceHead
from mmdet.models.dense_heads.scrfd_head import SCRFDHead

HEADS: dict[str, Callable[..., nn.Module]] = {"SCRFDHead": SCRFDHead, "RetinaFaceHead": RetinaFaceHead}
