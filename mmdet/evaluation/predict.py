"""Run a detector over a data set: every rank its share, rank 0 gets all."""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from mmdet.core.structures import Detections, Outputs
from mmdet.datasets.collate import TestBatch
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.loader import build_test_loader
from mmdet.datasets.transforms.base import make_sample
from mmdet.errors import ConfigError
from mmdet.evaluation.metrics import PredictionDict
from mmdet.models.fold import inference_copy
from mmdet.threads import in_order

# (model, outputs, img_hw, scale_xy) -> one Detections per image, in pixels of the image files
Postprocess = Callable[..., list[Detections]]
T = TypeVar("T")
R = TypeVar("R")
MAX_LANES = 4  # each holds the feature maps of a batch


def predict_dataset(
    model: nn.Module,
    dataset: FacesDataset,
    postprocess: Postprocess,
    device: torch.device,
    batch_size: int = 1,
    workers: int = 0,
    half: bool = False,
    rank: int = 0,
    world_size: int = 1,
    show_progress: bool = True,
) -> PredictionDict:
    """Detect faces in the images rank, rank + world_size, ... of a data set.

    Args:
        model: an SCRFD on `device`; its training mode is restored afterwards.
        dataset: in test mode.
        postprocess: turns outputs into detections.
        device: where the model is.
        batch_size: most images per forward pass; only images of one input size go together, since more
            padding would change the outputs a little.
        workers: processes that read images.
        half: run a half-precision copy of the model (boxes and scores are still decoded in fp32).
        rank: of this process.
        world_size: number of processes that share the work.
        show_progress: a progress line on stderr (rank 0 only).

    Returns:
        The detections of these images.
    """
    predictions: dict[str, np.ndarray] = {}
    was_training = model.training
    model.eval()
    network = inference_copy(model)
    if half:
        network = copy.deepcopy(network).half()
    mine = range(rank, len(dataset), world_size)
    batches = group_by_input_size(dataset, mine, batch_size)
    loader = build_test_loader(dataset, workers=workers, batches=batches)

    def detect(batch: TestBatch) -> dict[str, np.ndarray]:
        found = detect_batch(network, batch, postprocess, device)
        return dict(zip(batch.names, map(to_rows, found), strict=True))

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    try:
        with _progress(len(mine), is_shown=show_progress and rank == 0) as progress:
            for rows in map_on_lanes(detect, loader, threads):
                predictions |= rows
                progress.update(len(rows))
    finally:
        model.train(was_training)
    return predictions


def map_on_lanes(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield function(item) for each item, in order; up to MAX_LANES items are computed at a time.

    Operators on one image are too short for many threads, which then mostly wait for each other; operators
    on different images do not meet.

    Args:
        function: computes with torch on the CPU.
        items: taken by the calling thread, at most one more than there are lanes ahead of their results.
        threads: torch's, divided among the lanes; the calling thread has as many afterwards.
    """
    lanes = min(threads, MAX_LANES)
    if lanes == 1:
        yield from map(function, items)
        return
    try:
        with ThreadPoolExecutor(
            lanes, initializer=torch.set_num_threads, initargs=(threads // lanes,)
        ) as pool:
            for _, future in in_order(pool, function, items, lanes + 1):
                yield future.result()
    finally:
        torch.set_num_threads(threads)


def _progress(total: int, is_shown: bool) -> Any:
    """Return a progress line; a log file gets one every ten seconds only."""
    from tqdm import tqdm  # here: training needs none

    interval_s = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, unit="img", desc="detect", disable=not is_shown, mininterval=interval_s)


def group_by_input_size(dataset: FacesDataset, indices: Sequence[int], batch_size: int) -> list[list[int]]:
    """Split `indices` into lists of at most `batch_size` images that the pipeline gives one size.

    The size comes from the label file's, so no image is read; an image that is not as its label says ends
    up in a padded batch.
    """
    if batch_size == 1:
        return [[index] for index in indices]
    input_hw: dict[tuple[int, int], tuple[int, int]] = {}
    groups: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        height, width = (int(side) for side in dataset.sizes_hw[index])
        if (height, width) not in input_hw:
            blank = make_sample(np.zeros((height, width, 3), np.uint8))
            input_hw[height, width] = dataset.pipeline(blank, np.random.RandomState(0)).image.shape[:2]
        groups.setdefault(input_hw[height, width], []).append(index)
    return [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


@torch.inference_mode()
def detect_batch(
    model: nn.Module, batch: TestBatch, postprocess: Postprocess, device: torch.device
) -> list[Detections]:
    """Return the detections of B images, in pixels of the image files."""
    dtype = next(model.parameters()).dtype
    outputs: Outputs = model(batch.images.to(device=device, dtype=dtype))
    return postprocess(model, outputs.float(), batch.img_hw, batch.scale_xy)


def to_rows(found: Detections) -> np.ndarray:
    """Return (n, 6) float32 x, y, w, h, score, class."""
    columns = (found.bboxes, found.scores[:, None], found.labels[:, None])
    rows = torch.cat([column.float() for column in columns], dim=1).cpu().numpy()
    rows[:, 2:4] -= rows[:, :2]
    return rows


def merge_predictions(shares: Sequence[PredictionDict]) -> PredictionDict:
    """Join the shares of all ranks (as `distributed.gather_objects` returns them)."""
    return {name: rows for share in shares for name, rows in share.items()}


def at_mode(dataset_cfg: dict, mode: int) -> dict:
    """Return a copy of a test dataset's config with the input size of a `--mode`.

    Args:
        dataset_cfg: data.test of a config; its pipeline holds MultiScaleFlipAug around Resize and Pad.
        mode: 0: fit into 640x640; 1: fit into 1650x1100, either way up; 2: original size, padded to
            multiples of Pad's size_divisor or of 32; N > 30: fit into NxN; -1: as the config says.

    Raises:
        ConfigError: another number, or a pipeline without the two.
    """
    if mode == -1:
        return dataset_cfg
    scale: dict[str, object]
    pad: dict[str, object]
    if mode == 1:
        scale, pad = {"img_scale": (1100, 1650)}, {"size": (1100, 1650)}
    elif mode == 2:
        scale, pad = {"scale_factor": 1.0}, {}
    elif mode == 0 or mode > 30:
        side = mode or 640
        scale, pad = {"img_scale": (side, side)}, {"size": (side, side)}
    else:
        raise ConfigError(
            f"--mode {mode}: expected 0 (640x640), 1 (1100x1650), 2 (original size), a side above 30, "
            "or -1 for the config's own size."
        )
    cfg = copy.deepcopy(dataset_cfg)
    pads = 0
    for step in cfg.get("pipeline", ()):
        if step.get("type") != "MultiScaleFlipAug":
            continue
        for key in ("img_scale", "scale_factor"):
            step.pop(key, None)
        step.update(scale)
        for inner in step["transforms"]:
            if inner.get("type") == "Pad":
                divisor = inner.pop("size_divisor", 32)
                inner.pop("size", None)
                inner.update(pad or {"size_divisor": divisor})
                pads += 1
    if pads != 1:
        raise ConfigError(
            f"--mode {mode}: data.test.pipeline needs one MultiScaleFlipAug with one Pad inside."
        )
    return cfg
