"""Which training faces no anchor would learn, by size at the network's scale; pixels are not read."""

import argparse
from typing import Any
from unittest import mock

import numpy as np

from mmdet.cli import add_config, add_shared
from mmdet.config import load_config
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.datasets import faces
from mmdet.datasets.build import build_dataset
from mmdet.datasets.collate import Collate
from mmdet.datasets.faces import blank_sample
from mmdet.datasets.transforms import Compose
from mmdet.datasets.transforms.color import Normalize, PhotoMetricDistortion
from mmdet.datasets.transforms.formatting import LoadImageFromFile
from mmdet.errors import ConfigError
from mmdet.models.build import build_criterion

EDGES = (0, 4, 6, 8, 10, 12, 16, 24, 32, 64, 128, np.inf)  # sqrt(width * height), pixels
COLOURS = (Normalize, PhotoMetricDistortion, LoadImageFromFile)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py unassigned`."""
    add_config(parser, "; its data.train and train_cfg.assigner are counted")
    add_shared(parser, "--cfg-options")
    add_shared(parser, "--images", default=1600)
    add_shared(parser, "--seed")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Count faces without an anchor, and those of them that are taught as background; return the shares."""
    cfg = load_config(args.config, args.cfg_options)
    with mock.patch.object(faces, "check_images"):  # label files serve without their images
        dataset = build_dataset(cfg.data.train, seed=args.seed)
    steps = [s for s in dataset.pipeline.transforms if not isinstance(s, COLOURS)]  # type: ignore[attr-defined]
    dataset.pipeline = Compose(steps)
    dataset.pipeline.bind(dataset)
    sizes_hw = dataset.sizes_hw.tolist()
    dataset.load = lambda index: blank_sample(dataset.labels[index], sizes_hw[index])  # type: ignore[method-assign]
    assign = assign_ahead(build_criterion(cfg.model, cfg.train_cfg))
    if assign is None:
        raise ConfigError("benchmark.py unassigned needs an assigner that works ahead of the network")
    chosen = np.random.default_rng(args.seed).permutation(len(dataset))[: args.images]
    make = Collate(cfg.data.gt_slots, dataset.labels.num_kps, assign)
    most = getattr(assign.assigner, "topk", None) if hasattr(assign.assigner, "follow") else None
    counts = np.zeros((4, len(EDGES) - 1))
    for start in range(0, len(chosen), 8):
        counts += count(make([dataset[(0, int(index))] for index in chosen[start : start + 8]]), most)
    return {"images": len(chosen), "faces": int(counts[0].sum()), **summarise(counts)}


def count(batch: Batch, most: int | None = None) -> np.ndarray:
    """Return (4, sizes): faces, those without an anchor, those of them whose cell is background, positives.

    Args:
        batch: assigned.
        most: positives of a face, where predictions choose among the anchors that it may learn.
    """
    assigned: Any = batch.assigned
    wins = assigned.candidate_wins.sum(0)  # (B, G)
    wins = (wins if most is None else wins.clamp(max=most))[batch.gt_valid].numpy()
    nearest = assigned.candidate_row[0]  # of the finest level
    is_spared = assigned.is_ignored.flatten()[nearest.flatten()].view_as(nearest)[batch.gt_valid].numpy()
    wh = (batch.gt_bboxes[..., 2:] - batch.gt_bboxes[..., :2]).clamp(min=0)[batch.gt_valid].numpy()
    place = np.digitize(np.sqrt(wh.prod(-1)), EDGES) - 1
    kinds = (np.ones_like(wins), wins == 0, (wins == 0) & ~is_spared, wins)
    return np.array([np.bincount(place, kind, len(EDGES) - 1) for kind in kinds])


def summarise(counts: np.ndarray) -> dict[str, Any]:
    """Return readable figures of the sums of `count`."""
    table = {}
    for column, low, high in zip(counts.T, EDGES, EDGES[1:], strict=False):
        _, without, background, positives = column / max(column[0], 1)
        table[f"{low}-{high:g} px"] = {
            "share": column[0] / max(counts[0].sum(), 1),
            "without_anchor": without,
            "background": background,
            "positives_per_face": positives,
        }
    total = max(counts[0].sum(), 1)
    return {
        "without_anchor": counts[1].sum() / total,
        "background": counts[2].sum() / total,
        "by_size": table,
    }
