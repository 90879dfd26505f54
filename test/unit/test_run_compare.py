"""`scrfd report compare`: means of a curve, accuracy, tolerances, what it refuses."""

import json

import pytest

from mmdet.commands.main import run
from mmdet.errors import ConfigError
from mmdet.testing.run_compare import Tolerance, compare_runs, read_curve


def make_run(folder, losses, ap=None):
    folder.mkdir()
    lines = [{"mode": "train", "epoch": 1, "iter": 10 * (i + 1), "loss": v} for i, v in enumerate(losses)]
    (folder / "a.log.json").write_text("".join(json.dumps(line) + "\n" for line in [{"seed": 0}, *lines]))
    if ap is not None:
        (folder / "eval").mkdir()
        (folder / "eval/metrics.json").write_text(json.dumps({"AP_easy": ap, "AP_hard": None}))
    return folder


def test_the_mean_of_each_tenth_is_compared(tmp_path):
    card = make_run(tmp_path / "card", [2.0] * 10 + [1.0] * 10, ap=0.9)
    other = make_run(tmp_path / "other", [1.9, 2.1] * 5 + [1.0] * 8 + [1.03] * 2, ap=0.906)
    rows = list(compare_runs(card, other, Tolerance()))
    assert [is_equal for _, is_equal in rows] == [True] * 9 + [False, False]
    assert rows[0][0] == "loss epoch 1 iter 10 to epoch 1 iter 20: 2.00000 2.00000 differ by 0.00%"
    assert rows[9][0].endswith("1.00000 1.03000 differ by 2.91%")
    assert rows[10][0] == "AP_easy: 0.9000 0.9060 differ by 0.0060"


def test_the_command_says_how_many_and_ends_with_1(tmp_path, capsys):
    card, other = make_run(tmp_path / "card", [2.0, 1.0]), make_run(tmp_path / "other", [2.0, 1.1])
    assert run(["report", "compare", str(card), str(other)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].endswith("TOO MUCH") and out[-1].startswith("1 of 3 beyond the tolerance: loss 0.02")
    assert run(["report", "compare", str(card), str(other), "--loss", "0.1"]) == 0


def test_a_resumed_run_is_one_curve(tmp_path):
    folder = make_run(tmp_path / "a", [2.0, 1.0])
    (folder / "b.log.json").write_text('{"mode": "train", "epoch": 1, "iter": 20, "loss": 0.5}\n')
    assert read_curve(folder) == {(1, 10): 2.0, (1, 20): 0.5}


def test_folders_that_cannot_be_compared_are_refused(tmp_path):
    card, empty = make_run(tmp_path / "card", [2.0]), make_run(tmp_path / "empty", [])
    with pytest.raises(ConfigError, match="empty: no .*log.json with a loss"):
        list(compare_runs(card, empty, Tolerance()))
    (empty / "a.log.json").write_text('{"mode": "train", "epoch": 1, "iter": 7, "loss": 1.0}\n')
    with pytest.raises(ConfigError, match="no iteration in common"):
        list(compare_runs(card, empty, Tolerance()))
