"""Searches as a user runs them: a winner is trained and exported, a campaign survives, bad input is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import make_options, train

from mmdet.apis import detect, init_detector
from mmdet.deploy import SCRFD
from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint
from mmdet.images import read_image
from mmdet.launch.jobs import free_port

REPO = Path(__file__).resolve().parents[2]
FAST = ["total_epochs=20", "optimizer.lr=0.02", "log_config.interval=5", "test_cfg.clip_border=False"]
SPACE, DDSAR = "configs/search/scrfd_2.5g.py", "configs/search/ddsar_500m.py"
STUDY = """
search = dict(search="{repo}/configs/search/tiny.py", num_candidates=2, epochs=10, heartbeat_s=1.0, options=[
    "data.train.cache_dir=None", "data.samples_per_gpu=2", "checkpoint_config.interval=1",
    "data.train.pipeline.3.img_scale=(64,64)", "evaluation.start=10"])
"""


def tool(name: str, *args: object, **options) -> subprocess.Popen:
    command = [sys.executable, str(REPO / "tools" / name), *map(str, args)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(command, cwd=REPO, **{**pipes, **options})


def output(process: subprocess.Popen, code: int = 0) -> str:
    text = process.communicate(timeout=600)[0]
    assert process.returncode == code, text
    return text


@pytest.mark.slow
def test_the_winner_of_a_500m_search_trains_exports_and_detects(faces, tmp_path):
    out, run = tmp_path / "ddsar", tmp_path / "run"
    printed = output(tool("ddsar_search.py", DDSAR, "--rounds", 2000, "--out", out))
    assert (out / "best_structure.txt").read_text() in printed

    config = out / "ddsar_500m_seed0.py"
    options = make_options(REPO, faces, run, *FAST, max_iters=50, validate=False)
    assert train(replace(options, config=str(config)))["iters"] == 50
    lines = next(run.glob("*.log.json")).read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if line.get("mode") == "train"]
    assert len(losses) == 10 and np.mean(losses[5:]) < 0.9 * losses[0]

    image = np.zeros((640, 640, 3), np.uint8)  # as large as the input, so that nothing is resized
    drawn = read_image(next((faces / "val" / "images").rglob("*.jpg")))
    image[: len(drawn), : drawn.shape[1]] = drawn
    # Without NMS: the exported detector's counts one more pixel per side.
    every = {"test_cfg.score_thr": 0.15, "test_cfg.nms.iou_threshold": 1.0}
    (found,) = detect(init_detector(run / config.name, run / "latest.pth", "cpu", every), [image])
    export_checkpoint(config, run / "latest.pth", tmp_path / "winner.onnx", ExportOptions())
    with SCRFD(tmp_path / "winner.onnx", score_thr=0.15, iou_thr=1.0, two_scale=False) as detector:
        bboxes, _ = detector.detect(image)
    assert len(bboxes) > 10
    np.testing.assert_allclose(bboxes[:10, :4], found.bboxes[:10], atol=0.01)
    np.testing.assert_allclose(bboxes[:10, 4], found.scores[:10], atol=1e-4)


@pytest.fixture
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server of the test's own and return its URL; skip where there is none."""
    pytest.importorskip("psycopg", reason="no psycopg: pip install psycopg[binary]")
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    initdb = next((Path(path) for path in found if path), None)
    if initdb is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
    data, port = Path("/tmp") / f"pg_{os.getpid()}", free_port()
    data.mkdir()
    if as_user:
        shutil.chown(data, "postgres", "postgres")

    def call(name: str, *args: str) -> None:
        command = [*as_user, str(initdb.parent / name), "-D", str(data), *args]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    try:
        call("initdb", "-U", "me", "--auth=trust")
        call("pg_ctl", "-w", "-l", str(data / "log"), "-o", f"-p {port} -k {data}", "start")
        yield f"postgresql://me:secret{'@'}127.0.0.1:{port}/postgres"
        call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data)


@pytest.mark.slow
def test_a_campaign_on_postgresql_survives_a_killed_worker(faces, tmp_path, postgres):
    pytest.importorskip("optuna", reason="campaigns need optuna: pip install -e .[search]")
    study = tmp_path / "study.py"
    study.write_text(STUDY.format(repo=REPO))
    given = [study, "--out", tmp_path / "out", "--storage", postgres]
    work = ["run", *given, "--device", "cpu", "--data-root", faces]
    first = tool("search.py", *work)
    run = tmp_path / "out/trials/0000/run"
    while not (run / "latest.pth").exists():
        assert first.poll() is None, output(first)
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    output(first, -signal.SIGKILL)
    printed = output(tool("search.py", *work))
    assert "its candidate is given back" in printed
    assert "2 of 2 trainings done; trials: {'fail': 1, 'complete': 2}" in printed
    log = (run.parent / "train.log").read_text()
    for words in ("starting from scratch", "SIGTERM at iter", "resuming from"):
        assert log.count(words) == 1, log
    assert "best: candidate" in output(tool("search.py", "best", *given))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            (
                "ddsar_search.py",
                DDSAR,
                "--out",
                "{tmp}",
                "--cfg-options",
                "search.start=SuperConvK3BNRELU(3,x)",
            ),
            ("position 20", "expected out of SuperConvK3BNRELU"),
        ),
        (
            (
                "ddsar_search.py",
                DDSAR,
                "--out",
                "{tmp}",
                "--rounds",
                "200",
                "--cfg-options",
                "search.budget_mflops=1",
            ),
            ("0 of 200 children meet the budgets", "the nearest has", "MFLOPs"),
        ),
        (
            (
                "generate_configs.py",
                SPACE,
                "--group",
                "{tmp}",
                "--gflops",
                "0.1",
                "--cfg-options",
                "search.max_draws=50000",
            ),
            ("0 of 64 candidates found in 50000 draws (0)", "the nearest total is"),
        ),
        (
            (
                "search.py",
                "status",
                "configs/search/study_tiny.py",
                "--out",
                "{tmp}",
                "--storage",
                f"postgresql://me:secret{'@'}127.0.0.1:1/db",
            ),
            ("storage postgresql://me:***@127.0.0.1:1/db cannot be used",),
        ),
    ],
)
def test_bad_input_ends_with_2_and_says_where(command, words, tmp_path):
    if command[0] == "search.py":
        pytest.importorskip("optuna", reason="campaigns need optuna: pip install -e .[search]")
        pytest.importorskip("psycopg", reason="no psycopg: pip install psycopg[binary]")
    printed = output(tool(*(part.format(tmp=tmp_path / "out") for part in command)), 2)
    assert len(printed.splitlines()) == 1 and all(word in printed for word in words), printed
    assert "secret" not in printed
