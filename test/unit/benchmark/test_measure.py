import json
import time

import pytest
import torch

from benchmark.measure import Timing, alternate, peak_tensor_mib, ratio, report


def test_alternate_runs_each_work_in_turn():
    calls = []
    times = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warmup=1)
    assert calls == ["a", "b"] * 4
    assert set(times) == {"a", "b"} and times["a"].wall_s >= 0


def test_processor_time_does_not_count_waiting():
    timing = alternate({"sleep": lambda: time.sleep(0.05)}, rounds=1, warmup=0)["sleep"]
    assert timing.wall_s >= 0.05 > timing.cpu_s


def test_ratio():
    assert ratio(Timing(6.0, 8.0), Timing(2.0, 4.0)) == {"wall": 3.0, "cpu": 2.0}


def test_peak_counts_what_lives_at_once():
    def work():
        for _ in range(3):  # 4 MiB and its double live together, never two rounds
            torch.zeros(1 << 20) * 2

    assert peak_tensor_mib(work) == pytest.approx(8, abs=0.1)


def test_report_writes_json(tmp_path, capsys):
    report({"ratio": 1.23456}, "targets", str(tmp_path / "a.json"))
    assert "ratio: 1.235" in capsys.readouterr().out
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["ratio"] == 1.23456 and record["benchmark"] == "targets" and "date" in record
