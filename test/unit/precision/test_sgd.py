"""sgd_step_if against torch.optim.SGD, and steps that are not wanted."""

import copy

import pytest
import torch
from torch import nn

from mmdet.precision.grads import step_if
from mmdet.precision.sgd import is_plain_sgd, sgd_step_if

MOMENTUM, DECAY = {"momentum": 0.9}, {"weight_decay": 5e-4}
YES, NO = torch.tensor(True), torch.tensor(False)


def make(seed=0, **options):
    torch.manual_seed(seed)
    params = [nn.Parameter(torch.randn(4001)), nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(2))]
    return params, torch.optim.SGD(params, lr=0.0123, **options)


def give_grads(params, seed):
    rng = torch.Generator().manual_seed(seed)
    for parameter in params[:2]:  # the third takes no part
        parameter.grad = torch.randn(parameter.shape, generator=rng)


def state_of(optimizer):
    return [optimizer.state[p].get("momentum_buffer") for p in optimizer.param_groups[0]["params"][:2]]


@pytest.mark.parametrize("is_lr_on_device", [False, True])
@pytest.mark.parametrize("options", [MOMENTUM | DECAY, MOMENTUM, DECAY, {}], ids=str)
def test_the_bits_are_those_of_torchs_sgd(options, is_lr_on_device):
    (theirs, optimizer), (ours, other) = make(**options), make(**options)
    for step in range(4):
        lr = 0.0123 / (step + 1)
        optimizer.param_groups[0]["lr"] = lr
        other.param_groups[0]["lr"] = torch.tensor(lr) if is_lr_on_device else lr
        give_grads(theirs, step)
        give_grads(ours, step)
        optimizer.step()
        sgd_step_if(other, YES)
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    for one, two in zip(state_of(optimizer), state_of(other), strict=True):
        assert (one is None and two is None) or torch.equal(one, two)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_wanted_changes_nothing(bad):
    params, optimizer = make(momentum=0.9, weight_decay=0.1)
    before = copy.deepcopy(params)
    for step in range(3):
        give_grads(params, step)
        params[0].grad[7] = bad
        sgd_step_if(optimizer, NO)
        assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))
        assert all(torch.equal(m, torch.zeros_like(m)) for m in state_of(optimizer))
    give_grads(params, 9)
    sgd_step_if(optimizer, YES)
    assert all(torch.isfinite(p).all() for p in params) and not torch.equal(before[0], params[0])
    momentum = [m.clone() for m in state_of(optimizer)]
    params[1].grad.fill_(bad)
    sgd_step_if(optimizer, NO)
    assert all(torch.equal(a, b) for a, b in zip(momentum, state_of(optimizer), strict=True))


@pytest.mark.parametrize(
    "options", [MOMENTUM | {"nesterov": True}, MOMENTUM | {"dampening": 0.5}, {"maximize": True}], ids=str
)
def test_variants_of_sgd_are_left_to_torch(options):
    (theirs, optimizer), (ours, other) = make(**options), make(**options)
    assert not is_plain_sgd(other)
    for step in range(2):
        give_grads(theirs, step)
        give_grads(ours, step)
        optimizer.step()
        step_if(other, YES, sync_free=True)
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    before = copy.deepcopy(ours)
    step_if(other, NO, sync_free=True)
    assert all(torch.equal(a, b) for a, b in zip(before, ours, strict=True))


def test_a_subclass_is_not_taken_for_sgd():
    class Own(torch.optim.SGD):
        pass

    assert not is_plain_sgd(Own([nn.Parameter(torch.ones(1))], lr=0.1))
    assert not is_plain_sgd(torch.optim.Adam([nn.Parameter(torch.ones(1))]))
