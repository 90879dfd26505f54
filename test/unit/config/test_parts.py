"""Every argument of the parts of a published config against values that do not fit it."""

import math

import pytest

from mmdet.config import load_config
from mmdet.config.table import build_from
from mmdet.core.anchors import ANCHOR_GENERATORS
from mmdet.core.assigners import ASSIGNERS
from mmdet.datasets.transforms import TRANSFORMS
from mmdet.errors import ConfigError
from mmdet.models.backbones import BACKBONES
from mmdet.models.losses import LOSSES
from mmdet.models.necks import NECKS

VALUES = [
    math.nan, math.inf, 10**30, 1e300, "", "no such thing", True, -7, -0.5, 0, 0.5, None, [], [[]], {"a": 1},
    [0], ["x"], {}, (1, 2, 3, 4, 5, 6, 7),
]  # fmt: skip


def parts(repo):
    """Yield (path, table, dict) of each part that is built by itself."""
    config = load_config(repo / "configs/scrfd/scrfd_500m_bnkps.py")
    head = config.model["bbox_head"]
    yield "model.backbone", BACKBONES, config.model["backbone"]
    yield "model.neck", NECKS, config.model["neck"]
    yield "model.bbox_head.anchor_generator", ANCHOR_GENERATORS, head["anchor_generator"]
    yield "train_cfg.assigner", ASSIGNERS, config.train_cfg["assigner"]
    for name in ("loss_cls", "loss_bbox", "loss_kps"):
        yield f"model.bbox_head.{name}", LOSSES, head[name]
    for index, step in enumerate(config.data.train["pipeline"]):
        yield f"data.train.pipeline[{index}]", TRANSFORMS, step


def test_a_part_takes_a_value_or_refuses_it_by_name(repo):
    num_tried, num_refused = 0, 0
    for path, table, cfg in parts(repo):
        build_from(table, cfg, path)
        for key in [*cfg, "no_such_argument"]:
            for value in VALUES:
                num_tried += 1
                try:
                    build_from(table, {**cfg, key: value}, path)
                except ConfigError as error:
                    num_refused += 1
                    assert path in str(error) and "\n" not in str(error)
    assert num_tried > 800 and num_refused > 0.7 * num_tried


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_channels": -7}, "model.neck.out_channels = -7 must be at least 1"),
        ({"out_channels": True}, "model.neck.out_channels = True must be of type int"),
        ({"in_channels": [40, 0, 152, 288]}, "model.neck.in_channels.1 = 0 must be at least 1"),
        ({"type": ["PAFPN"]}, "model.neck.type = ['PAFPN'] must be a name, one of:"),
        ({"type": "PAFNP"}, "model.neck.type = 'PAFNP' is unknown; did you mean 'PAFPN'?"),
    ],
)
def test_a_wrong_argument_of_a_part_is_named(repo, change, message):
    neck = load_config(repo / "configs/scrfd/scrfd_500m_bnkps.py").model["neck"]
    with pytest.raises(ConfigError) as caught:
        build_from(NECKS, {**neck, **change}, "model.neck")
    assert str(caught.value).startswith(message)
