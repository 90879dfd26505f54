"""A real CUDA card against the CPU: losses, whole runs at every precision, resuming, NCCL, detection."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import assert_same_state, make_options, train

from mmdet.apis import detect, init_detector
from mmdet.config import load_config
from mmdet.core.assigners import assign_ahead
from mmdet.device import pick_device
from mmdet.engine.step import build_step
from mmdet.models.build import build_detector
from mmdet.testing.audit_step import draw_batch

pytestmark = pytest.mark.cuda
CONFIGS = (
    "scrfd/scrfd_500m_bnkps",
    "scrfd/scrfd_2.5g",
    "recipes/scrfd_500m_bnkps_aligned",
    "recipes/scrfd_500m_bnkps_stride4",
    "damofd/DamoFD_0.5g",
    "retinaface/mobilenet0.25",
)
LEVELS = {
    "O0": [],
    "O1 fp16": ["amp.level=O1", "amp.loss_scale=dynamic"],
    "O1 bf16": ["amp.level=O1", "amp.dtype=bfloat16"],
    "O2 fp16": ["amp.level=O2", "amp.loss_scale=128.0"],
    "O2 fp16 dynamic": ["amp.level=O2", "amp.loss_scale=dynamic"],
    "O2 bf16": ["amp.level=O2", "amp.dtype=bfloat16"],
}
LEARNS = [  # the loss falls in ten epochs of these
    "data.train.pipeline.2.crop_choice=[1.0]",
    "data.train.pipeline.4.flip_ratio=0.0",
    "data.samples_per_gpu=4",
    "total_epochs=10",
    "log_config.interval=100",
    "evaluation.interval=10",
    "checkpoint_config.interval=10",
    "optimizer._delete_=True",
    "optimizer.type=AdamW",
    "optimizer.lr=0.003",
]
SPEEDS = {
    "plain": ["speed.channels_last=False"],
    "channels_last": ["speed.channels_last=True"],
    "fused": ["speed.fused_optimizer=True"],
    "graph": ["speed.graph=True"],
    "compile": ["speed.compile=True"],
    "colours on the card": ["data.device_augment=True"],
}


def losses_on(device, cfg, ahead=True):
    """Return the losses of drawn batches; `ahead`: targets made by the loader, as always.

    The rate is next to 0: from a drawn start rounding alone moves the losses of the next steps by per cent,
    also from one memory order of the CPU to the other.
    """
    torch.manual_seed(0)
    cfg = replace(cfg, optimizer={**cfg.optimizer, "lr": 1e-9})
    step = build_step(build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg), cfg, device)
    assign = assign_ahead(step.criterion) if ahead else None
    rows = []
    for iter in range(4):
        batch = draw_batch(2, 256, 5, 8, seed=iter)
        batch = batch if assign is None else replace(batch, assigned=assign(batch))
        rows.append({k: v.item() for k, v in step.update(iter, batch.to(device)).items()})
    return rows


@pytest.mark.parametrize("ahead", [True, False], ids=["assigned by the loader", "assigned on the card"])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_are_those_of_the_cpu(repo, name, ahead):
    cfg = load_config(repo / f"configs/{name}.py")
    expected = losses_on(torch.device("cpu"), cfg)
    found = losses_on(pick_device("cuda"), cfg, ahead=ahead)
    for iter, (one, two) in enumerate(zip(expected, found, strict=True)):
        for key in one:  # convolutions of fp32 drop 13 bits of the mantissa (TF32), torch's default
            assert two[key] == pytest.approx(one[key], rel=2e-3), (iter, key)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_run_trains_and_judges(repo, faces, tmp_path, level, speed):
    if speed == "graph" and "dynamic" in str(LEVELS[level]):
        pytest.skip("a graph cannot follow a dynamic scale; check_speed says so")
    if speed == "compile" and level not in ("O0", "O2 fp16"):
        pytest.skip("compiling takes long; two levels suffice")
    options = make_options(repo, faces, tmp_path, *LEVELS[level], *SPEEDS[speed], *LEARNS)
    figures = train(replace(options, device="cuda"))
    (log,) = tmp_path.glob("*.log.json")
    losses = [row["loss"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert len(losses) == 10 and sum(losses[-3:]) / 3 < 0.8 * losses[0], losses
    assert figures["device"] == "cuda" and figures["AP_hard"] is not None


@pytest.mark.parametrize("ema", [[], ["ema.warm_up=10"]], ids=["", "EMA"])
@pytest.mark.parametrize("speed", ["plain", "graph"])
@pytest.mark.parametrize("level", ["O0", "O2 fp16", "O2 fp16 dynamic", "O2 bf16"])
def test_resuming_is_exact(repo, faces, tmp_path, level, speed, ema):
    if speed == "graph" and "dynamic" in level:
        pytest.skip("a graph cannot follow a dynamic scale")
    settings = [*LEVELS[level], *SPEEDS[speed], *ema]
    whole = make_options(repo, faces, tmp_path / "whole", *settings, "total_epochs=4", validate=False)
    whole = replace(whole, device="cuda", deterministic=True)
    train(whole)
    torn = replace(whole, work_dir=str(tmp_path / "torn"), resume_from="auto")
    train(replace(torn, max_iters=7))
    train(torn)
    assert_same_state(tmp_path / "whole/latest.pth", tmp_path / "torn/latest.pth")


def test_a_checkpoint_moves_between_card_and_cpu(repo, faces, tmp_path):
    options = make_options(repo, faces, tmp_path, "total_epochs=2", validate=False)
    train(replace(options, device="cuda", max_iters=5))
    train(replace(options, resume_from="auto"))
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 2
    config = repo / "configs/scrfd/scrfd_500m_bnkps.py"
    image = np.random.RandomState(0).randint(0, 255, (200, 300, 3), dtype=np.uint8)
    options = {"test_cfg.score_thr": 0.0, "test_cfg.max_per_img": 50}
    one, two = (
        detect(init_detector(config, tmp_path / "latest.pth", device, options), [image])[0]
        for device in ("cpu", "cuda")
    )
    assert len(one.bboxes) == 50
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-3)


@pytest.mark.parametrize("level", ["O0", "O2 fp16"])
def test_one_rank_of_nccl(repo, faces, tmp_path, level):
    settings = make_options(repo, faces, tmp_path, *LEVELS[level], "total_epochs=2").cfg_options
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "--standalone"]
    command += [str(repo / "tools/train.py"), str(repo / "configs/scrfd/scrfd_500m_bnkps.py")]
    command += ["--launcher", "pytorch", "--device", "cuda", "--work-dir", str(tmp_path)]
    environ = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(repo)}
    command += ["--cfg-options", *settings]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 2
