import copy
import logging
import re

import pytest
import torch
from torch import nn

from mmdet.core.coders import PriorCoder
from mmdet.errors import CheckpointError, ConfigError
from mmdet.models.build import build_criterion, build_detector, choose_cfg
from mmdet.models.criteria import CRITERIA
from mmdet.models.losses import DIoULoss, DistributionFocalLoss, SmoothL1Loss
from mmdet.models.necks import NECKS
from mmdet.models.necks.pafpn import PAFPN

TRAIN_CFG = dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False)
TEST_CFG = dict(nms_pre=-1, min_bbox_size=0, score_thr=0.02, nms=dict(type="nms", iou_threshold=0.45))


def make_model_cfg() -> dict:
    """Return a small model with every key that published files have."""
    return dict(
        type="SCRFD",
        pretrained=None,
        backbone=dict(
            type="ResNetV1e",
            depth=0,
            block_cfg=dict(block="BasicBlock", stage_blocks=(1, 1, 1, 1), stage_planes=[8, 8, 8, 8]),
            base_channels=8,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=-1,
            conv_cfg=None,
            norm_cfg=dict(type="BN", requires_grad=True),
            norm_eval=False,
            dcn=None,
            plugins=None,
            with_cp=False,
            zero_init_residual=True,
            style="pytorch",
        ),
        neck=dict(
            type="PAFPN",
            in_channels=[8, 8, 8, 8],
            out_channels=8,
            start_level=1,
            add_extra_convs="on_output",
            num_outs=3,
        ),
        bbox_head=dict(
            type="SCRFDHead",
            num_classes=1,
            in_channels=8,
            stacked_convs=1,
            feat_channels=8,
            norm_cfg=dict(type="BN", requires_grad=True),
            cls_reg_share=True,
            strides_share=False,
            dw_conv=False,
            scale_mode=2,
            anchor_generator=dict(
                type="AnchorGenerator",
                ratios=[1.0],
                scales=[1, 2],
                base_sizes=[16, 64, 256],
                strides=[8, 16, 32],
            ),
            loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
            loss_dfl=False,
            reg_max=8,
            loss_bbox=dict(type="DIoULoss", loss_weight=2.0),
            use_kps=True,
            loss_kps=dict(type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=0.1),
            train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=5)),
            test_cfg=dict(TEST_CFG, score_thr=0.3),
        ),
    )


def test_detector_builds_without_changing_the_config():
    cfg = make_model_cfg()
    model = build_detector(cfg, TRAIN_CFG, TEST_CFG)
    assert cfg == make_model_cfg()
    assert [name for name, _ in model.named_children()] == ["backbone", "neck", "bbox_head"]
    assert model.bbox_head.strides == (8, 16, 32) and model.bbox_head.num_kps == 5
    outputs = model(torch.zeros(2, 3, 64, 96))
    assert outputs.bbox_pred.shape == (2, 2 * (8 * 12 + 4 * 6 + 2 * 3), 4)


def test_same_seed_same_weights():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_detector(make_model_cfg()).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_top_level_cfgs_win():
    model = build_detector(make_model_cfg(), TRAIN_CFG, TEST_CFG)
    assert model.train_cfg["assigner"]["topk"] == 9 and model.test_cfg["score_thr"] == 0.02
    model = build_detector(make_model_cfg())
    assert model.train_cfg["assigner"]["topk"] == 5 and model.test_cfg["score_thr"] == 0.3
    assert choose_cfg("test_cfg", dict(make_model_cfg(), test_cfg=dict(score_thr=0.1)), None) == dict(
        score_thr=0.1
    )


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("type", "SCRDF", "model.type = 'SCRDF' is unknown; did you mean 'SCRFD'"),
        ("bckbone", {}, "model: key = 'bckbone' is unknown; did you mean 'backbone'"),
        ("neck", None, "model.neck is missing"),
        ("backbone.type", "ResNet1e", "model.backbone.type = 'ResNet1e'"),
        ("backbone.norm_evl", True, "model.backbone: argument of ResNetV1e = 'norm_evl'"),
        ("backbone.dcn", dict(type="DCN"), "model.backbone: dcn = {'type': 'DCN'} is not supported"),
        (
            "bbox_head.anchor_generator.stride",
            [8],
            "anchor_generator: argument of AnchorGenerator = 'stride'",
        ),
        ("bbox_head.anchor_generator", None, "model.bbox_head.anchor_generator is missing"),
        ("bbox_head.norm_cfg", dict(type="GN", num_groups=3), "model.bbox_head: norm_cfg.num_groups = 3"),
    ],
)
def test_detector_names_mistakes(path, value, words):
    cfg = make_model_cfg()
    *parents, key = path.split(".")
    place = cfg
    for parent in parents:
        place = place[parent]
    place[key] = value
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_detector(cfg)


def test_custom_part_plugs_in_by_assignment(monkeypatch):
    class Doubled(PAFPN):
        def forward(self, feats):
            return tuple(2 * x for x in super().forward(feats))

    monkeypatch.setitem(NECKS, "Doubled", Doubled)
    cfg = make_model_cfg()
    cfg["neck"]["type"] = "Doubled"
    assert isinstance(build_detector(cfg).neck, Doubled)


def test_pretrained_fills_the_backbone_and_reports_the_rest(tmp_path, caplog):
    donor = build_detector(make_model_cfg()).backbone
    weights = donor.state_dict()
    weights["fc.weight"] = torch.zeros(3)
    del weights["stem.0.weight"]
    torch.save({"state_dict": weights}, tmp_path / "donor.pth")
    cfg = dict(make_model_cfg(), pretrained=str(tmp_path / "donor.pth"))
    with caplog.at_level(logging.WARNING, "mmdet"):
        model = build_detector(cfg)
    assert torch.equal(model.backbone.stem[3].weight, donor.stem[3].weight)
    assert not torch.equal(model.backbone.stem[0].weight, donor.stem[0].weight)
    assert "1 missing: stem.0.weight; 1 unexpected: fc.weight" in caplog.text


def test_pretrained_of_nothing_we_have_is_an_error():
    with pytest.raises(CheckpointError, match="torchvision:/+resnet50: no such file"):
        build_detector(dict(make_model_cfg(), pretrained="torchvision://resnet50"))


def test_criterion_gets_the_losses_of_the_head():
    cfg = make_model_cfg()
    before = copy.deepcopy(cfg)
    criterion = build_criterion(cfg, TRAIN_CFG)
    assert cfg == before
    assert criterion.assigner.topk == 9
    assert isinstance(criterion.loss_bbox, DIoULoss) and criterion.loss_bbox.loss_weight == 2.0
    assert isinstance(criterion.loss_kps, SmoothL1Loss) and criterion.loss_dfl is None
    assert criterion.anchor_generator.num_anchors_per_cell == 2
    assert build_criterion(cfg).assigner.topk == 5


def test_criterion_follows_use_kps_and_loss_dfl():
    cfg = make_model_cfg()
    cfg["bbox_head"].update(
        use_kps=False, loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25), reg_max=7
    )
    criterion = build_criterion(cfg, TRAIN_CFG)
    assert criterion.loss_kps is None and build_detector(cfg).bbox_head.reg_max == 7
    assert isinstance(criterion.loss_dfl, DistributionFocalLoss)
    del cfg["bbox_head"]["loss_kps"]
    cfg["bbox_head"]["use_kps"] = True
    assert build_criterion(cfg, TRAIN_CFG).loss_kps.loss_weight == 0.1


@pytest.mark.parametrize(
    "key, value, train_cfg, words",
    [
        ("loss_bbox", dict(type="DIOULoss"), TRAIN_CFG, "model.bbox_head.loss_bbox.type = 'DIOULoss'"),
        ("loss_bbox", None, TRAIN_CFG, "model.bbox_head.loss_bbox = None must be a dict with a key 'type'"),
        ("loss_cls", dict(type="QualityFocalLoss", use_sigmoid=False), TRAIN_CFG, "model.bbox_head.loss_cls"),
        ("reg_max", 8, {"debug": False}, "train_cfg.assigner is missing"),
        ("reg_max", 8, dict(TRAIN_CFG, allowed_border=0), "train_cfg.allowed_border = 0"),
        (
            "reg_max",
            8,
            dict(assigner=dict(type="ATSSAssigner", topK=9)),
            "train_cfg.assigner: argument of ATSS",
        ),
    ],
)
def test_criterion_names_mistakes(key, value, train_cfg, words):
    cfg = make_model_cfg()
    cfg["bbox_head"][key] = value
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_criterion(cfg, train_cfg)


def test_default_losses_of_mmdet_style_config_objects():
    """A mapping that is not a dict (mmengine's ConfigDict in published scripts) works too."""
    config_dict = pytest.importorskip("mmengine.config").ConfigDict(make_model_cfg())
    assert isinstance(build_detector(config_dict), nn.Module)
    assert build_criterion(config_dict, TRAIN_CFG).num_classes == 1


class CountingCriterion:
    """Takes what a second family's criterion might: no anchors, no assigner, a number of its own."""

    def __init__(self, *, coder, loss_bbox, negatives_per_positive: int = 7):
        self.coder, self.loss_bbox, self.negatives = coder, loss_bbox, negatives_per_positive


def test_a_criterion_gets_what_its_constructor_names(monkeypatch):
    monkeypatch.setitem(CRITERIA, "CountingCriterion", CountingCriterion)
    cfg = make_model_cfg()
    cfg["criterion"] = dict(type="CountingCriterion", negatives_per_positive=3)
    cfg["bbox_head"]["bbox_coder"] = dict(type="PriorCoder", variances=(0.1, 0.3))
    for key in ("loss_cls", "loss_dfl", "loss_kps"):
        del cfg["bbox_head"][key]
    criterion = build_criterion(cfg)
    assert criterion.coder == PriorCoder(variances=(0.1, 0.3)) == build_detector(cfg).coder
    assert criterion.negatives == 3 and isinstance(criterion.loss_bbox, DIoULoss)
    cfg["criterion"]["negative_per_positive"] = 3
    with pytest.raises(ConfigError, match="model.criterion: key = 'negative_per_positive' is unknown; did"):
        build_criterion(cfg)


@pytest.mark.parametrize(
    "key, value, words",
    [
        (
            "loss_box",
            dict(type="DIoULoss"),
            "model.bbox_head: key = 'loss_box' is unknown; did you mean 'loss_b",
        ),
        ("los_bbox", dict(type="DIoULoss"), "model.bbox_head: argument of SCRFDHead = 'los_bbox' is unknown"),
        ("bbox_coder", dict(type="PriorCodr"), "model.bbox_head.bbox_coder.type = 'PriorCodr' is unknown"),
        ("num_kps", 0, "model.bbox_head: num_kps = 0 with use_kps"),
    ],
)
def test_what_the_head_does_not_take_is_named(key, value, words):
    cfg = make_model_cfg()
    cfg["bbox_head"][key] = value
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_detector(cfg)


def test_a_criterion_refuses_a_coder_it_does_not_fit():
    cfg = make_model_cfg()
    cfg["bbox_head"]["bbox_coder"] = dict(type="PriorCoder")
    with pytest.raises(ConfigError, match="SCRFDCriterion works with DistanceCoder, not with PriorCoder"):
        build_criterion(cfg, TRAIN_CFG)


@pytest.mark.parametrize("num_kps", [1, 3, 68])
def test_a_head_predicts_any_number_of_keypoints(num_kps):
    cfg = make_model_cfg()
    cfg["bbox_head"]["num_kps"] = num_kps
    assert build_detector(cfg).eval()(torch.zeros(1, 3, 32, 32)).kps_pred.shape == (1, 42, 2 * num_kps)
