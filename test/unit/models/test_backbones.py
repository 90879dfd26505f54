import pytest
import torch
from torch import nn

from mmdet.errors import ConfigError
from mmdet.models.backbones.mobilenet import MobileNetV1
from mmdet.models.backbones.resnet import BASIC_DEPTHS, BOTTLENECK_DEPTHS, Bottleneck, ResNetV1e


def small_resnet(**changes) -> ResNetV1e:
    cfg = dict(
        depth=0,
        block_cfg=dict(block="BasicBlock", stage_blocks=(1, 2, 1, 1), stage_planes=[8, 8, 12, 16]),
        base_channels=8,
        norm_eval=False,
    )
    return ResNetV1e(**{**cfg, **changes})


def sizes(maps) -> list[tuple[int, ...]]:
    return [tuple(m.shape) for m in maps]


def test_resnet_gives_strides_4_to_32():
    maps = small_resnet()(torch.zeros(2, 3, 64, 96))
    assert sizes(maps) == [(2, 8, 16, 24), (2, 8, 8, 12), (2, 12, 4, 6), (2, 16, 2, 3)]


def test_odd_sizes_round_up_except_in_the_max_pool():
    maps = small_resnet()(torch.zeros(1, 3, 250, 330))
    assert [m[2:] for m in sizes(maps)] == [(62, 82), (31, 41), (16, 21), (8, 11)]


def test_out_indices_choose_stages():
    assert sizes(small_resnet(out_indices=(1, 3))(torch.zeros(1, 3, 64, 64))) == [(1, 8, 8, 8), (1, 16, 2, 2)]


def test_bottleneck_widens_fourfold_and_always_has_a_shortcut_layer():
    block_cfg = dict(block="Bottleneck", stage_blocks=(1, 1, 1, 1), stage_planes=[4, 4, 6, 8])
    net = small_resnet(block_cfg=block_cfg)
    assert [m[1] for m in sizes(net(torch.zeros(1, 3, 64, 64)))] == [16, 16, 24, 32]
    assert "layer1.0.downsample.1.weight" in net.state_dict()
    assert net.layer2[0].conv2.stride == (2, 2)
    assert small_resnet(block_cfg=block_cfg, style="caffe").layer2[0].conv1.stride == (2, 2)


@pytest.mark.parametrize("depth", [0, 34, 56])
def test_depth_chooses_blocks(depth):
    net = ResNetV1e(depth=depth, base_channels=4)
    blocks = {**BASIC_DEPTHS, **BOTTLENECK_DEPTHS}[depth]
    assert tuple(len(getattr(net, f"layer{n}")) for n in (1, 2, 3, 4)) == blocks
    assert isinstance(net.layer1[0], Bottleneck) == (depth == 56)


def test_block_starts_as_its_shortcut():
    net = small_resnet()
    net.init_weights()
    x = torch.rand(1, 8, 4, 4)
    assert torch.equal(net.layer1[0](x), x)
    net = small_resnet(zero_init_residual=False)
    net.init_weights()
    assert (net.layer1[0].bn2.weight == 1).all()


def test_frozen_stages_keep_weights_and_statistics():
    net = small_resnet(frozen_stages=1).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    maps = net(torch.randn(2, 3, 64, 64))
    sum(m.sum() for m in maps).backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    changed = {k.split(".")[0] for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"layer2", "layer3", "layer4"}
    assert {k.split(".")[0] for k, p in net.named_parameters() if not p.requires_grad} == {"stem", "layer1"}
    assert not net.stem.training and net.layer2.training


def test_norm_eval_keeps_statistics_but_learns_weights():
    net = small_resnet(norm_eval=True).train()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    net(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert norms[0].num_batches_tracked == 0
    assert norms[0].weight.grad is not None
    assert net.layer1[0].training


def test_with_cp_gives_the_same_gradients_and_statistics():
    nets = [small_resnet(), small_resnet(with_cp=True)]
    nets[1].load_state_dict(nets[0].state_dict())
    images = torch.randn(2, 3, 64, 64)
    for net in nets:
        net.train()(images)[-1].square().sum().backward()
    for (name, a), b in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(depth=51), "depth = 51 is unknown"),
        (dict(style="tensorflow"), "style = 'tensorflow' is not supported"),
        (dict(dcn=dict(type="DCN")), "dcn = "),
        (dict(plugins=[dict(cfg=dict(type="ContextBlock"))]), "plugins = "),
        (dict(stage_with_dcn=(False, True, True, True)), "stage_with_dcn"),
        (dict(norm_cfg=dict(type="GN", num_groups=4)), "norm_cfg.type = 'GN'"),
        (dict(block_cfg=dict(block="Basicblock", stage_blocks=(1,) * 4)), "did you mean 'BasicBlock'"),
        (dict(block_cfg=dict(block="BasicBlock", stage_block=(1,) * 4)), "did you mean 'stage_blocks'"),
        (dict(block_cfg=dict(block="BasicBlock", stage_blocks=(1, 1))), "stage_blocks = .* fewer"),
        (dict(frozen_stages=5), "frozen_stages = 5"),
    ],
)
def test_resnet_mistakes_are_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        small_resnet(**changes)


def test_mobilenet_gives_strides_4_to_32():
    net = MobileNetV1(block_cfg=dict(stage_blocks=(2, 1, 1, 1), stage_planes=[4, 6, 8, 10, 12, 14]))
    maps = net(torch.zeros(1, 3, 250, 330))
    assert sizes(maps) == [(1, 8, 63, 83), (1, 10, 32, 42), (1, 12, 16, 21), (1, 14, 8, 11)]
    assert "layer1.1.3.weight" in net.state_dict()


def test_mobilenet_default_is_a_quarter_of_the_paper():
    net = MobileNetV1()
    assert [len(getattr(net, f"layer{n}")) for n in (1, 2, 3, 4)] == [2, 4, 4, 2]
    assert net.layer4[-1][3].out_channels == 256


def test_mobilenet_mistakes_are_named():
    with pytest.raises(ConfigError, match="stage_planes = .* must have 6 entries"):
        MobileNetV1(block_cfg=dict(stage_blocks=(1, 1, 1, 1), stage_planes=[8] * 5))
    with pytest.raises(ConfigError, match="did you mean 'stage_planes'"):
        MobileNetV1(block_cfg=dict(stage_blocks=(1, 1, 1, 1), stage_plane=[8] * 6))
