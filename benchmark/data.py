"""Images per second and core, from JPEG files to a normalised training batch."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
import torch

from benchmark import baseline_data
from benchmark.measure import alternate, ratio
from mmdet.cli import add_config, add_shared
from mmdet.config import DataConfig, load_config
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.datasets.build import build_dataset
from mmdet.datasets.collate import Collate
from mmdet.datasets.device_augment import FinishImages, leave_colours_to_device
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.loader import build_loader
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.datasets.transforms.affine import RandomAffine
from mmdet.datasets.transforms.crop import RandomSquareCrop
from mmdet.datasets.transforms.geometric import Resize
from mmdet.datasets.transforms.mosaic import Mosaic
from mmdet.device import device_summary, keep_freed_memory, pick_device
from mmdet.errors import ConfigError
from mmdet.models.build import build_criterion

SCALES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
LIKE_A_RUN = "configs/scrfd/scrfd_2.5g.py"  # whose anchors and assigner the loader assigns with


def pipeline(size: int = 640, clip: bool = True) -> list[dict]:
    """Return the published training pipeline for another size."""
    return [
        dict(type="LoadImageFromFile", to_float32=True),
        dict(type="LoadAnnotations", with_bbox=True, with_keypoints=True),
        dict(type="RandomSquareCrop", crop_choice=list(SCALES), bbox_clip_border=clip),
        dict(type="Resize", img_scale=(size, size), keep_ratio=False, bbox_clip_border=clip),
        dict(type="RandomFlip", flip_ratio=0.5),
        dict(type="PhotoMetricDistortion"),
        dict(type="Normalize", mean=[127.5] * 3, std=[128.0] * 3, to_rgb=True),
        dict(type="DefaultFormatBundle"),
        dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_keypointss"]),
    ]


def baseline_recipe(size: int = 640, clip: bool = True) -> baseline_data.Recipe:
    """Return the same settings for the baseline."""
    return baseline_data.Recipe(scales=SCALES, clip=clip, size=size)


def make_dataset(ann_file: str | Path, img_prefix: str | Path, steps: list[dict]) -> FacesDataset:
    """Return the product's data set."""
    cfg = dict(type="RetinaFaceDataset", ann_file=str(ann_file), img_prefix=str(img_prefix), pipeline=steps)
    return build_dataset(cfg)


def product_batch(dataset: FacesDataset, ids: Sequence[tuple[int, int]]) -> Batch:
    """Return a batch as a loader worker makes it."""
    return make_collate()([dataset[each] for each in ids])


@lru_cache(maxsize=1)
def make_collate() -> Collate:
    """Return what makes batches in a run: it assigns, too."""
    cfg = load_config(Path(__file__).resolve().parents[1] / LIKE_A_RUN)
    return Collate(DataConfig.gt_slots, assign=assign_ahead(build_criterion(cfg.model, cfg.train_cfg)))


def baseline_batch(
    dataset: FacesDataset, ids: Sequence[tuple[int, int]], recipe: baseline_data.Recipe
) -> tuple[torch.Tensor, list[np.ndarray], list[np.ndarray]]:
    """Return the same batch as the reference's pipeline makes it."""
    indices = [index for _, index in ids]
    rngs = [np.random.RandomState([dataset.seed, *each]) for each in ids]
    paths = [dataset.path(index) for index in indices]
    return baseline_data.make_batch(paths, [dataset.labels[index] for index in indices], rngs, recipe)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py data`."""
    add_config(parser, "; its data.train is measured")
    add_shared(parser, "--cfg-options")
    add_shared(parser, "--images", default=64, help="images per repetition (default: %(default)s)")
    add_shared(parser, "--rounds")
    add_shared(parser, "--workers", default=1, help="loader processes of one figure (default: %(default)s)")
    add_shared(parser, "--device", default="cpu", help="where data.device_augment works (default: cpu)")
    parser.add_argument(
        "--default-malloc",
        action="store_true",
        help="memory as the reference's workers get it, for both sides",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure on one core: the baseline, and the product with and without its options."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if not args.default_malloc:
        keep_freed_memory()
    cfg = load_config(args.config, args.cfg_options)
    dataset = build_dataset(cfg.data.train)
    recipe, is_published = _recipe_of(dataset)
    step = max(len(dataset) // args.images, 1)
    ids = [(0, index) for index in range(0, len(dataset), step)][: args.images]
    batches = [ids[i : i + 16] for i in range(0, len(ids), 16)]
    published = build_dataset({**cfg.data.train, "pipeline": pipeline(recipe.size, recipe.clip)})
    plain = dataset if is_published else published
    same = torch.equal(product_batch(plain, ids[:8]).images, baseline_batch(plain, ids[:8], recipe)[0])

    with TemporaryDirectory() as folder:
        variants = {
            "product": dataset,
            "cached": build_dataset({**cfg.data.train, "cache_dir": folder, "cache_gib": 16}),
            "raw": build_dataset(cfg.data.train),
            "raw_cached": build_dataset({**cfg.data.train, "cache_dir": folder, "cache_gib": 16}),
        }
        if not is_published:
            variants["published"] = published
        finish = [leave_colours_to_device(variants[name]) for name in ("raw", "raw_cached")][0]
        works = {
            name: partial(_make_all, partial(product_batch, each), batches) for name, each in variants.items()
        }
        works = {
            "baseline": partial(_make_all, partial(baseline_batch, dataset, recipe=recipe), batches),
            **works,
        }
        times = alternate(works, rounds=args.rounds)
        parts = {}
        for name, variant in variants.items():
            with stopwatch(variant) as spent:
                works[name]()
            parts[name] = {step: 1000 * taken / len(ids) for step, taken in spent.items() if taken > 1e-4}
        fed = {name: loader_rate(each, args.workers, args.rounds) for name, each in variants.items()}
    return {
        "images": len(ids),
        "mean_side_px": float(np.mean(np.sqrt(dataset.sizes_hw[[i for _, i in ids]].prod(1)))),
        "equal_to_baseline": same,
        "images_per_s_and_core": {name: len(ids) / timing.cpu_s for name, timing in times.items()},
        "ratio": {name: ratio(times["baseline"], times[name]) for name in variants},
        "ms_per_image": parts,
        "images_per_s_and_worker": fed,
        "device_part": _device_part(finish, variants["raw"], ids[:16], args),
    }


def loader_rate(dataset: FacesDataset, workers: int, rounds: int, batch_size: int = 16) -> float:
    """Return images per second and worker that reach the training process, sent by worker processes.

    The first batches, while workers start and read ahead, do not count: the median of the time between two
    batches of the same worker does, over `rounds` of them at least.
    """
    skipped, counted = 4 * workers, 2 * rounds * workers
    sampler = GroupBatchSampler(dataset.group_flags, batch_size)
    loader = build_loader(
        dataset, sampler, workers=workers, collate=make_collate(), total_iters=skipped + counted
    )
    arrivals = []
    for _ in loader:
        arrivals.append(perf_counter())
    gaps = [later - earlier for earlier, later in zip(arrivals, arrivals[workers:], strict=False)]
    return batch_size / median(gaps[skipped:])


def _make_all(make: Callable[[list], object], batches: list[list[tuple[int, int]]]) -> None:
    for ids in batches:
        make(ids)


def _device_part(
    finish: FinishImages, dataset: FacesDataset, ids: list[tuple[int, int]], args: argparse.Namespace
) -> dict[str, Any]:
    """Return the time that the raw variants leave to the device, ms per image."""
    device = pick_device(args.device)
    batch = product_batch(dataset, ids).to(device)
    timing = alternate({"finish": lambda: finish(batch)}, rounds=args.rounds, device=device)["finish"]
    return {"device": device_summary(device), "ms_per_image": 1000 * timing.wall_s / len(ids)}


def _recipe_of(dataset: FacesDataset) -> tuple[baseline_data.Recipe, bool]:
    """Return the baseline's settings for the pipeline of a data set, and whether that does the same.

    Beside a pipeline with RandomAffine or Mosaic the baseline is the published one of the same size.
    """
    steps = {type(step): step for step in dataset.pipeline.transforms}  # type: ignore[attr-defined]
    affine = steps[Mosaic].crop if Mosaic in steps else steps.get(RandomAffine)
    if affine is not None:
        return baseline_recipe(affine.size_wh[0], affine.bbox_clip_border), False
    crop, resize = steps.get(RandomSquareCrop), steps.get(Resize)
    if not isinstance(crop, RandomSquareCrop) or not isinstance(resize, Resize) or resize.img_scale is None:
        raise ConfigError(
            "data.train.pipeline needs RandomSquareCrop and Resize(img_scale), or RandomAffine, or Mosaic"
        )
    recipe = baseline_data.Recipe(scales=crop.scales, clip=crop.bbox_clip_border, size=resize.img_scale[0])
    return recipe, True


@contextmanager
def stopwatch(dataset: FacesDataset) -> Iterator[dict[str, float]]:
    """Sum the processor time of reading, of each transform and of collating; seconds by name."""
    parts: dict[str, float] = defaultdict(float)
    undo = []

    def watch(owner: object, method: str, name: str) -> None:
        work = getattr(owner, method)

        def timed(*args: object) -> object:
            started = process_time()
            try:
                return work(*args)
            finally:
                parts[name] += process_time() - started

        setattr(owner, method, timed)
        undo.append((owner, method))

    watch(dataset, "load", "read")
    for step in dataset.pipeline.transforms:  # type: ignore[attr-defined]
        watch(step, "draw", f"{type(step).__name__}.draw")
        watch(step, "apply", type(step).__name__)
    try:
        yield parts
    finally:
        for owner, method in undo:
            delattr(owner, method)
