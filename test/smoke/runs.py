"""Tiny training runs: a few drawn images, 128 px, one process, seconds."""

from pathlib import Path

import torch

from mmdet.checkpoint import files as checkpoint
from mmdet.distributed import DistInfo
from mmdet.engine.options import TrainOptions
from mmdet.engine.run import run_training

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
QUIET = ["visualize.plots=False", "visualize.batches=0", "visualize.detections=0"]
SMALL = [
    *QUIET,
    "data.samples_per_gpu=2",
    "data.workers_per_gpu=0",
    "data.train.pipeline.3.img_scale=(128,128)",
    "data.val.pipeline.1.img_scale=(128,128)",
    "data.val.pipeline.1.transforms.3.size=(128,128)",
    "lr_config.warmup=None",
    "log_config.interval=2",
    "checkpoint_config.interval=1",
    "evaluation.interval=1",
]
# Weight decay multiplies the weights by about -1e6 at each step: they soon overflow.
EXPLODES = ["optimizer.lr=1000", "optimizer.weight_decay=1000"]


def make_options(repo: Path, data: Path, work_dir: Path, *options: str, **others) -> TrainOptions:
    """Return the options of a small run on the CPU; `options` are further --cfg-options."""
    return TrainOptions(
        config=str(repo / CONFIG),
        work_dir=str(work_dir),
        device="cpu",
        cfg_options=[f"data_root={data}", *SMALL, *options],
        **others,
    )


def train(options: TrainOptions) -> dict:
    """Train in this process; return the figures."""
    return run_training(options, DistInfo())


def assert_same_state(one: Path, two: Path) -> None:
    """Compare two checkpoints bit by bit: weights, optimizer, precision, averages, random state."""
    first, second = checkpoint.load(one), checkpoint.load(two)
    for key in ("state_dict", "optimizer", "precision", "ema", "rng", "position"):
        assert_same(first[key], second[key], key)


def assert_same(one, two, path: str) -> None:
    assert type(one) is type(two), path
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), path
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), path
        for key in one:
            assert_same(one[key], two[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), path
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{path}[{index}]")
    else:
        assert one == two, path
