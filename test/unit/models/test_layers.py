import copy

import pytest
import torch
from torch import nn

from mmdet.errors import ConfigError
from mmdet.models.layers import (
    ConvModule,
    DepthwiseSeparableConv,
    Integral,
    Scale,
    build_norm,
    check_supported,
    run_checkpointed,
)

BN = dict(type="BN", requires_grad=True)


def test_conv_has_a_bias_only_without_norm():
    assert list(ConvModule(3, 4, 3).state_dict()) == ["conv.weight", "conv.bias"]
    with_norm = ConvModule(3, 4, 3, norm_cfg=dict(type="GN", num_groups=2))
    assert list(with_norm.state_dict()) == ["conv.weight", "gn.weight", "gn.bias"]
    assert list(ConvModule(3, 4, 1, norm_cfg=BN).state_dict())[1] == "bn.weight"


def test_conv_module_is_conv_norm_relu():
    module = ConvModule(1, 1, 1, norm_cfg=BN).eval()
    module.conv.weight.data.fill_(2.0)
    module.bn.running_mean.fill_(1.0)
    x = torch.tensor([-1.0, 0.0, 3.0]).reshape(1, 1, 1, 3)
    assert module(x).flatten().tolist() == pytest.approx([0.0, 0.0, 5.0], abs=1e-4)  # relu(2x - 1)


def test_conv_module_without_relu_may_be_negative():
    module = ConvModule(1, 1, 1, with_relu=False)
    module.conv.weight.data.fill_(-1.0)
    module.conv.bias.data.fill_(0.0)
    assert module(torch.ones(1, 1, 1, 1)).item() == -1.0


def test_depthwise_part_normalises_its_input_channels():
    module = DepthwiseSeparableConv(16, 64, dict(type="GN", num_groups=16))
    assert module.depthwise_conv.gn.num_channels == 16
    assert module.pointwise_conv.gn.num_channels == 64
    assert module.depthwise_conv.conv.groups == 16
    assert module(torch.zeros(1, 16, 5, 4)).shape == (1, 64, 5, 4)


def test_norm_options():
    name, norm = build_norm(dict(type="BN", eps=1e-3, momentum=0.2, requires_grad=False), 4)
    assert (name, norm.eps, norm.momentum) == ("bn", 1e-3, 0.2)
    assert not norm.weight.requires_grad
    assert isinstance(build_norm(dict(type="SyncBN"), 4)[1], nn.SyncBatchNorm)


@pytest.mark.parametrize(
    "norm_cfg, words",
    [
        (dict(type="BM"), "norm_cfg.type = 'BM' is unknown; did you mean 'BN'"),
        (dict(type="GN", num_group=4), "'num_group' is unknown; did you mean 'num_groups'"),
        (dict(type="GN", num_groups=5), "num_groups = 5 does not divide 24 channels"),
        (dict(type="GN"), "num_groups = None does not divide 24 channels"),
        (dict(type="BN", num_groups=5), "'num_groups' is unknown"),
    ],
)
def test_norm_mistakes_are_named(norm_cfg, words):
    with pytest.raises(ConfigError, match=words.replace("'", "['\"]")):
        build_norm(norm_cfg, 24)


def test_unsupported_values_are_named():
    check_supported("dcn", None, None)
    with pytest.raises(ConfigError, match="dcn = {'type': 'DCN'} is not supported; use None"):
        check_supported("dcn", {"type": "DCN"}, None)


def test_scale_multiplies_by_a_scalar_parameter():
    scale = Scale(3.0)
    assert scale.state_dict()["scale"].shape == ()
    assert scale(torch.tensor([2.0])).item() == 6.0


def test_integral_is_the_expected_distance():
    integral = Integral(8)
    assert integral.project.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert integral(torch.zeros(2, 9)).tolist() == pytest.approx([4.0, 4.0])
    certain = torch.full((9,), -100.0)
    certain[3] = 100.0
    assert integral(certain.half()).item() == pytest.approx(3.0)  # half in, fp32 out
    assert integral(certain.half()).dtype == torch.float32


def test_checkpointing_changes_nothing_but_memory():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    saving = copy.deepcopy(plain)
    images = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        plain(images).square().sum().backward()
        run_checkpointed(saving, saving.forward, images).square().sum().backward()
    for (name, a), b in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert saving[1].momentum == 0.1
    assert saving[1].num_batches_tracked.item() == 2
