"""Files and moments that once broke a promise; each with one more of its kind.

Expected everywhere: one line, an error of ours, nothing written or deleted that is the user's, in seconds.
Their files are in ../shared/cases/attack; what has its own test elsewhere: 02 test_images.py, 05 and 06
test_matfile.py, more of 04 and 10 test/unit/config, 08 test_integrity.py, 11 test_watchdog.py.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from runs import CONFIG, SMALL, assert_same_state, make_options, train

from mmdet.apis import init_detector
from mmdet.checkpoint import files as checkpoint
from mmdet.config import load_config
from mmdet.datasets.labels import read_labels
from mmdet.deploy.export.onnx_weights import load_onnx_weights
from mmdet.deploy.runtime.description import Description
from mmdet.engine.lock import lock_work_dir
from mmdet.engine.resume import load_resumable
from mmdet.engine.watchdog import _state
from mmdet.errors import CheckpointError, ConfigError, DataError
from mmdet.evaluation.run import evaluate_checkpoint
from mmdet.launch.jobs import train_command


@pytest.fixture(scope="module")
def trained(repo, faces, tmp_path_factory):
    """Return the folder of a run of 2 epochs, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(make_options(repo, faces, folder, "total_epochs=2", validate=False))
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """Return a copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["/abs", "../victim.pth", "best_../victim.pth", "best_a/../../victim.pth", ""]
)
def test_01_a_checkpoint_cannot_name_a_file_to_delete(repo, faces, run, name):
    victim = run.parent / "victim.pth"
    victim.write_text("mine")
    content = checkpoint.load(run / "latest.pth")
    file = str(victim) if name == "/abs" else name
    content["hooks"]["evaluation"] = {"metric": "AP_hard", "value": -1.0, "file": file}
    checkpoint.save(run / "latest.pth", content)
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(CheckpointError, match=r"names .* as its best file; only best_\*.pth of work_dir"):
        train(make_options(repo, faces, run, "total_epochs=3", resume_from="auto"))
    assert victim.read_text() == "mine" and sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("names", ["shared", "# a/../../b.jpg 278 327\n10 10 30 30\n"])
def test_03_label_names_do_not_lead_out_of_the_output(repo, faces, shared, trained, tmp_path, names):
    data = shutil.copytree(faces, tmp_path / "data")
    shutil.rmtree(data / "val" / "gt", ignore_errors=True)
    text = (shared / "cases/attack/03_labelv2_traversal.txt").read_text() if names == "shared" else names
    (data / "val" / "labelv2.txt").write_text(text)
    for line in text.splitlines()[::2]:
        image = data / "val" / "images" / line.split()[1]
        if not image.is_absolute() or str(image).startswith(str(tmp_path)):
            image.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), np.zeros((327, 278, 3), np.uint8))
    files = sorted(tmp_path.rglob("*"))
    options = [f"data_root={data}/", *SMALL]
    with pytest.raises(
        DataError, match=r"leads out of the folder .*out; nothing is written|missing, the first: /outside"
    ):
        evaluate_checkpoint(
            repo / CONFIG, trained / "latest.pth", tmp_path / "out", mode=128, workers=0, device="cpu",
            save_preds=True, cfg_options=options,
        )  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    "name", ["04_config_code.yaml", "10_base_none.py", "10_minus_100000.py", "10_system_exit_0.py"]
)
def test_04_and_10_config_files_of_the_campaign(shared, tmp_path, monkeypatch, name):
    """More of their kinds: test_load.py::test_a_hostile_file_is_refused_in_one_line."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"attack/{name}:") as caught:
        load_config(shared / "cases/attack" / name)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"# a.jpg 3000000000 480\n1 1 5 5 0\n", 1),
        (b"\0", 1),
        (b"# a.jpg 64 64\n1 1 5 5 0\n# b.jpg 99999999999999999999 1\n", 3),
        (b"# a.jpg 64 64\n\0\n1 1 5 5 0\n", 2),
        (b"\x01\x02\n\x03", 1),
    ],
)
def test_07_numbers_and_bytes_that_a_label_file_cannot_have(tmp_path, text, line):
    (tmp_path / "l.txt").write_bytes(text)
    with pytest.raises(DataError, match=rf"l.txt:{line}: "):
        read_labels(tmp_path / "l.txt", train=True)


def test_08_one_wrong_bit_is_named_and_auto_takes_an_older_file(repo, faces, run, capsys):
    data = bytearray((run / "epoch_2.pth").read_bytes())
    data[len(data) // 3] ^= 4
    for name in ("epoch_2.pth", "latest.pth"):
        (run / name).write_bytes(data)
    with pytest.raises(CheckpointError, match="latest.pth is damaged"):
        load_resumable(str(run / "latest.pth"), run)
    figures = train(make_options(repo, faces, run, "total_epochs=2", resume_from="auto", validate=False))
    printed = capsys.readouterr().out
    assert "passing over" in printed and "epoch_1.pth, iter" in printed and figures["epochs"] == 2


@pytest.mark.parametrize("is_own_file", [True, False])
def test_09_the_config_file_in_work_dir_is_not_written_over(repo, faces, tmp_path, is_own_file):
    work_dir = tmp_path / "exp"
    work_dir.mkdir()
    text = f"_base_ = ['{repo / CONFIG}']\n"
    (work_dir / "cfg.py").write_text(text)
    config = work_dir / "cfg.py" if is_own_file else tmp_path / "cfg.py"
    config.write_text(text)
    options = make_options(repo, faces, work_dir, max_iters=1, validate=False)
    for _ in range(2):
        train(type(options)(**{**vars(options), "config": str(config)}))
        assert (work_dir / "cfg.py").read_text() == text == config.read_text()
        assert "model = dict(" in (work_dir / "cfg.resolved.py").read_text()
    assert len(list(work_dir.glob("*.py"))) == 2


def onnx_graph(tmp_path, nodes):
    graph = onnx.helper.make_graph(nodes, "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


@pytest.fixture(scope="module")
def model(repo):
    return init_detector(repo / CONFIG, device="cpu")


def test_12_onnx_graphs_that_go_round_or_lack_what_they_need(shared, tmp_path, model):
    make = onnx.helper.make_node
    circle = [make("Identity", [f"x{i}"], [f"x{(i + 1) % 30_000}"]) for i in range(30_000)]
    bare = [make("Constant", [], []), make("Identity", [], ["y"]), make("Conv", [], ["z"])]
    files = [*(shared / "cases/attack").glob("12_*.onnx"), *(onnx_graph(tmp_path, n) for n in (circle,))]
    assert len(files) == 3
    for file in files:
        with pytest.raises(CheckpointError, match=r"convolutions|graph is damaged"):
            load_onnx_weights(model, file)
    for node in bare:
        with pytest.raises(CheckpointError, match=r"a.onnx.*(convolutions|graph is damaged)"):
            load_onnx_weights(model, onnx_graph(tmp_path, [node]))


GOOD = Description(strides=(8, 16), num_anchors=2, num_kps=5)
CHANGES = {
    "strides": [[0], [8.5], "8", [], [8, "16"], [10**9]], "num_anchors": [0, 10**9, None, 2.0],
    "num_kps": [-1, "5", 10**9], "classes": [[], [1], "face"], "mean": [[10**400, 1, 1], [1, 2], [1, 2, "3"]],
    "std": [[0, 1, 1], [1, 1]], "channels": ["GRB", 3], "nms": [1e308, {}, {"iou_threshold": 2}, [1]],
    "anchors": [[[1]], 5, [[[16, 16]]]], "coder": ["DistanceCoder", {}, {"type": []}, {"type": "PriorCoder"}],
    "precision": [1e308], "config": [3],
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_13_values_of_a_description(name):
    for value in CHANGES[name]:
        content = {**json.loads(GOOD.to_json()), name: value}
        with pytest.raises(ValueError, match=f"{name}|coder|anchors"):
            Description.from_json(json.dumps(content))


def test_13_descriptions_of_the_campaign_and_nesting(shared):
    for file in (shared / "cases/attack").glob("13_*.json"):
        if "num_kps_0" not in file.name:  # that one is right, its network is not
            with pytest.raises(ValueError, match="strides|nms"):
                Description.from_json(file.read_text())
    for text in ("[" * 100_000, "{" * 10, '{"format": 1, "strides": ' + "9" * 5000 + "}"):
        with pytest.raises(ValueError):
            Description.from_json(text)


def test_13_outputs_that_do_not_fit_the_description(shared):
    from mmdet.deploy import SCRFD as Detector

    detector = Detector(shared / "cases/attack/13_onnx_wrong_sides.onnx", provider="cpu")
    with pytest.raises((CheckpointError, ConfigError), match="wrong_sides.onnx"):
        detector.detect(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("is_old", [False, True], ids=["now", "made at 8fecd90"])
def test_15_another_optimizer_is_refused_before_anything_is_written(repo, faces, run, is_old):
    if is_old:
        content = checkpoint.load(run / "latest.pth")
        del content["identity"]
        torch.save(content, run / "latest.pth")
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    adam = ["optimizer._delete_=True", "optimizer.type=AdamW", "optimizer.lr=0.001"]
    with pytest.raises(CheckpointError, match=r"optimizer is another than this run's AdamW.*--load-from"):
        train(make_options(repo, faces, run, *adam, "total_epochs=3", resume_from="auto"))
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_15_the_other_way_round(repo, faces, tmp_path):
    adam = ["optimizer._delete_=True", "optimizer.type=AdamW", "optimizer.lr=0.001"]
    train(make_options(repo, faces, tmp_path / "run", *adam, "total_epochs=1", max_iters=1, validate=False))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    with pytest.raises(CheckpointError, match=r"optimizer is another than this run's SGD.*--load-from"):
        train(make_options(repo, faces, tmp_path / "run", "total_epochs=2", resume_from="auto"))
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def test_what_has_changed_is_told_and_an_old_checkpoint_resumes(repo, faces, run, tmp_path, capsys):
    content = checkpoint.load(run / "latest.pth")
    del content["identity"], content["hooks"]["log"]
    torch.save(content, tmp_path / "old.pth")
    old = make_options(repo, faces, tmp_path / "a", "total_epochs=3", resume_from=str(tmp_path / "old.pth"))
    train(type(old)(**{**vars(old), "validate": False}))
    assert "changed since" not in capsys.readouterr().out
    data = shutil.copytree(faces, tmp_path / "data")
    text = (data / "train" / "labelv2.txt").read_text()
    (data / "train" / "labelv2.txt").write_text(text + "3 3 30 30 0\n")
    new = make_options(
        repo, data, run, "total_epochs=3", "optimizer.lr=0.003", resume_from="auto", validate=False
    )
    train(new)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "changed since" in line]
    assert "optimizer.lr" in line and "-> 0.003" in line and "the labels of data.train (" in line
    same = make_options(repo, faces, tmp_path / "a", "total_epochs=3", resume_from="auto", validate=False)
    train(same)
    assert "changed since" not in capsys.readouterr().out
    assert_same_state(tmp_path / "a/latest.pth", tmp_path / "a/epoch_3.pth")


def test_figures_and_files_survive_resuming_at_the_end(repo, faces, tmp_path):
    options = make_options(
        repo, faces, tmp_path, "total_epochs=2", "checkpoint_config.max_keep_ckpts=1", resume_from="auto"
    )
    figures = train(options)
    shutil.copy(tmp_path / "latest.pth", tmp_path / "epoch_1.pth")  # as if killed before it was removed
    again = train(options)
    assert {key for key, value in figures.items() if value is not None and again[key] is None} == set()
    assert json.loads((tmp_path / "metrics.json").read_text()) == again
    assert again["loss"] == figures["loss"] and again["fps"] == figures["fps"]
    assert sorted(path.name for path in tmp_path.glob("epoch_*")) == ["epoch_2.pth"]
    (tmp_path / "metrics.json").unlink()  # killed after the last checkpoint
    assert train(options)["loss"] == figures["loss"]


def test_the_loss_of_a_resumed_run_is_that_of_an_uninterrupted_one(repo, faces, tmp_path):
    settings = ["total_epochs=1", "log_config.interval=4"]
    whole = train(make_options(repo, faces, tmp_path / "whole", *settings, validate=False))
    torn = make_options(
        repo, faces, tmp_path / "torn", *settings, validate=False, resume_from="auto", max_iters=3
    )
    train(torn)
    assert train(type(torn)(**{**vars(torn), "max_iters": None}))["loss"] == whole["loss"]


def test_a_second_training_in_the_same_work_dir_is_refused(tmp_path):
    code = f"""
from pathlib import Path
from mmdet.engine.lock import lock_work_dir
lock_work_dir(Path({str(tmp_path)!r}))
"""
    lock = lock_work_dir(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "trains there; choose another --work-dir" in done.stderr.splitlines()[-1]
    lock.close()
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def start_training(repo, faces, work_dir, *options, ranks=1, seconds=60):
    """Start tools/train.py in a process group of its own; return it when an iteration was logged."""
    command = train_command(
        repo / CONFIG, work_dir, num_ranks=ranks, device="cpu",
        train_args=["--no-validate", "--hang-timeout", str(seconds)],
        options=[f"data_root={faces}/", *SMALL, "total_epochs=10000", "log_config.interval=1",
                 "checkpoint_config.interval=10000", *options],
    )  # fmt: skip
    process = subprocess.Popen(
        command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    lines = []
    while "Epoch [2]" not in (line := process.stdout.readline()):
        assert line, "".join(lines)
        lines.append(line)
    return process


def children(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in tasks.read_text().split()]


@pytest.fixture
def training(repo, faces, tmp_path):
    """Return a function that starts a training, which ends with the test."""
    started = []

    def start(*options, **kwargs):
        started.append(start_training(repo, faces, tmp_path / "run", *options, **kwargs))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_14_a_killed_worker_is_one_line(training, number):
    process = training("data.workers_per_gpu=2")
    os.kill(children(process.pid)[-1], number)
    out, _ = process.communicate(timeout=60)
    last = out.splitlines()[-1]
    assert process.returncode == 3 and "Traceback" not in out
    assert last.startswith("TrainError: DataLoader worker (pid") and "free: " in last


@linux
def test_11_a_stopped_worker_is_named_and_a_signal_is_obeyed(training, tmp_path):
    process = training("data.workers_per_gpu=1", seconds=3)
    (worker,) = children(process.pid)[-1:]
    os.kill(worker, signal.SIGSTOP)
    out, _ = process.communicate(timeout=60)
    (line,) = [line for line in out.splitlines() if line.startswith("TrainError")]
    assert process.returncode == 3 and "rank 0 in next(loader) at iter" in line and f"[{worker}]" in line
    assert "Last checkpoint: latest.pth" in line
    iter_ = int(line.partition("Last checkpoint: latest.pth (iter ")[2].partition(")")[0])
    assert checkpoint.load(tmp_path / "run/latest.pth")["position"]["iter"] == iter_
    assert not Path(f"/proc/{worker}").exists() or _state(worker) == "Z"


@linux
def test_a_storage_that_never_answers_is_named(training, faces, tmp_path):
    """An image becomes a pipe that nobody writes into: whoever reads it waits for ever."""
    data = tmp_path / "data"
    shutil.copytree(faces, data)
    process = training(f"data_root={data}/", "data.workers_per_gpu=1", seconds=3)
    for image in (data / "train/images").rglob("*.jpg"):
        image.unlink()
        os.mkfifo(image)
    out, _ = process.communicate(timeout=60)
    (line,) = [line for line in out.splitlines() if line.startswith("TrainError")]
    assert process.returncode == 3 and "no progress for" in line and "rank 0 in next(loader) at iter" in line


@linux
@pytest.mark.slow
def test_11_a_stopped_rank_ends_the_others_and_is_named(training):
    process = training(ranks=2, seconds=4)
    ranks = children(process.pid)
    os.kill(ranks[-1], signal.SIGSTOP)
    began = time.monotonic()
    out, _ = process.communicate(timeout=90)
    (line,) = [line for line in out.splitlines() if line.startswith("TrainError")]
    assert (
        process.returncode and "has not answered for 2 s: stopped?" in line and time.monotonic() - began < 60
    )
    assert any(f"(process {rank})" in line for rank in ranks)


@linux
@pytest.mark.slow
def test_no_rank_outlives_torchrun(training):
    process = training(ranks=2)
    ranks = children(process.pid)
    process.kill()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{rank}").exists() for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert time.monotonic() < deadline
