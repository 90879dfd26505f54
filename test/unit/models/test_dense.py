"""Head and detector: which layers there are, in which order the flat outputs stand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet.core.anchors import AnchorGenerator
from mmdet.core.coders import DistanceCoder
from mmdet.errors import ConfigError
from mmdet.models.dense_heads.scrfd_head import SCRFDHead
from mmdet.models.detectors.dense import SCRFD, flatten_maps

BN = dict(type="BN")
ANCHORS = AnchorGenerator(strides=[8, 16, 32], ratios=[1.0], scales=[1, 2], base_sizes=[16, 64, 256])


def make_head(**changes) -> SCRFDHead:
    cfg = dict(
        num_classes=1,
        in_channels=4,
        anchor_generator=ANCHORS,
        feat_channels=6,
        stacked_convs=1,
        norm_cfg=BN,
        cls_reg_share=True,
    )
    return SCRFDHead(**{**cfg, **changes})


def make_feats(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 4, n, n + 1, generator=generator) for n in (4, 2, 1)]


def prefixes(head: SCRFDHead) -> list[str]:
    return list(dict.fromkeys(key.split(".")[0] for key in head.state_dict()))


def test_parts_stand_in_checkpoint_order():
    head = make_head(cls_reg_share=False, use_kps=True)
    towers, predictors = ["cls_stride_convs", "reg_stride_convs"], ["stride_cls", "stride_reg", "stride_kps"]
    assert prefixes(head) == [*towers, *predictors, "scales", "integral"]
    assert prefixes(make_head(scale_mode=0)) == ["cls_stride_convs", "stride_cls", "stride_reg", "integral"]


def test_keys_name_the_stride_unless_shared():
    assert list(make_head().stride_cls) == ["0"]
    assert list(make_head(strides_share=False).stride_cls) == ["(8, 8)", "(16, 16)", "(32, 32)"]


@pytest.mark.parametrize(
    "scale_mode, strides_share, has_scales",
    [(0, True, False), (1, True, True), (1, False, False), (2, True, True), (2, False, True)],
)
def test_scales_exist(scale_mode, strides_share, has_scales):
    head = make_head(scale_mode=scale_mode, strides_share=strides_share)
    assert (head.scales is not None) == has_scales


def test_scale_multiplies_bboxes_only():
    head = make_head(use_kps=True).eval()
    head.init_weights()
    cls, bbox, kps = head(make_feats())
    head.scales[1].scale.data.fill_(3.0)
    cls3, bbox3, kps3 = head(make_feats())
    assert torch.equal(bbox3[0], bbox[0])
    assert torch.equal(bbox3[1], bbox[1] * 3)
    assert all(torch.equal(a, b) for a, b in zip(cls + kps, cls3 + kps3, strict=True))


def test_towers_may_differ_per_stride():
    head = make_head(strides_share=False, stacked_convs=[0, 1, 2], feat_mults=[1, 2, 1.5])
    assert [len(tower) for tower in head.cls_stride_convs.values()] == [0, 1, 2]
    assert [conv.in_channels for conv in head.stride_cls.values()] == [4, 12, 9]


def test_shapes_of_the_raw_maps():
    cls, bbox, kps = make_head(num_classes=3, use_kps=True, use_dfl=True)(make_feats())
    assert [tuple(m.shape) for m in cls] == [(2, 6, 4, 5), (2, 6, 2, 3), (2, 6, 1, 2)]
    assert [m.shape[1] for m in bbox] == [72, 72, 72]  # 2 anchors x 4 sides x 9 bins
    assert [m.shape[1] for m in kps] == [20, 20, 20]
    assert make_head()(make_feats())[2] == [None, None, None]


def test_class_scores_start_at_one_percent():
    head = make_head()
    head.init_weights()
    assert head.stride_cls["0"].bias.sigmoid().tolist() == pytest.approx([0.01, 0.01], rel=1e-2)
    assert head.stride_reg["0"].bias.abs().sum() == 0


def test_separate_towers_feed_bboxes_and_kps():
    head = make_head(cls_reg_share=False, use_kps=True).eval()
    before = head(make_feats())
    head.reg_stride_convs["0"][0].conv.weight.data.zero_()
    after = head(make_feats())
    assert torch.equal(before[0][0], after[0][0])
    assert not torch.equal(before[1][0], after[1][0])
    assert not torch.equal(before[2][0], after[2][0])


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(stacked_convs=[1, 2]), "stacked_convs = .* one entry for each of the 3 strides"),
        (dict(feat_mults=[1]), "feat_mults"),
        (dict(scale_mode=3), "scale_mode = 3"),
        (dict(conv_cfg=dict(type="DCNv2")), "conv_cfg"),
        (dict(norm_cfg=None), "num_groups = 32 does not divide 6 channels"),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_head(**changes)


def test_wrong_number_of_levels_is_named():
    with pytest.raises(ConfigError, match="the neck gives 2 maps .*num_outs.* for the 3 strides"):
        make_head()(make_feats()[:2])


class Numbered(nn.Module):
    """Stands for backbone and neck: 3 maps of a 32 x 48 image."""

    def forward(self, images):
        return [images.new_ones(len(images), 4, 32 // s, 48 // s) for s in (8, 16, 32)]


def make_model(head):
    return SCRFD(
        backbone=Numbered(),
        neck=nn.Identity(),
        bbox_head=head,
        anchor_generator=ANCHORS,
        coder=DistanceCoder(),
    )


def test_flat_order_is_levels_rows_columns_anchors():
    # channel = 10 * anchor + value, plus 100 per row and 1000 per column; two levels
    value = torch.arange(4)[None, :, None, None] % 2 + 10 * (torch.arange(4)[None, :, None, None] // 2)
    cells = 100 * torch.arange(2)[:, None] + 1000 * torch.arange(2)[None, :]
    level = (value + cells).expand(3, 4, 2, 2)
    flat = flatten_maps([level, level[:, :, :1, :1] + 5], 2)
    assert flat.shape == (3, 10, 2)
    assert flat[2].tolist() == [
        [0, 1], [10, 11], [1000, 1001], [1010, 1011],
        [100, 101], [110, 111], [1100, 1101], [1110, 1111],
        [5, 6], [15, 16],
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("use_kps", [True, False])
def test_outputs_agree_with_an_anchor_by_anchor_loop(batch, use_kps):
    model = make_model(make_head(num_classes=3, use_kps=use_kps)).eval()
    outputs = model(torch.zeros(batch, 3, 32, 48))
    cls, bbox, kps = model.raw(torch.zeros(batch, 3, 32, 48))
    assert outputs.level_sizes_hw == ((4, 6), (2, 3), (1, 1))
    assert outputs.cls_logits.shape == (batch, 62, 3)
    assert (outputs.kps_pred is not None) == use_kps and outputs.bbox_dfl_logits is None
    index = 0
    for level in range(3):
        for row in range(cls[level].shape[2]):
            for column in range(cls[level].shape[3]):
                for anchor in range(2):
                    for flat, maps, n in (
                        (outputs.cls_logits, cls, 3),
                        (outputs.bbox_pred, bbox, 4),
                        (outputs.kps_pred, kps, 10),
                    ):  # fmt: skip
                        if flat is not None:
                            wanted = maps[level][:, anchor * n : (anchor + 1) * n, row, column]
                            assert torch.equal(flat[:, index], wanted)
                    index += 1
    assert index == 62 == ANCHORS.grid(outputs.level_sizes_hw).num_anchors


def test_dfl_gives_expected_distances_and_their_logits():
    head = make_head(use_dfl=True, reg_max=4, scale_mode=0).eval()
    model = make_model(head)
    nn.init.zeros_(head.stride_reg["0"].weight)
    head.stride_reg["0"].bias.data = torch.full((40,), -100.0)
    for side, distance in enumerate((1, 2, 3, 4)):  # anchor 1: left 1, top 2, right 3, bottom 4
        head.stride_reg["0"].bias.data[20 + side * 5 + distance] = 100.0
    outputs = model(torch.zeros(1, 3, 32, 48))
    assert outputs.bbox_dfl_logits.shape == (1, 62, 4, 5)
    assert outputs.bbox_pred[0, 1].tolist() == pytest.approx([1, 2, 3, 4])
    assert outputs.bbox_pred[0, 0].tolist() == pytest.approx([2, 2, 2, 2])


@pytest.mark.parametrize("use_dfl", [False, True])
def test_shapes_never_depend_on_values(use_dfl):
    """Meta tensors have a shape and no values, so any look at a value would fail."""
    head = make_head(use_dfl=use_dfl, use_kps=True)
    model = make_model(head).to("meta")
    outputs = model(torch.empty(2, 3, 32, 48, device="meta"))
    assert outputs.cls_logits.shape == (2, 62, 1) and outputs.kps_pred.shape == (2, 62, 10)


@pytest.mark.parametrize("changes", [{}, {"cls_reg_share": False}, {"strides_share": False, "scale_mode": 2}])
def test_one_convolution_for_the_predictors_gives_what_three_do(changes, monkeypatch):
    """Feature maps that lie channels last take the merged path, in training only."""
    widths, conv2d = [], F.conv2d
    monkeypatch.setattr(
        F, "conv2d", lambda x, w, *rest, **more: (widths.append(len(w)), conv2d(x, w, *rest, **more))[1]
    )
    head = make_head(use_kps=True, **changes).double()
    head.init_weights()
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        head.zero_grad()
        feats = [x.double().to(memory_format=layout).requires_grad_() for x in make_feats()]
        maps = [level for kind in head(feats) for level in kind]
        sum(
            (level * torch.arange(1, 1 + level.shape[1])[:, None, None]).square().sum() for level in maps
        ).backward()
        results.append([*maps, *(x.grad for x in feats), *(p.grad for p in head.parameters())])
    head.eval()(feats)
    assert widths.count(28 if changes.get("cls_reg_share") is False else 30) == 3
    for plain, merged in zip(*results, strict=True):
        torch.testing.assert_close(plain, merged, rtol=1e-12, atol=1e-12)
