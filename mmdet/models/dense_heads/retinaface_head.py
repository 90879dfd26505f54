"""RetinaFaceHead: one 1x1 convolution per level for classes, boxes and keypoints (layers only)."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmdet.core.anchors import AnchorGenerator, PriorGenerator
from mmdet.errors import ConfigError


class RetinaFaceHead(nn.Module):
    """Predict background and face, box and keypoints for each of the n anchors of a cell.

    Args:
        in_channels: the neck's out_channels.
        anchor_generator: gives n and the strides.
        use_kps: predict keypoints.
        num_kps: K.

    The children `ClassHead`, `BboxHead`, `LandmarkHead` are those of the published models.
    """

    num_classes = 1
    num_logits = 2  # per anchor: background, face
    use_dfl = False

    def __init__(
        self,
        *,
        in_channels: int,
        anchor_generator: AnchorGenerator | PriorGenerator,
        use_kps: bool = False,
        num_kps: int = 5,
    ):
        super().__init__()
        self.num_kps = num_kps if use_kps else 0
        self.strides = tuple(anchor_generator.strides)

        def make_predictors(num_values: int) -> nn.ModuleList:
            num_channels = anchor_generator.num_anchors_per_cell * num_values
            return nn.ModuleList(_Predictor(in_channels, num_channels) for _ in self.strides)

        self.ClassHead = make_predictors(self.num_logits)
        self.BboxHead = make_predictors(4)
        self.LandmarkHead = make_predictors(2 * self.num_kps) if use_kps else None

    def init_weights(self) -> None:
        """Keep torch's default weights, as the original does."""

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """Map the neck's outputs (B, in_channels, H, W) to raw maps, one per level in stride order.

        Returns:
            cls (B, n * 2, H, W) logits of background and face; bbox (B, n * 4, H, W) and kps
            (B, n * 2K, H, W) codes, kps None without keypoints. Anchors are the outer index of the channels.
        """
        if len(feats) != len(self.strides):
            raise ConfigError(
                f"the neck gives {len(feats)} maps for the {len(self.strides)} strides of "
                "model.bbox_head.anchor_generator"
            )
        kps: list[Tensor | None] = [None] * len(feats)
        if self.LandmarkHead is not None:
            kps = [predict(feat) for predict, feat in zip(self.LandmarkHead, feats, strict=True)]
        cls = [predict(feat) for predict, feat in zip(self.ClassHead, feats, strict=True)]
        bbox = [predict(feat) for predict, feat in zip(self.BboxHead, feats, strict=True)]
        return cls, bbox, kps


class _Predictor(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1x1 = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1x1(x)
