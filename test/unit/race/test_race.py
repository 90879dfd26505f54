"""Races with trainings that are faked by a few lines of Python."""

import json
import math
import sys

import cv2
import numpy as np
import pytest

from mmdet.errors import ConfigError, DataError, TrainError
from mmdet.evaluation.run import evaluate_files
from mmdet.race import run as race_run
from mmdet.race.budget import epochs_for_cpu
from mmdet.race.report import curve_of, difference, interval, plot, table
from mmdet.race.settings import RaceSettings
from mmdet.search.settings import read_settings

TESTS = {"small": {"options": ["a=1"]}}
BURN = "import time\nwhile time.process_time() < {}: pass\n"


def settings_of(**changes):
    entries = {"old": {"config": "old.py"}, "new": {"config": "new.py", "options": ["b=2"], "epochs": 1.5}}
    return RaceSettings(
        **{"entries": entries, "tests": TESTS, "budget_images": 100, "seeds": (0, 1), **changes}
    )


@pytest.fixture
def faked(monkeypatch):
    """Replace trainings and evaluations by commands; return what was asked for."""
    asked = []

    def train(config, work_dir, *, device, train_args, options):
        asked.append((config.stem, work_dir.parent.name, tuple(train_args), tuple(options)))
        code = f"import pathlib; p = pathlib.Path({str(work_dir)!r}); p.mkdir(parents=True)\n"
        code += "[(p / f'{n}.pth').touch() for n in ('epoch_1', 'epoch_2', 'latest')]"
        return [sys.executable, "-c", code]

    def evaluate(config, checkpoint, out, *, device, eval_args, options):
        value = {"old": 0.25, "new": 0.5}[config.stem] + 0.01 * ("seed_1" in str(out))
        code = f"import pathlib, json; p = pathlib.Path({str(out)!r}); p.mkdir()\n"
        code += f"(p / 'metrics.json').write_text(json.dumps(dict(AP50={value}, AP_hard=None)))"
        assert options[-1] == "a=1" and checkpoint.exists()
        return [sys.executable, "-c", code]

    monkeypatch.setattr(race_run, "train_command", train)
    monkeypatch.setattr(race_run, "eval_command", evaluate)
    monkeypatch.setattr(race_run, "count_epoch", lambda config, options: (10, 40))
    return asked


def test_finished_runs_are_kept_and_half_ones_start_again(faked, tmp_path):
    race = race_run.Race(settings_of(), tmp_path)
    race.run()
    assert [(name, seed) for name, seed, _, _ in faked] == [
        ("old", "seed_0"), ("new", "seed_0"), ("old", "seed_1"), ("new", "seed_1"),
    ]  # fmt: skip
    assert faked[0][2:] == (("--epochs", "2.5", "--seed", "0", "--no-validate"), ())
    assert faked[3][2:] == (("--epochs", "1.5", "--seed", "1", "--no-validate"), ("b=2",))
    (tmp_path / "old" / "seed_1" / "result.json").unlink()
    race.run()
    assert len(faked) == 5 and faked[4][:2] == ("old", "seed_1")
    runs = race.results()
    assert [run["images"] for run in runs["old"]] == [100, 100] and runs["new"][0]["images"] == 60
    assert [run["figures"]["small"]["AP50"] for run in runs["new"]] == [0.5, 0.51]


def test_curves_evaluate_every_epoch_but_the_last(faked, tmp_path):
    settings = settings_of(curves=True, seeds=(0,), figures=("AP50", "AP_hard"))
    race = race_run.Race(settings, tmp_path)
    race.run()
    assert faked[0][3] == race_run.KEEP_ALL
    runs = race.results()
    assert [point["share"] for point in runs["old"][0]["curve"]] == [0.4, 0.8]
    assert curve_of(runs["old"], "small", "AP50")[:, 1].tolist() == [0.25, 0.25, 0.25]
    plot(settings, runs, "small", tmp_path / "small.png")
    assert cv2.imread(str(tmp_path / "small.png")).shape[1] > 500


def test_a_failure_names_the_log_and_keeps_what_was_before(faked, tmp_path, monkeypatch):
    monkeypatch.setattr(
        race_run, "eval_command", lambda *args, **kwargs: [sys.executable, "-c", "raise SystemExit(3)"]
    )
    with pytest.raises(TrainError, match=r"exit code 3; see .*old/seed_0/small.log"):
        race_run.Race(settings_of(), tmp_path).run()
    assert race_run.Race(settings_of(), tmp_path).results() == {}


def test_processor_seconds_include_grandchildren(tmp_path):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN.format(0.3)!r}])"
    assert 0.3 <= race_run.spend([sys.executable, "-c", code], tmp_path / "log") < 3


LOADER = """
import time
from types import SimpleNamespace
from mmdet.datasets.loader import build_loader
from mmdet.datasets.sampler import GroupBatchSampler

class Slow:
    def __getitem__(self, index):
        end = time.process_time() + {}
        while time.process_time() < end:
            pass
        return SimpleNamespace(notes=())

loader = build_loader(
    Slow(), GroupBatchSampler([0] * 4, 1), workers=1, collate=lambda samples: samples[0], total_iters=3
)
for _ in range(3):
    next(loader)
loader.close()
"""


@pytest.mark.slow
def test_processor_seconds_include_the_workers_of_a_loader(tmp_path):
    idle, busy = (
        race_run.spend([sys.executable, "-c", LOADER.format(s)], tmp_path / "log") for s in (0, 1.0)
    )
    assert 2.0 < busy - idle < 5.0


def test_epochs_that_a_budget_allows_by_hand():
    costs = {4: 12.0, 48: 34.0}  # half a second an iteration, ten to start
    assert epochs_for_cpu(110, 40, lambda folder, iters: costs[iters]) == 5.0
    assert epochs_for_cpu(115, 40, lambda folder, iters: costs[iters]) == 5.25
    with pytest.raises(ConfigError, match="48 iterations cost 34 s already, 0.50 s each"):
        epochs_for_cpu(21, 40, lambda folder, iters: costs[iters])


def test_intervals():
    assert interval([0.5])[0] == 0.5 and math.isnan(interval([0.5])[1])
    assert interval([0.2, 0.4]) == pytest.approx((0.3, 0.2, 0.4))
    mean, low, high = interval(np.linspace(0, 1, 101))
    assert (mean, low, high) == pytest.approx((0.5, 0.5 - 1.96 * 0.0290, 0.5 + 1.96 * 0.0290), abs=3e-3)
    assert difference([0.5, 0.6], [0.1, 0.2]) == pytest.approx((0.4, 0.3, 0.5))
    assert math.isnan(difference([0.5], [0.1, 0.2])[2])


def result(cpu_s, ap, images=100):
    return {"cpu_s": cpu_s, "images": images, "figures": {"small": {"AP50": ap}}, "curve": []}


def test_the_table_by_hand(tmp_path):
    settings = settings_of(figures=("AP50",), budget_images=0, budget_cpu_s=100.0)
    runs = {
        "old": [result(100, 0.25), result(104, 0.35)],
        "new": [result(110, 0.5, None), result(112, None, None)],
    }
    lines = table(settings, runs).splitlines()
    assert lines[0] == "**small**" and lines[2] == "| entry | seeds | processor s | images | AP50 |"
    assert lines[4] == "| old | 2 | 102 | 100 | 0.3000 [0.2500, 0.3500] |"
    assert lines[5] == "| new | 2 | 111 (!) | ? | 0.2500 [0.0000, 0.5000] |"  # no clear difference
    runs["new"] = [result(100, 0.5), result(100, 0.6)]
    assert table(settings, runs).splitlines()[5].endswith("0.5500 [0.5000, 0.6000] (+0.2500) |")
    assert len(lines) == 6
    for run in (run for of_entry in runs.values() for run in of_entry):
        run["figures"]["small"] |= {"AP_h0": 0.125, "recall_h0": 0.75, "AP_h10": None, "recall_h10": None}
    lines = table(settings, runs).splitlines()
    assert lines[7] == "| entry | seeds | processor s | images | AP_h0 |" and lines[9].endswith(
        "| 0.1250 [0.1250, 0.1250] |"
    )
    assert lines[12].endswith("| images | recall_h0 |") and len(lines) == 16
    with pytest.raises(DataError, match=r"cost.json: expected cpu_s and images"):
        (tmp_path / "cost.json").write_text("[]")
        race_run._read_cost(tmp_path / "cost.json")


@pytest.fixture
def photographs(tmp_path):
    """Return a config whose data.test has two images with a face each, and --cfg-options."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(images / f"{name}.png"), np.zeros((100, 100, 3), np.uint8))
    face = "10 20 70 80" + " 0" * 16
    (tmp_path / "label.txt").write_text(f"# a.png 100 100\n{face}\n# b.png 100 100\n{face}\n")
    return [f"data.test.ann_file={tmp_path}/label.txt", f"data.test.img_prefix={images}"]


def test_another_program_is_judged_by_our_evaluator(photographs, tmp_path, repo):
    script = tmp_path / "peer.py"
    script.write_text(
        "import pathlib, sys\nout, seed, budget = sys.argv[1:]\nassert (seed, budget) == ('7', '50')\n"
        "folder = pathlib.Path(out) / 'predictions/small/images'\nfolder.mkdir(parents=True)\n"
        "(folder / 'a.txt').write_text('a\\n1\\n10 20 60 60 0.9\\n')\n"
        "(folder / 'b.txt').write_text('b\\n0\\n')\n"
        "(pathlib.Path(out) / 'cost.json').write_text('{\"cpu_s\": 41.5, \"images\": 640}')\n"
    )
    settings = RaceSettings(
        entries={"peer": {"command": f"{sys.executable} {script} {{out}} {{seed}} {{budget}}", "seeds": [7]}},
        tests={"small": {"options": photographs}},
        config=str(repo / "configs/scrfd/scrfd_500m.py"),
        budget_cpu_s=50.0,
        metrics=("mAP",),
    )
    race = race_run.Race(settings, tmp_path / "out")
    race.run()
    (run,) = race.results()["peer"]
    assert run["figures"]["small"]["AP50"] == pytest.approx(0.5, abs=0.01)  # one of two faces
    assert (run["cpu_s"], run["images"]) == (41.5, 640)
    assert json.loads((tmp_path / "out/peer/seed_7/small/metrics.json").read_text())["AP50"] < 1
    (tmp_path / "out/peer/seed_7/predictions/small/images/b.txt").unlink()
    with pytest.raises(DataError, match="no images/b.txt"):
        evaluate_files(
            settings.config, tmp_path / "out/peer/seed_7/predictions/small", tmp_path, metrics=("mAP",),
            cfg_options=photographs,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entries": {}}, "needs entries"),
        ({"budget_images": 0}, "one of them"),
        ({"budget_cpu_s": 10.0}, "one of them"),
        ({"tests": {"small": ["a=1"]}}, "race.tests.small must be a dict"),
        ({"tests": {"small": {"size": 3}}}, "size"),
        ({"against": "odl"}, "did you mean 'old'"),
        ({"entries": {"a": {}}}, "race.entries.a: needs a config or a command"),
        ({"entries": {"a": {"config": "a.py", "epoch": 3}}}, "epoch"),
        ({"entries": {"../a": {"config": "a.py"}}}, "plain name"),
        ({"entries": {"a": {"command": "python a.py"}}}, "needs race.config"),
    ],
)
def test_wrong_settings_are_named(changes, said):
    with pytest.raises(ConfigError, match=said):
        settings_of(**changes)


def test_the_files_of_the_repository_are_races(repo):
    for path in (repo / "configs/races").glob("*.py"):
        settings = read_settings(str(path), RaceSettings, section="race")
        assert all((repo / entry.config).is_file() for entry in settings.parsed if entry.config)
