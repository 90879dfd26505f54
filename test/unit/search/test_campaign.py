"""Campaigns: claiming, giving back, resuming, samplers, pruning, storages; trainings are a script."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="campaigns need optuna: pip install -e .[search]")

from mmdet.config import load_config  # noqa: E402
from mmdet.errors import ConfigError  # noqa: E402
from mmdet.search import campaign as module  # noqa: E402
from mmdet.search.campaign import Campaign, read_evaluations  # noqa: E402
from mmdet.search.candidates import Draws, Files  # noqa: E402
from mmdet.search.commands import parse_cards  # noqa: E402
from mmdet.search.rank import certainty, read_candidates, table  # noqa: E402
from mmdet.search.sample import SampleSettings  # noqa: E402
from mmdet.search.settings import read_settings  # noqa: E402
from mmdet.search.study import ALIVE, SLOT, StudySettings, identity_of, open_study, without_password  # noqa: E402

# A training of `epochs` steps: it keeps its state in latest.pth, logs an AP per epoch and saves on SIGTERM.
TRAIN = """
import json, os, signal, sys, time
run, epochs, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
os.makedirs(run, exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
path = run + "/latest.pth"
done = int(open(path).read()) if os.path.exists(path) else 0
open(run + "/starts", "a").write(f"{done}\\n")
level = int(os.path.basename(os.path.dirname(run))) / 100
for epoch in range(done, epochs):
    time.sleep(seconds)
    open(path, "w").write(str(epoch + 1))
    aps = {f"AP_{name}": level + epoch / 1000 for name in ("easy", "medium", "hard")}
    open(run + "/a.log.json", "a").write(json.dumps({"mode": "val", "epoch": epoch + 1, **aps}) + "\\n")
"""
EVALUATE = """
import json, os, sys
checkpoint, out = sys.argv[1:]
os.makedirs(out, exist_ok=True)
ap = int(checkpoint.split("/")[-3]) / 100 + int(open(checkpoint).read()) / 1000
json.dump({f"AP_{name}": ap for name in ("easy", "medium", "hard")}, open(out + "/metrics.json", "w"))
"""
EPOCHS = 3
LOCAL = "127.0.0.1"


@pytest.fixture
def fake(monkeypatch):
    """Let trainings be TRAIN; fake.seconds is how long an epoch takes."""

    class Fake:
        seconds = 0.02

    def train(config, run, **_):
        return [sys.executable, "-c", TRAIN, str(run), str(EPOCHS), str(Fake.seconds)]

    def evaluate(config, checkpoint, out, **_):
        return [sys.executable, "-c", EVALUATE, str(checkpoint), str(out)]

    monkeypatch.setattr(module, "train_command", train)
    monkeypatch.setattr(module, "eval_command", evaluate)
    monkeypatch.setattr(module, "POLL_S", 0.02)
    return Fake


@pytest.fixture(scope="module")
def space(repo) -> SampleSettings:
    return read_settings(str(repo / "configs/search/tiny.py"), SampleSettings)


def settings_of(repo: Path, **changes) -> StudySettings:
    search = str(repo / "configs/search/tiny.py")
    return StudySettings(
        **{**dict(search=search, num_candidates=4, epochs=EPOCHS, heartbeat_s=0.5), **changes}
    )


def make(repo: Path, out: Path, space: SampleSettings, url: str = "", **changes) -> Campaign:
    settings = settings_of(repo, **changes)
    source = Draws(space, settings.mode, space.base, settings.seed)
    identity = identity_of(settings, source)
    study = open_study("test", url or f"sqlite:///{out / 'study.db'}", settings, identity)
    return Campaign(study, settings, source, out, "cpu")


def states(campaign: Campaign) -> dict[int, str]:
    return {t.user_attrs[SLOT]: t.state.name for t in campaign.study.get_trials() if SLOT in t.user_attrs}


@pytest.mark.slow
def test_all_candidates_are_trained_once_by_several_workers(repo, tmp_path, space, fake):
    campaign = make(repo, tmp_path, space, num_candidates=6)
    workers = [threading.Thread(target=campaign.run, args=(card,)) for card in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = campaign.study.get_trials()
    assert sorted(t.user_attrs[SLOT] for t in trials if t.state.name == "COMPLETE") == list(range(6))
    starts = [(tmp_path / f"trials/{slot:04d}/run/starts").read_text() for slot in range(6)]
    assert starts == ["0\n"] * 6
    candidates = read_candidates(campaign.study, "AP_hard")
    assert [one.index for one in candidates] == [5, 4, 3, 2, 1, 0]
    assert candidates[0].mean("AP_hard") == pytest.approx(0.053)
    assert "| 5 |" in table(candidates).splitlines()[2]


def test_candidates_depend_on_the_seed_alone(repo, tmp_path, space):
    draws = [Draws(space, 1, space.base, seed) for seed in (0, 0, 1)]
    texts = [[one.text(index, tmp_path) for index in (3, 0, 7)] for one in draws]
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0])) == 3


@pytest.mark.slow
def test_a_dead_trial_is_given_back_and_resumes(repo, tmp_path, space, fake):
    campaign = make(repo, tmp_path, space, num_candidates=2)
    dead = campaign.study.ask()
    dead.set_user_attr(SLOT, 0)
    dead.set_user_attr(ALIVE, time.time() - 100)
    storage = campaign.study._storage
    assert storage.get_trial(dead._trial_id).state.name == "RUNNING"
    time.sleep(2.1)  # its start lies 4 heartbeats back
    run = tmp_path / "trials" / "0000" / "run"
    run.mkdir(parents=True)
    (run / "latest.pth").write_text("2")  # what it had reached
    campaign.run()
    assert (run / "starts").read_text() == "2\n"
    assert states(campaign) == {0: "COMPLETE", 1: "COMPLETE"}
    assert campaign.study.get_trials()[0].state.name == "FAIL"


def test_stopping_saves_and_the_next_run_continues(repo, tmp_path, space, fake):
    fake.seconds = 0.3
    campaign = make(repo, tmp_path, space, num_candidates=1)
    worker = threading.Thread(target=campaign.run)
    worker.start()
    run = tmp_path / "trials" / "0000" / "run"
    while not (run / "latest.pth").exists():
        time.sleep(0.02)
    campaign.stop.set()
    worker.join()
    assert states(campaign) == {0: "FAIL"}
    again = make(repo, tmp_path, space, num_candidates=1)
    again.run()
    starts = (run / "starts").read_text().split()
    assert starts[0] == "0" and int(starts[1]) >= 1
    assert states(again) == {0: "COMPLETE"}


def test_a_training_that_fails_twice_is_left_out_until_the_next_run(repo, tmp_path, space, fake, monkeypatch):
    bad = lambda *_, **__: [sys.executable, "-c", "raise SystemExit(3)"]  # noqa: E731
    monkeypatch.setattr(module, "train_command", bad)
    campaign = make(repo, tmp_path, space, num_candidates=1)
    campaign.run()
    trials = campaign.study.get_trials()
    assert [t.state.name for t in trials] == ["FAIL", "FAIL"]
    assert "exit code 3; see" in trials[0].user_attrs["error"]


def test_seeds_share_a_candidate(repo, tmp_path, space, fake):
    campaign = make(repo, tmp_path, space, num_candidates=2, num_seeds=2)
    campaign.run()
    notes = {t.user_attrs[SLOT]: t.user_attrs for t in campaign.study.get_trials()}
    configs = [load_config(notes[slot]["config"]).model for slot in range(4)]
    assert configs[0] == configs[2] and configs[1] == configs[3] and configs[0] != configs[1]
    assert [notes[slot]["seed"] for slot in range(4)] == [0, 0, 1, 1]
    assert len({notes[slot]["run"] for slot in range(4)}) == 4
    candidates = read_candidates(campaign.study, "AP_hard")
    assert [len(one.aps) for one in candidates] == [2, 2]
    shares = certainty(candidates)
    assert shares is not None and sum(shares) == pytest.approx(1)


def test_one_value_per_candidate_gives_no_certainty(repo, tmp_path, space, fake):
    campaign = make(repo, tmp_path, space, num_candidates=2)
    campaign.run()
    candidates = read_candidates(campaign.study, "AP_hard")
    for one in candidates:
        one.late = one.late[-1:]
    assert certainty(candidates) is None and table(candidates).splitlines()[2].endswith("| ? |")


@pytest.mark.slow
def test_median_pruning_ends_what_falls_behind(repo, tmp_path, space, fake):
    fake.seconds = 0.15
    campaign = make(repo, tmp_path, space, num_candidates=6, pruner="median", eval_interval=1)
    # candidate n has AP n / 100; training the good ones first leaves the bad ones behind the median
    campaign._free_slot = lambda me=None: next(
        (slot for slot in reversed(range(6)) if states(campaign).get(slot) not in ("COMPLETE", "PRUNED")),
        None,
    )
    campaign.run()
    assert set(states(campaign).values()) == {"COMPLETE", "PRUNED"}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
@pytest.mark.parametrize("mode", [1, 2])
def test_adaptive_samplers_keep_the_budget(sampler, mode, repo, tmp_path, space, fake):
    campaign = make(repo, tmp_path, space, sampler=sampler, mode=mode, num_candidates=2)
    campaign.run()
    done = [t for t in campaign.study.get_trials() if t.state.name == "COMPLETE"]
    assert len(done) == 2 and all(t.params for t in done)
    assert len(done[0].values) == (2 if sampler == "nsgaii" else 1)
    for one in read_candidates(campaign.study, "AP_hard"):
        assert abs(one.gflops - space.gflops) <= space.eps * space.gflops


@pytest.mark.slow
def test_constraints_pass_over_candidates(repo, tmp_path, space, fake, monkeypatch):
    monkeypatch.setattr(module, "MAX_ASKS", 40)
    campaign = make(repo, tmp_path, space, max_gflops=0.09, max_params=40_000, max_latency_ms=1e4)
    campaign.run()
    for one in read_candidates(campaign.study, "AP_hard"):
        assert one.gflops <= 0.09
    with pytest.raises(ConfigError, match="constraints"):
        make(repo, tmp_path / "b", space, max_gflops=0.001).run()


def test_ready_files_are_candidates(repo, tmp_path, space, fake):
    for number in (2, 10):
        (tmp_path / f"g_{number}.py").write_text(f'_base_ = ["{space.base}"]\n')
    files = Files.find((str(tmp_path / "g_*.py"),))
    assert [path.name for path in files.paths] == ["g_2.py", "g_10.py"]
    settings = settings_of(repo, search="", configs=(str(tmp_path / "g_*.py"),), num_candidates=2)
    study = open_study("f", f"sqlite:///{tmp_path / 'f.db'}", settings, identity_of(settings, files))
    Campaign(study, settings, files, tmp_path, "cpu").run()
    assert len(read_candidates(study, "AP_hard")) == 2
    with pytest.raises(ConfigError, match="names 0 files; 1 are needed"):
        Files.find((str(tmp_path / "x*.py"),))


def test_a_study_of_another_search_is_refused_by_name(repo, tmp_path, space):
    make(repo, tmp_path, space)
    with pytest.raises(ConfigError, match="is of mode = 1, not 2"):
        make(repo, tmp_path, space, mode=2)
    with pytest.raises(ConfigError, match=r"study 'test' in .*study.db is of space = .*'gflops': 0.075.*not"):
        make(repo, tmp_path, replace(space, gflops=1.0))
    other = tmp_path / "other.py"
    other.write_text(f'_base_ = ["{space.base}"]\n')
    with pytest.raises(ConfigError, match="is of template = 'scrfd_tiny_toy.py', not 'other.py'"):
        make(repo, tmp_path, replace(space, base=str(other)))


def test_a_storage_that_cannot_be_reached_hides_the_password(repo, space, tmp_path):
    pytest.importorskip("psycopg")
    url = f"postgresql://me:secret@{LOCAL}:1/db"
    with pytest.raises(ConfigError, match=r"storage postgresql://me:\*\*\*@127.* cannot be used") as caught:
        make(repo, tmp_path, space, url=url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert without_password("a://u:p@h and b://x") == "a://u:***@h and b://x"


def test_bad_settings_are_refused(repo):
    for changes, words in [
        (dict(sampler="tp"), "did you mean 'tpe'"),
        (dict(pruner="median"), "needs search.eval_interval"),
        (dict(configs=("a",)), "one of them"),
        (dict(num_candidates=0), ">= 1"),
        (dict(search_val=1.0), "search_val < 1"),
    ]:
        with pytest.raises(ConfigError, match=words):
            settings_of(repo, **changes)
    assert parse_cards("0-2,5") == [0, 1, 2, 5]
    for text in ("", "a", "1,1", "3-1"):
        with pytest.raises(ConfigError, match="--devices"):
            parse_cards(text)


def test_the_journal_file_is_shared(repo, tmp_path, space, fake):
    url = f"journal:{tmp_path / 'study.journal'}"
    make(repo, tmp_path, space, url=url, num_candidates=2).run()
    assert len(read_candidates(make(repo, tmp_path, space, url=url, num_candidates=2).study, "AP_hard")) == 2


def test_evaluations_of_interrupted_parts_are_joined(tmp_path):
    for name, epochs in (("1.log.json", (1, 2)), ("2.log.json", (2, 3))):
        lines = [
            json.dumps({"epoch": e, "AP_easy": 0.1, "AP_medium": None, "AP_hard": e / 10}) for e in epochs
        ]
        (tmp_path / name).write_text('{"mode": "train"}\n' + "\n".join(lines) + "\n")
    found = read_evaluations(tmp_path)
    assert [(epoch, aps["AP_hard"]) for epoch, aps in found] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert found[0][1]["AP_medium"] == 0.0


WORKER = """
import sys
sys.path[:0] = [{here!r}]
import test_campaign as t
from mmdet.search import campaign as module
module.train_command = lambda c, run, **_: [sys.executable, "-c", t.TRAIN, str(run), str(t.EPOCHS), "0.4"]
module.eval_command = lambda c, ckpt, out, **_: [sys.executable, "-c", t.EVALUATE, str(ckpt), str(out)]
from pathlib import Path
repo = Path({repo!r})
space = t.read_settings(str(repo / "configs/search/tiny.py"), t.SampleSettings)
t.make(repo, Path({out!r}), space, url={url!r}, num_candidates=3).run()
"""


def start_worker(repo: Path, out: Path, url: str) -> subprocess.Popen:
    code = WORKER.format(here=str(Path(__file__).parent), repo=str(repo), out=str(out), url=url)
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(repo)})


def kill_one_of_two(repo: Path, out: Path, space: SampleSettings, url: str) -> None:
    """Kill -9 a worker that trains while another one starts; the study must end complete."""
    watcher = make(repo, out, space, url=url, num_candidates=3)
    first = start_worker(repo, out, url)
    deadline = time.time() + 120
    while not any(out.glob("trials/*/run/latest.pth")) and time.time() < deadline:
        time.sleep(0.05)
    second = start_worker(repo, out, url)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(120) == 0
    trials = watcher.study.get_trials()
    assert sorted(t.user_attrs[SLOT] for t in trials if t.state.name == "COMPLETE") == [0, 1, 2]
    assert [t.state.name for t in trials].count("FAIL") == 1  # the killed worker's
    starts = [path.read_text().split() for path in out.glob("trials/*/run/starts")]
    assert sorted(map(len, starts)) == [1, 1, 2]  # one training was started twice, and continued


@pytest.mark.slow
def test_killing_a_worker_gives_its_trial_back(repo, tmp_path, space):
    kill_one_of_two(repo, tmp_path, space, f"sqlite:///{tmp_path / 'study.db'}")
