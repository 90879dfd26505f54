"""data.samples_per_gpu = -1: how many images per step fit a device."""

import gc
import logging
from collections.abc import Callable

import torch

from mmdet.config.types import RunConfig
from mmdet.datasets.collate import Collate
from mmdet.datasets.faces import FacesDataset
from mmdet.device import free_memory_mib, peak_memory_mib, reset_peak_memory
from mmdet.distributed import all_gather_objects
from mmdet.engine.step import build_step
from mmdet.models.build import build_detector

logger = logging.getLogger("mmdet")

FIT = -1
ON_CPU = 16
MOST = 256
LEAST_ITERS = 8  # an epoch should have
USED = 0.8  # of the memory that is free: other images have more faces
TRIED = (2, 4)  # images of the two trial steps

Measure = Callable[[int], float]


def fit_batch_size(free_mib: float, measure: Measure) -> int:
    """Return the images that fit, from the peak memory of two steps: a fixed part and one per image.

    Args:
        free_mib: memory of the device before.
        measure: images -> peak MiB of a step with so many.
    """
    few, many = (measure(count) for count in TRIED)
    per_image = max((many - few) / (TRIED[1] - TRIED[0]), 1.0)
    fixed = max(few - TRIED[0] * per_image, 0.0)
    fitting = int((USED * free_mib - fixed) / per_image)
    return max(min(fitting - fitting % 8 if fitting >= 8 else fitting, MOST), 1)


def choose_batch_size(
    cfg: RunConfig, dataset: FacesDataset, device: torch.device, world_size: int = 1
) -> int:
    """Return the images per rank, the same on all; 16 on a CPU.

    An epoch keeps eight iterations, or has one per image.
    """
    most = max(len(dataset) // (LEAST_ITERS * world_size), 1)
    if device.type == "cpu":
        fitting, how = ON_CPU, "the rule for a CPU"
    else:
        free_mib = free_memory_mib(device)
        fitting = fit_batch_size(free_mib, lambda count: _peak_of_step(cfg, dataset, device, count))
        how = f"measured: {free_mib:.0f} MiB were free"
    chosen = min([most, *all_gather_objects(fitting)])
    logger.info("data.samples_per_gpu = -1 becomes %d (%s; %d training images)", chosen, how, len(dataset))
    return chosen


def _peak_of_step(cfg: RunConfig, dataset: FacesDataset, device: torch.device, count: int) -> float:
    """Carry out a step of a model of its own with images of the training set."""
    reset_peak_memory(device)
    samples = [dataset[(0, index % len(dataset))] for index in range(count)]
    step = build_step(build_detector(cfg.model, cfg.train_cfg), cfg, device)
    for iteration in range(2):  # the second has the optimizer's state
        step.update(iteration, step.load(Collate(cfg.data.gt_slots, dataset.labels.num_kps)(samples)))
    peak_mib = peak_memory_mib(device)
    del step
    gc.collect()
    return peak_mib
