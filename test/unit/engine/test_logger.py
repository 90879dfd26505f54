import io
import json
import logging
import math
import warnings

import pytest

from mmdet.engine.logger import RunLog, format_duration, train_line
from mmdet.engine.scalar_writers import JsonWriter

RECORD = {
    "mode": "train",
    "epoch": 1,
    "iter": 100,
    "lr": 0.01,
    "memory": 1234,
    "data_time": 0.01,
    "loss_cls": 0.25,
    "loss_bbox": 0.5,
    "loss": 0.75,
    "time": 0.512,
    "img_s": 62.5,
}


def test_train_line_reads_as_mmcvs():
    assert train_line(RECORD, 403, eta_s=93784) == (
        "Epoch [1][100/403]\tlr: 1.000e-02, eta: 26:03:04, time: 0.512, data_time: 0.010, memory: 1234, "
        "loss_cls: 0.2500, loss_bbox: 0.5000, loss: 0.7500, img/s: 62.5"
    )


def test_columns_that_shell_scripts_take(tmp_path):
    """Column 15 is the time of an iteration, the last but two (NF-2) the total loss."""
    log = RunLog()
    log.open(tmp_path, "now")
    logging.getLogger("mmdet").info(train_line(RECORD, 403, eta_s=10**6))
    log.close()
    words = (tmp_path / "now.log").read_text().split()
    assert words[13:15] == ["time:", "0.512,"] and words[-3] == "0.7500,"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (360_061, "100:01:01")])
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


def test_lines_before_the_file_exists_are_in_it(tmp_path, capsys):
    log = RunLog()
    log.set_writers([JsonWriter()])
    log.write({"mode": "train", "loss": 0.5})  # before `open`: nowhere to go
    logging.getLogger("mmdet.config.load").warning("early")
    log.open(tmp_path, "now")
    logging.getLogger("mmdet").info("late")
    log.write({"mode": "train", "loss": math.nan, "lr": 0.1})
    log.write({"mode": "val", "AP_easy": 0.5})
    log.close()
    text = (tmp_path / "now.log").read_text()
    assert "mmdet - WARNING - early" in text and "mmdet - INFO - late" in text
    assert capsys.readouterr().out == text
    lines = [json.loads(line) for line in (tmp_path / "now.log.json").read_text().splitlines()]
    assert lines == [{"mode": "train", "loss": None, "lr": 0.1}, {"mode": "val", "AP_easy": 0.5}]


def test_a_console_that_nobody_reads_is_told_once_and_the_file_goes_on(tmp_path, capsys, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("sys.stdout", Closed())
    log = RunLog()
    log.open(tmp_path, "now")
    for number in range(3):
        logging.getLogger("mmdet").info("line %d", number)
    monkeypatch.setattr("sys.stderr", Closed())
    log.close()
    assert (tmp_path / "now.log").read_text().count("line") == 3
    assert capsys.readouterr().err == "the console cannot be written: [Errno 32] Broken pipe\n"


def test_other_ranks_show_errors_at_the_start_then_warnings_and_write_nothing(tmp_path, capsys):
    log = RunLog("INFO", rank=3)
    log.set_writers([JsonWriter()])
    logging.getLogger("mmdet").warning("said by rank 0 too")
    logging.getLogger("mmdet").error("broken")
    log.set_level("DEBUG")
    logging.getLogger("mmdet").warning("said by rank 0 too")
    log.open(tmp_path, "now")
    log.write({"loss": 1.0}, step=1)
    logging.getLogger("mmdet").info("not shown")
    logging.getLogger("mmdet").warning("unreadable")
    log.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("rank 3 - ") and first.endswith("broken")
    assert second.startswith("rank 3 - ") and second.endswith("unreadable")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rank", "expected"), [(0, ["FutureWarning: old name, use the new one"]), (1, [])])
def test_a_warning_of_python_is_one_line_of_rank_0(rank, expected, tmp_path, capsys):
    kept = warnings.showwarning
    log = RunLog(rank=rank)
    log.open(tmp_path, "now")
    for _ in range(2):
        warnings.warn("old name,\n  use the new one", FutureWarning, stacklevel=1)
    log.close()
    out, err = capsys.readouterr()
    assert [line.split("WARNING - ")[1] for line in out.splitlines()] == expected and err == ""
    assert warnings.showwarning is kept
