"""samples_per_gpu = -1: numbers by hand, and a device that the test makes up."""

from types import SimpleNamespace

import pytest
import torch

from mmdet.engine import batch_size
from mmdet.engine.batch_size import choose_batch_size, fit_batch_size


def test_what_fits_follows_from_two_steps():
    def measure(count):
        return 500 + 100 * count  # MiB

    assert fit_batch_size(10_000, measure) == 72  # (0.8 x 10000 - 500) / 100 = 75, a multiple of 8
    assert fit_batch_size(1_200, measure) == 4  # (960 - 500) / 100
    assert fit_batch_size(700, measure) == 1  # never none: the step's own message says more
    assert fit_batch_size(1e9, measure) == 256
    assert fit_batch_size(10_000, lambda count: 500.0) == 256  # no growth is measured as 1 MiB


@pytest.mark.parametrize(("images", "ranks", "chosen"), [(1000, 1, 16), (100, 1, 12), (100, 4, 3), (5, 1, 1)])
def test_on_a_cpu_an_epoch_keeps_eight_iterations(images, ranks, chosen):
    assert choose_batch_size(None, range(images), torch.device("cpu"), ranks) == chosen


def test_a_device_is_measured_and_the_smallest_rank_counts(monkeypatch, caplog):
    monkeypatch.setattr(batch_size, "free_memory_mib", lambda device: 4000.0)
    monkeypatch.setattr(batch_size, "_peak_of_step", lambda cfg, data, device, count: 200.0 + 100 * count)
    monkeypatch.setattr(batch_size, "all_gather_objects", lambda count: [count, 8])
    device = SimpleNamespace(type="card")
    with caplog.at_level("INFO", "mmdet"):
        assert choose_batch_size(None, range(10_000), device) == 8
    assert "becomes 8 (measured: 4000 MiB were free; 10000 training images)" in caplog.text
