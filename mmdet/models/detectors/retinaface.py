"""RetinaFace: the parts of a dense detector under the names of the published checkpoints."""

from typing import Any

from torch import Tensor, nn

from mmdet.core.structures import Outputs
from mmdet.errors import ConfigError
from mmdet.models.detectors.dense import SCRFD


class RetinaFace(SCRFD):
    """Single-stage face detector with priors, softmax and hard negatives (arXiv:1905.00641).

    The state_dict has no `backbone.`, `neck.` and `bbox_head.`: the backbone is `body`, and what the neck and
    the head consist of stands beside it (`fpn`, `ssh1`, `ClassHead`, ...), as in the released files. The
    three parts are there under their usual names, too, as attributes that own no keys.

    Args: as `SCRFD`.

    Raises:
        ConfigError: the neck and the head have children of one name.
    """

    default_criterion = "MultiBoxCriterion"
    default_coder = "PriorCoder"

    def __init__(self, *, backbone: nn.Module, neck: nn.Module, bbox_head: nn.Module, **geometry: Any):
        nn.Module.__init__(self)
        self.body = backbone
        for part in (neck, bbox_head):
            for name, child in part.named_children():
                if name in self._modules:
                    raise ConfigError(f"model.neck and model.bbox_head both have a part {name!r}")
                self.add_module(name, child)
        self._parts = (neck, bbox_head)  # a tuple: not registered, since its children are
        self.anchor_generator = geometry["anchor_generator"]
        self.coder = geometry["coder"]

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The body."""
        return self.body

    @property
    def neck(self) -> nn.Module:  # type: ignore[override]
        """The modules between body and head."""
        return self._parts[0]

    @property
    def bbox_head(self) -> nn.Module:  # type: ignore[override]
        """The predictors."""
        return self._parts[1]

    def scores(self, outputs: Outputs) -> Tensor:
        """Return the (B, A, 1) probability of a face."""
        return outputs.cls_logits.softmax(dim=-1)[..., 1:]
