"""The scaling model, by hand."""

import math
import subprocess
import sys

import pytest

from benchmark.scaling import Cluster, Costs, forecast, slowest_of

COSTS = Costs(card_images_per_s=1000, host_ms=2.0, batch=10, gradient_bytes=30_000_000, collectives=0)
PLAIN = Cluster(cards_per_host=8, cores_per_card=5, link_gb_s=15, network_gb_s=10, latency_us=0, jitter=0)


def test_one_card_waits_for_nobody():
    row = forecast(1, COSTS, PLAIN)
    assert (row.images_per_s, row.efficiency, row.limit, row.reduce_ms) == (1000, 1, "cards", 0)
    assert row.cores_needed == pytest.approx(3)  # 10 images x 2 ms in 10 ms, and the training process


@pytest.mark.parametrize(
    "cards, reduce_ms, step_ms",
    [(8, 3.5, 13.5), (16, 6.5, 16.5)],  # 2*7/8*30MB/15GB/s = 3.5 ms; two machines: + 2*1/2*30MB/10GB/s = 3 ms
)
def test_gradients_are_added_to_the_step(cards, reduce_ms, step_ms):
    row = forecast(cards, COSTS, PLAIN)
    assert row.reduce_ms == pytest.approx(reduce_ms)
    assert row.images_per_s == pytest.approx(cards * 10 / step_ms * 1000)
    assert row.efficiency == pytest.approx(10 / step_ms)
    assert row.cores_needed == pytest.approx(20 / step_ms + 1)


def test_a_slow_host_is_the_limit():
    row = forecast(8, COSTS, Cluster(cores_per_card=2))
    assert (row.limit, row.efficiency) == ("host", 0.5)  # one worker core: 20 ms for what takes the card 10


def test_no_core_for_workers_means_no_images():
    assert forecast(8, COSTS, Cluster(cores_per_card=1)).images_per_s == 0


def test_latency_counts_per_collective_and_hop():
    costs = Costs(1000, 0.1, 10, gradient_bytes=0, collectives=3)
    row = forecast(8, costs, Cluster(latency_us=100, jitter=0))
    assert row.efficiency == pytest.approx(10 / 10.9)  # 3 collectives x 3 hops x 0.1 ms


def test_all_wait_for_the_slowest():
    assert slowest_of(1, 0.02) == 0
    assert slowest_of(8, 0.02) == pytest.approx(0.02 * math.sqrt(2 * math.log(8)))


def run_tool(repo, *args):
    command = [sys.executable, "tools/scaling_model.py", "configs/scrfd/scrfd_500m.py", "--host-ms", "2"]
    return subprocess.run([*command, *args], cwd=repo, capture_output=True, text=True)


@pytest.mark.slow
def test_a_chips_rate_is_estimated_by_the_audits_cost_model(repo):
    options = ["data.samples_per_gpu=2"]
    slow = run_tool(
        repo, "--chip", "910B", "--size", "64", "--assume", "launch_us=1e6", "--cfg-options", *options
    )
    assert slow.returncode == 0, slow.stderr
    estimate, _, rate = slow.stdout.splitlines()[:3]
    launches_s = (
        float(estimate.split(": ")[1].split(" ms")[0]) / 1000
    )  # a second per launch: nothing else counts
    assert "estimate for 910B" in estimate and launches_s == int(launches_s) > 500
    assert float(rate.split()[0]) == pytest.approx(2 / launches_s, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [(["--chip", "910C"], "ConfigError: chip = '910C' is unknown"), ([], "one of the arguments")],
)
def test_a_rate_or_a_known_chip_must_be_given(repo, args, message):
    done = run_tool(repo, *args)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
