import pytest
import torch

from mmdet.config.types import EmaConfig
from mmdet.engine.ema import WeightAverage
from mmdet.errors import CheckpointError


def weights(value, count=0):
    return {"w": torch.full((2,), float(value)), "bn.num_batches_tracked": torch.tensor(count)}


def test_numbers_without_warm_up():
    average = WeightAverage(EmaConfig(momentum=0.25, warm_up=0), weights(0))
    average.update(weights(4, count=1))
    assert average.average["w"].tolist() == [1.0, 1.0]
    average.update(weights(4, count=2))
    assert average.average["w"].tolist() == [1.75, 1.75]
    assert average.average["bn.num_batches_tracked"].item() == 2


def test_warm_up_forgets_the_first_weights():
    average = WeightAverage(EmaConfig(momentum=0.0002, warm_up=100), weights(0))
    assert average.momentum() == pytest.approx(0.99)
    average.num_updates = 100
    assert average.momentum() == pytest.approx(0.495)
    average.num_updates = 10**7
    assert average.momentum() == 0.0002


def test_it_keeps_its_own_copy():
    live = weights(1)
    average = WeightAverage(EmaConfig(), live)
    live["w"].zero_()
    assert average.average["w"].tolist() == [1.0, 1.0]


def test_state_goes_round_exactly():
    cfg = EmaConfig(momentum=0.1, warm_up=10)
    one = WeightAverage(cfg, weights(0))
    for value in range(5):
        one.update(weights(value))
    two = WeightAverage(cfg, weights(7))
    two.load_state_dict(one.state_dict(), {name: value.clone() for name, value in one.average.items()})
    for average in (one, two):
        average.update(weights(9))
    assert torch.equal(one.average["w"], two.average["w"])
    assert one.num_updates == two.num_updates == 6


def test_averages_of_another_model_are_refused():
    with pytest.raises(CheckpointError, match="another model"):
        WeightAverage(EmaConfig(), weights(0)).load_state_dict({"num_updates": 1}, {"v": torch.ones(1)})
