"""Writers of figures: which are built, what they get, what a missing package says."""

import json
import math
import subprocess
import sys
from types import ModuleType

import pytest

from mmdet.engine.logger import RunLog
from mmdet.engine.scalar_writers import (
    WRITERS,
    JsonWriter,
    TensorBoardWriter,
    WandbWriter,
    build_writers,
)
from mmdet.errors import ConfigError

TEXT, BOARD = {"type": "TextLoggerHook"}, {"type": "TensorboardLoggerHook"}
WANDB = {"type": "WandbLoggerHook", "init_kwargs": {"project": "faces", "mode": "offline"}}
VAL = {"mode": "val", "AP_easy": 0.5, "AP_hard": math.nan, "iter": 3}


class StandInBoard:
    """torch.utils.tensorboard.SummaryWriter, as far as it is used."""

    def __init__(self, folder):
        self.folder, self.seen = folder, []

    def add_scalar(self, *args):
        self.seen.append(args)

    def close(self):
        self.seen.append("closed")


class StandInWandb(ModuleType):
    """The package wandb, as far as it is used."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.seen = []

    def init(self, **arguments):
        if "projekt" in arguments:
            raise TypeError("init() got an unexpected keyword argument 'projekt'")
        self.seen.append(arguments)
        return self

    def log(self, values, step):
        self.seen.append((values, step))

    def finish(self):
        self.seen.append("finished")


@pytest.fixture
def wandb(monkeypatch):
    module = StandInWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def write(hooks, tmp_path, *records):
    """Write records as a run does."""
    log = RunLog()
    log.set_writers(build_writers(hooks))
    log.open(tmp_path, "now")
    for record, step in records:
        log.write(record, step)
    log.close()


@pytest.mark.parametrize(
    ("hooks", "kinds"),
    [
        ([], [JsonWriter]),
        ([TEXT], [JsonWriter]),
        ([BOARD], [JsonWriter, TensorBoardWriter]),
        ([WANDB, TEXT, BOARD], [JsonWriter, WandbWriter, TensorBoardWriter]),
    ],
    ids=str,
)
def test_the_json_log_is_always_there(hooks, kinds, wandb):
    assert [type(writer) for writer in build_writers(hooks)] == kinds


def test_tensorboard_gets_the_numbers(tmp_path, monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    boards = []
    module.SummaryWriter = lambda folder: boards.append(StandInBoard(folder)) or boards[-1]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    write([BOARD], tmp_path, ({"seed": 0.0}, None), (VAL, 7))
    (board,) = boards
    assert board.folder == str(tmp_path / "tf_logs")
    assert board.seen == [("val/AP_easy", 0.5, 7), "closed"]


def test_the_real_tensorboard_writes_an_event_file(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra [tensorboard])")
    write([BOARD], tmp_path, (VAL, 7))
    (events,) = (tmp_path / "tf_logs").iterdir()
    assert b"val/AP_easy" in events.read_bytes()


@pytest.mark.slow
def test_the_real_wandb_writes_a_run_offline(tmp_path, monkeypatch):
    package = pytest.importorskip("wandb", reason="wandb is not installed (extra [wandb])")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write([WANDB], tmp_path, (VAL, 7))
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"val/AP_easy" in run.read_bytes()
    assert package.run is None  # finished


def test_missing_tensorboard_is_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    write([BOARD], tmp_path, (VAL, 7))
    printed = capsys.readouterr().out
    assert "TensorBoard is configured but not installed" in printed and len(printed.splitlines()) == 1


def test_wandb_gets_the_numbers_and_the_json_log_all_of_them(tmp_path, wandb):
    write([WANDB], tmp_path, ({"seed": 0.0}, None), (VAL, 7))
    assert wandb.seen == [
        {"dir": str(tmp_path), "name": "now", "project": "faces", "mode": "offline"},
        ({"val/AP_easy": 0.5}, 7),
        "finished",
    ]
    lines = [json.loads(line) for line in (tmp_path / "now.log.json").read_text().splitlines()]
    assert lines == [{"seed": 0.0}, {"mode": "val", "AP_easy": 0.5, "AP_hard": None, "iter": 3}]


def test_missing_wandb_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"^[^\n]*needs the package wandb[^\n]*pip install wandb[^\n]*$"):
        build_writers([WANDB])


def test_wandb_refuses_its_arguments_in_one_line(tmp_path, wandb):
    with pytest.raises(ConfigError, match=r"^WandbLoggerHook: wandb.init: [^\n]*projekt"):
        write([{"type": "WandbLoggerHook", "init_kwargs": {"projekt": "faces"}}], tmp_path)


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ({"type": "WandLoggerHook"}, "'WandLoggerHook' is unknown; did you mean 'WandbL"),
        ({"type": "WandbLoggerHook", "project": "x"}, "log_config.hooks.1: argument of Wandb"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_with_their_place(hook, message, wandb):
    with pytest.raises(ConfigError, match=message):
        build_writers([TEXT, hook])


def test_a_writer_of_ones_own(tmp_path, monkeypatch):
    class Mine(JsonWriter):
        seen = []

        def write(self, record, step):
            self.seen.append((record, step))

    monkeypatch.setitem(WRITERS, "Mine", Mine)
    write([{"type": "Mine"}], tmp_path, (VAL, 7))
    assert Mine.seen == [(VAL, 7)]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes")
def test_a_full_disk_costs_figures_and_no_training(tmp_path):
    """In a process of its own: a limit on files takes the place of a full disk."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from mmdet.engine.logger import RunLog\nfrom mmdet.engine.scalar_writers import JsonWriter\n"
        "import logging\nlog = RunLog()\nlog.set_writers([JsonWriter()])\nlog.open(Path(sys.argv[1]), 'a')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "for number in range(50):\n    log.write({'mode': 'train', 'iter': number}, number)\n"
        "    logging.getLogger('mmdet').info('line %d', number)\nlog.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("figures cannot be written") == 1
    assert done.stdout.count(" line ") == 50 and "a.log cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    rows = [json.loads(line) for line in (tmp_path / "a.log.json").read_text().splitlines()]
    assert [row["iter"] for row in rows] == list(range(len(rows))) and 5 < len(rows) < 15
