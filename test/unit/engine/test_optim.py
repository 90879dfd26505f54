import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from mmdet.engine.optim import build_optimizer, scale_lr
from mmdet.errors import ConfigError


def params():
    return [nn.Parameter(torch.ones(3))]


def test_sgd_takes_the_arguments_of_the_config():
    cfg = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
    optimizer = build_optimizer(params(), cfg)
    assert type(optimizer) is torch.optim.SGD
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 0.0005)
    assert cfg == dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)


@pytest.mark.parametrize("name", ["AdamW", "Adam", "RMSprop"])
def test_any_class_of_torch_optim(name):
    assert type(build_optimizer(params(), dict(type=name, lr=0.1))) is getattr(torch.optim, name)


def test_the_ascend_name_is_plain_sgd_without_apex():
    assert type(build_optimizer(params(), dict(type="NpuFusedSGD", lr=0.1))) is torch.optim.SGD


def test_the_ascend_name_is_apex_own_class_with_apex(monkeypatch):
    class NpuFusedSGD(torch.optim.SGD):
        pass

    module = ModuleType("apex.optimizers")
    module.NpuFusedSGD = NpuFusedSGD
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", module)
    cfg = dict(type="NpuFusedSGD", lr=0.1)
    assert type(build_optimizer(params(), cfg, backend="apex")) is NpuFusedSGD


def test_unknown_type_names_the_nearest():
    with pytest.raises(ConfigError, match=r"optimizer.type = 'AdanW' is unknown; did you mean 'AdamW'\?"):
        build_optimizer(params(), dict(type="AdanW", lr=0.1))
    with pytest.raises(ConfigError, match="'Optimizer' is unknown"):
        build_optimizer(params(), dict(type="Optimizer", lr=0.1))


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="RMSprop refuses its arguments: .*momentun"):
        build_optimizer(params(), dict(type="RMSprop", lr=0.1, momentun=0.9))
    with pytest.raises(ConfigError, match="SGD refuses its arguments: .*-1"):
        build_optimizer(params(), dict(type="SGD", lr=-1))


def test_linear_rule():
    assert scale_lr(0.01, batch_size_total=256, base_batch_size=32) == pytest.approx(0.08)
    assert scale_lr(0.01, batch_size_total=8, base_batch_size=32) == pytest.approx(0.0025)
