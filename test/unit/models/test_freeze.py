"""Frozen modules keep every bit, in every precision; the others learn."""

from dataclasses import replace

import pytest
import torch

from mmdet.config import AmpConfig, load_config
from mmdet.engine.step import build_step
from mmdet.errors import ConfigError
from mmdet.models.build import build_detector
from mmdet.models.freeze import freeze
from mmdet.testing.audit_step import draw_batch


@pytest.fixture
def model(repo):
    torch.manual_seed(0)
    cfg = load_config(repo / "configs/scrfd/scrfd_500m_bnkps.py", ["lr_config.warmup=None"])
    return cfg, build_detector(cfg.model, cfg.train_cfg)


@pytest.mark.parametrize("amp", [AmpConfig(), AmpConfig(level="O2", dtype="bfloat16")])
def test_only_the_rest_learns(model, amp):
    cfg, detector = model
    freeze(detector, ["backbone", "bbox_head.reg_stride_convs"])
    step = build_step(detector, replace(cfg, amp=amp), torch.device("cpu"))
    before = {key: value.clone() for key, value in step.precision.model_state_dict().items()}
    step.update(0, step.load(draw_batch(2, 64, 3, 8)))
    after = step.precision.model_state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    frozen = {key for key in after if key.startswith(("backbone.", "bbox_head.reg_stride_convs."))}
    assert frozen and not changed & frozen, changed & frozen
    assert any(key.startswith("neck.") and key.endswith("weight") for key in changed)
    assert any("running_mean" in key for key in changed)


def test_a_frozen_module_stays_in_evaluation_mode(model):
    detector = model[1]
    freeze(detector, ["neck"])
    detector.eval().train()
    assert detector.training and not any(part.training for part in detector.neck.modules())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bakbone"], "freeze = 'bakbone' is unknown; did you mean 'backbone'"),
        ([""], "freeze"),
        (["backbone", "neck", "bbox_head"], "leaves nothing to train"),
    ],
)
def test_names_that_make_no_sense(model, names, message):
    with pytest.raises(ConfigError, match=message):
        freeze(model[1], names)
