"""Assignment, targets and losses of one batch: the batched product against the reference's algorithm."""

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark import baseline_targets as baseline
from benchmark.measure import Timing, Work, alternate, peak_tensor_mib, ratio
from mmdet.cli import add_shared
from mmdet.config.types import DataConfig
from mmdet.core.anchors import AnchorGenerator
from mmdet.core.assigners import ATSSAssigner
from mmdet.core.bbox import pairwise_overlaps
from mmdet.core.coders import DistanceCoder
from mmdet.core.structures import Assignment, Batch, Outputs
from mmdet.device import pick_device
from mmdet.models.criteria.scrfd import SCRFDCriterion
from mmdet.models.detectors.dense import flatten_maps
from mmdet.models.losses import DIoULoss, QualityFocalLoss, SmoothL1Loss

ANCHORS = AnchorGenerator(strides=[8, 16, 32], base_sizes=[16, 64, 256], scales=[1, 2], ratios=[1.0])


@dataclass
class Scene:
    """A batch of faces and what a head might say about it, in the forms both sides take.

    Attributes:
        maps: per level class (B, 2, H, W), box (B, 8, H, W) and keypoint (B, 20, H, W) maps.
        batch: the faces in slots; `faces` the same per image.
    """

    maps: list[tuple[Tensor, Tensor, Tensor]]
    batch: Batch
    faces: list[baseline.Face]
    size: int

    def outputs(self) -> Outputs:
        """Return the maps as the model gives them; differentiable."""
        cls, bbox, kps = zip(*self.maps, strict=True)
        sizes = tuple(tuple(level.shape[2:]) for level in cls)
        return Outputs(flatten_maps(cls, 1), flatten_maps(bbox, 4), flatten_maps(kps, 10), None, sizes)


def make_scene(batch_size: int, num_faces: int, slots: int, size: int = 640, seed: int = 0) -> Scene:
    """Return random faces, log-uniform from 8 px to half the image, and random head outputs."""
    rng = torch.Generator().manual_seed(seed)
    shape = (batch_size, num_faces)
    side = 8 * (size / 16) ** torch.rand(*shape, 1, generator=rng)
    wh = side * torch.cat((torch.ones(*shape, 1), 0.9 + 0.6 * torch.rand(*shape, 1, generator=rng)), dim=-1)
    center = torch.rand(*shape, 2, generator=rng) * size
    bboxes = torch.cat((center - wh / 2, center + wh / 2), dim=-1).clamp(0, size)
    points = center[:, :, None] + (torch.rand(*shape, 5, 2, generator=rng) - 0.5) * wh[:, :, None]
    weight = (torch.rand(*shape, 1, 1, generator=rng) < 0.5).float().expand(*shape, 5, 1)
    kps = torch.cat((points, weight), dim=-1)

    batch = Batch(
        images=torch.zeros(batch_size, 3, 1, 1),
        gt_bboxes=torch.zeros(batch_size, slots, 4),
        gt_labels=torch.zeros(batch_size, slots, dtype=torch.int64),
        gt_kps=torch.zeros(batch_size, slots, 5, 3),
        gt_valid=torch.zeros(batch_size, slots, dtype=torch.bool),
        gt_ignore=torch.zeros(batch_size, slots, dtype=torch.bool),
        valid_hw=torch.tensor([[size, size]] * batch_size),
    )
    batch.gt_bboxes[:, :num_faces], batch.gt_kps[:, :num_faces] = bboxes, kps
    batch.gt_valid[:, :num_faces] = True
    faces = [baseline.Face(*face) for face in zip(bboxes, kps, strict=True)]

    maps = []
    for stride in ANCHORS.strides:
        cells = (-(-size // stride),) * 2
        cls = torch.randn(batch_size, 2, *cells, generator=rng) - 3
        bbox = torch.rand(batch_size, 8, *cells, generator=rng) * 4
        offsets = torch.randn(batch_size, 20, *cells, generator=rng)
        maps.append(tuple(level.requires_grad_() for level in (cls, bbox, offsets)))
    return Scene(maps, batch, faces, size)


def make_criterion() -> SCRFDCriterion:
    """Return the criterion of the published configs with keypoints."""
    return SCRFDCriterion(
        anchor_generator=ANCHORS,
        coder=DistanceCoder(),
        assigner=ATSSAssigner(topk=9),
        loss_cls=QualityFocalLoss(),
        loss_bbox=DIoULoss(loss_weight=2.0),
        loss_kps=SmoothL1Loss(beta=1 / 9, loss_weight=0.1),
    )


def baseline_losses(scene: Scene, nearest: baseline.Nearest = baseline.nearest_any_tie) -> dict[str, Tensor]:
    """Return the losses of the reference's algorithm."""
    cls, bbox, kps = zip(*scene.maps, strict=True)
    grid = ANCHORS.grid([level.shape[2:] for level in cls])
    return baseline.targets_and_losses(grid, cls, bbox, kps, scene.faces, nearest)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py targets`."""
    add_shared(parser, "--batch")
    add_shared(parser, "--size")
    add_shared(parser, "--faces", nargs="+", default=[20, 200], help="per image (default: 20 200)")
    add_shared(parser, "--rounds")
    add_shared(parser, "--threads")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the figures; see docs/benchmarks.md for what they mean."""
    torch.set_num_threads(args.threads)
    pick_device("cpu")  # sets memory up as training on a CPU does, for both sides
    figures: dict[str, Any] = {}
    few, many = min(args.faces), max(args.faces)
    for num_faces in args.faces:
        scene = make_scene(args.batch, num_faces, _slots(num_faces), args.size)
        figures[f"faces_{num_faces}"] = {"slots": _slots(num_faces), **_compare(scene, args.rounds)}
    scenes = {n: make_scene(args.batch, n, _slots(many), args.size) for n in (few, many)}
    growth = _growth(scenes[few], scenes[many], 2 * args.rounds)
    figures[f"growth_{few}_to_{many}_faces_in_{_slots(many)}_slots"] = growth
    sizes = (args.size, 2 * args.size)
    scenes = {size: make_scene(args.batch, few, _slots(few), size) for size in sizes}
    growth = _growth(scenes[sizes[0]], scenes[sizes[1]], 2 * args.rounds)
    figures[f"growth_{sizes[0]}_to_{sizes[1]}_px_with_4_times_the_anchors"] = growth
    return figures


def _slots(num_faces: int) -> int:
    """Return the slots that training pads so many faces to."""
    return next(slot for slot in DataConfig.gt_slots if slot >= num_faces)


def _compare(scene: Scene, rounds: int) -> dict[str, Any]:
    """Check that both sides compute the same, then take their times and their peaks of memory."""
    criterion, batch, outputs = make_criterion(), scene.batch, scene.outputs()
    grid = ANCHORS.grid(outputs.level_sizes_hw)
    works = {
        "assign_baseline": lambda: [baseline.assign(grid, face.bboxes) for face in scene.faces],
        "assign_product": lambda: _assign(criterion, scene),
        "losses_baseline": lambda: baseline_losses(scene),
        "losses_product": lambda: criterion(outputs, batch),
        "from_maps_product": lambda: criterion(scene.outputs(), batch),
        "with_backward_baseline": lambda: _backward(baseline_losses(scene), scene),
        "with_backward_product": lambda: _backward(criterion(scene.outputs(), batch), scene),
    }
    figures: dict[str, Any] = {"largest_relative_difference": _difference(scene)}
    times = alternate(works, rounds=rounds)
    figures |= {name: vars(timing) for name, timing in times.items()}
    for part in ("assign", "losses", "with_backward"):
        figures[f"{part}_ratio"] = ratio(times[f"{part}_baseline"], times[f"{part}_product"])
    figures["from_maps_ratio"] = ratio(times["losses_baseline"], times["from_maps_product"])
    figures["peak_mib"] = peaks = {name: peak_tensor_mib(work) for name, work in works.items()}
    faces = torch.stack([face.bboxes for face in scene.faces])
    peaks["dense_overlaps_of_the_batch"] = peak_tensor_mib(lambda: pairwise_overlaps(grid.bboxes, faces))
    for part in ("assign", "losses"):
        figures[f"{part}_peak_ratio"] = {
            "dense_batch": peaks["dense_overlaps_of_the_batch"] / peaks[f"{part}_product"],
            "baseline_image_by_image": peaks[f"{part}_baseline"] / peaks[f"{part}_product"],
        }
    return figures


def _difference(scene: Scene) -> float:
    """Return the largest relative difference of a loss; both break ties by the lowest index here."""
    got = make_criterion()(scene.outputs(), scene.batch)
    want = baseline_losses(scene, baseline.nearest_lowest_index)
    worst = max(abs(got[name].item() / value.item() - 1) for name, value in want.items())
    assert worst < 1e-4, f"the product's losses differ from the baseline's by {worst:.1e}"
    return worst


def _assign(criterion: SCRFDCriterion, scene: Scene) -> Assignment:
    grid, batch = ANCHORS.grid([level[0].shape[2:] for level in scene.maps]), scene.batch
    return criterion.assigner(grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)


def _backward(losses: dict[str, Tensor], scene: Scene) -> None:
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for level in scene.maps:
        for values in level:
            values.grad = None


def _growth(small: Scene, large: Scene, rounds: int) -> dict[str, dict[str, float]]:
    """Return by what factor the product's time and peak of memory grow from one scene to another.

    `all_but_class_loss` leaves out the only part that looks at every anchor: the class loss, a sum over
    all of them, without its targets.
    """
    criterion = make_criterion()
    works: dict[str, Work] = {}
    for name, scene in (("small", small), ("large", large)):
        outputs = scene.outputs()
        works[f"{name}_assign"] = partial(_assign, criterion, scene)
        works[f"{name}_losses"] = partial(criterion, outputs, scene.batch)
        background = torch.zeros_like(outputs.cls_logits)
        works[f"{name}_class_loss"] = partial(criterion.loss_cls, outputs.cls_logits, background)
    times = alternate(works, rounds=rounds, warmup=2)
    grown = {part: ratio(times[f"large_{part}"], times[f"small_{part}"]) for part in ("assign", "losses")}
    rest = {
        name: Timing(losses.wall_s - dense.wall_s, losses.cpu_s - dense.cpu_s)
        for name in ("small", "large")
        for losses, dense in [(times[f"{name}_losses"], times[f"{name}_class_loss"])]
    }
    grown["all_but_class_loss"] = ratio(rest["large"], rest["small"])
    peaks = {name: peak_tensor_mib(works[f"{name}_losses"]) for name in ("small", "large")}
    return {**grown, "peak": {"memory": peaks["large"] / peaks["small"]}}
