"""The step benchmark: its baseline and its parts compute what the trainer does; its roofline counts right."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.baseline_step import BaselineStep
from benchmark.baseline_targets import nearest_lowest_index
from benchmark.roofline import ConvCall, Roofline, list_convolutions
from benchmark.step import StepSetup, make_product, make_roofline, make_step, summarise, time_parts
from benchmark.turns import take_turns
from mmdet.config import SpeedConfig, load_config
from mmdet.errors import ConfigError
from mmdet.models.flops import count_complexity

REPO = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def make_setup(config="configs/scrfd/scrfd_500m_bnkps.py", **changes):
    values = dict(
        config=str(REPO / config), options=(), device="cpu", amp="O0", speed=SpeedConfig(), batch_size=2,
        faces=5, size=128, threads=1,
    )  # fmt: skip
    return StepSetup(**{**values, **changes})


@pytest.mark.parametrize("config", ["configs/scrfd/scrfd_500m_bnkps.py", "configs/scrfd/scrfd_500m.py"])
def test_the_baseline_computes_the_losses_of_the_product(config):
    setup = make_setup(config)
    cfg = setup.load()
    torch.manual_seed(0)
    step = make_step(cfg, CPU)
    torch.manual_seed(0)
    batch = setup.draw(cfg)
    baseline = BaselineStep(cfg, batch, CPU, nearest_lowest_index)
    wanted = baseline.losses()
    losses = step.update(0, batch)
    assert losses.keys() == wanted.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(wanted[name].item(), rel=1e-4), name


def test_a_step_cut_into_parts_is_the_same_step():
    setup = make_setup()
    cfg = setup.load()
    batch = setup.draw(cfg)
    whole, parts = (torch.manual_seed(0) and make_step(cfg, CPU) for _ in range(2))
    before = [parameter.detach().clone() for parameter in whole.net.parameters()]
    whole.update(0, batch)
    times = time_parts(parts, 0, batch)
    assert list(times) == ["forward", "targets_and_losses", "losses_backward", "backward", "optimizer"]
    assert all(seconds > 0 for seconds in times.values())
    after = list(whole.net.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for one, two in zip(after, parts.net.parameters(), strict=True):
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-7)


def test_the_roofline_runs_every_convolution_with_its_shapes():
    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
            self.second = nn.Conv2d(4, 8, 1, groups=2)

        def raw(self, images):
            return self.second(self.first(images))

    first, second = list_convolutions(Tiny().to("meta"), 2, 8, 8)
    assert first == ConvCall(
        (2, 3, 8, 8), (4, 3, 3, 3), (2, 4, 4, 4), False, False, (2, 2), (1, 1), (1, 1), 1
    )  # fmt: skip
    assert (second.has_bias, second.has_input_grad, second.groups) == (True, True, 2)
    assert second.weight_shape == (8, 2, 1, 1)
    # 2 x 4 channels x 4 x 4 outputs, 27 multiply-adds each; weights' gradient only
    assert (first.forward_flops, first.backward_flops) == (2 * 128 * 27, 2 * 128 * 27)
    # 2 x 8 x 4 x 4 outputs, 2 multiply-adds each; both gradients
    assert (second.forward_flops, second.backward_flops) == (2 * 256 * 2, 2 * 2 * 256 * 2)
    figures = Roofline([first, second], CPU, torch.float32)()
    assert sorted(figures) == [
        f"channels_{a}_{b}" for a in ("first", "last") for b in ("backward", "forward")
    ]


def test_the_roofline_counts_as_many_operations_as_the_flops_counter():
    cfg = load_config(REPO / "configs/scrfd/scrfd_2.5g.py")
    model = make_step(cfg, CPU).net
    calls = list_convolutions(model.to("meta"), 3, 128, 160)
    macs = sum(count_complexity(model, 128, 160).conv_macs.values())
    assert sum(call.forward_flops for call in calls) == 2 * 3 * macs


def test_summary_of_typed_times():
    product = dict(forward=0.1, targets_and_losses=0.01, losses_backward=0.01, backward=0.2, optimizer=0.08)
    times = {
        "product": {**product, "parts": 0.4, "step": 0.4, "peak_mib": 7.0},
        "baseline": {"step": 0.8},
        "roofline": {
            "channels_first_forward": 0.2, "channels_first_backward": 0.3,
            "channels_last_forward": 0.1, "channels_last_backward": 0.1,
        },
    }  # fmt: skip
    figures = summarise(times, {"forward": 10**9, "backward": 2 * 10**9}, batch_size=4)
    assert figures["speedup_over_baseline"] == pytest.approx(2)
    assert figures["most_that_baseline_allows"] == pytest.approx(4)
    assert figures["percent_in_targets_and_losses"] == pytest.approx(5)
    assert figures["percent_of_roofline"] == pytest.approx(50)
    assert figures["images_per_s"] == pytest.approx({"product": 10, "baseline": 5})
    assert figures["gflops_per_s"] == pytest.approx(
        {"step": 7.5, "roofline_channels_first": 6, "roofline_channels_last": 15}
    )
    assert figures["roofline"]["layout"] == "channels_last" and figures["peak_mib"] == {"product": 7.0}


@pytest.mark.slow
def test_contestants_take_turns_in_processes_of_their_own():
    makers = {"product": make_product, "roofline": make_roofline}
    times = take_turns(makers, make_setup(size=64), rounds=2, warmup=0)
    assert set(times) == {"product", "roofline"}
    product = times["product"]
    assert product["peak_mib"] > 50 and 0 < product["forward"] < product["parts"]


@pytest.mark.slow
def test_an_error_of_a_contestant_is_raised_here():
    with pytest.raises(ConfigError, match="absent.py"):
        take_turns({"roofline": make_roofline}, make_setup("configs/absent.py"), rounds=1)


def test_a_contestant_that_dies_is_named():
    with pytest.raises(ConfigError, match="'gone' ended early"):
        take_turns({"gone": os._exit}, 0, rounds=1)
