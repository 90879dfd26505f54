import pytest
import torch
import torch.nn.functional as F

from mmdet.errors import ConfigError
from mmdet.models.necks.pafpn import PAFPN


def make_feats(sizes=((9, 7), (5, 4), (3, 2))) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, h, w, generator=generator) for c, (h, w) in zip((4, 6, 8), sizes, strict=True)]


def make_neck(**changes) -> PAFPN:
    neck = PAFPN(**{**dict(in_channels=[4, 6, 8], out_channels=5, num_outs=3), **changes})
    neck.init_weights()
    return neck


def test_outputs_follow_the_formula_step_by_step():
    neck, (x0, x1, x2) = make_neck(), make_feats()
    l0, l1, l2 = (conv(x) for conv, x in zip(neck.lateral_convs, (x0, x1, x2), strict=True))
    l1 = l1 + F.interpolate(l2, size=(5, 4))
    l0 = l0 + F.interpolate(l1, size=(9, 7))
    p0, p1, p2 = (conv(x) for conv, x in zip(neck.fpn_convs, (l0, l1, l2), strict=True))
    p1 = p1 + neck.downsample_convs[0](p0)
    p2 = p2 + neck.downsample_convs[1](p1)
    outs = neck(make_feats())
    for actual, expected in zip(outs, (p0, neck.pafpn_convs[0](p1), neck.pafpn_convs[1](p2)), strict=True):
        assert torch.equal(actual, expected)


def test_start_level_leaves_out_fine_maps():
    neck = make_neck(start_level=1, num_outs=2)
    assert [tuple(o.shape) for o in neck(make_feats())] == [(2, 5, 5, 4), (2, 5, 3, 2)]
    assert neck.lateral_convs[0].conv.in_channels == 6


@pytest.mark.parametrize(
    "source, first_channels", [("on_output", 5), ("on_lateral", 5), ("on_input", 8), (True, 8)]
)
def test_extra_levels_come_from_the_chosen_map(source, first_channels):
    neck = make_neck(num_outs=5, add_extra_convs=source)
    assert neck.fpn_convs[3].conv.in_channels == first_channels
    outs = neck(make_feats())
    assert [tuple(o.shape[2:]) for o in outs] == [(9, 7), (5, 4), (3, 2), (2, 1), (1, 1)]
    lateral = neck.lateral_convs[2](make_feats()[2])
    origin = {"on_output": outs[2], "on_lateral": lateral}.get(source, make_feats()[2])
    assert torch.equal(outs[3], neck.fpn_convs[3](origin))
    assert torch.equal(outs[4], neck.fpn_convs[4](outs[3]))


def test_extra_levels_without_convolutions_subsample_the_last_output():
    outs = make_neck(num_outs=4)(make_feats())
    assert torch.equal(outs[3], outs[2][:, :, ::2, ::2])


def test_relu_before_extra_convs_skips_the_first():
    neck = make_neck(num_outs=5, add_extra_convs="on_output", relu_before_extra_convs=True)
    outs = neck(make_feats())
    assert torch.equal(outs[3], neck.fpn_convs[3](outs[2]))
    assert torch.equal(outs[4], neck.fpn_convs[4](outs[3].relu()))


def test_norm_replaces_bias():
    keys = set(make_neck(norm_cfg=dict(type="BN"), no_norm_on_lateral=True).state_dict())
    assert "lateral_convs.0.conv.bias" in keys
    assert "fpn_convs.0.bn.weight" in keys and "fpn_convs.0.conv.bias" not in keys


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(num_outs=2), "num_outs = 2 does not fit the 3 backbone maps"),
        (dict(end_level=2, num_outs=3), "num_outs = 3 does not fit the 2"),
        (dict(start_level=3), "start_level = 3 and end_level = -1 choose no map"),
        (dict(add_extra_convs="on_outputs"), "add_extra_convs = 'on_outputs' is not supported"),
        (dict(act_cfg=dict(type="GELU")), "act_cfg = "),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_neck(**changes)


def test_wrong_number_of_backbone_maps_is_named():
    with pytest.raises(ConfigError, match="the backbone gives 2 maps, model.neck.in_channels has 3"):
        make_neck()(make_feats()[:2])
