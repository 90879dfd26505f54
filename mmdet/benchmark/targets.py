"""Assignment, targets and losses of one batch: the batched product against the reference's algorithm."""

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdet.benchmark import baseline_targets as baseline
from mmdet.benchmark.measure import alternate, peak_tensor_mib, ratio
from mmdet.config.types import DataConfig
from mmdet.core.anchors import AnchorGenerator
from mmdet.core.assigners import ATSSAssigner
from mmdet.core.structures import Batch, Outputs
from mmdet.models.criterion import SCRFDCriterion
from mmdet.models.detectors.scrfd import flatten_maps
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
    parser.add_argument("--batch", type=int, default=32, help="images (default 32)")
    parser.add_argument("--size", type=int, default=640, help="side of the images in px (default 640)")
    parser.add_argument("--faces", type=int, nargs="+", default=[20, 200], help="per image (default 20 200)")
    parser.add_argument("--slots", type=int, default=0, help="face slots; 0: the usual size that fits")
    parser.add_argument("--rounds", type=int, default=5, help="alternating repetitions (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the figures."""
    torch.set_num_threads(args.threads)
    figures = {}
    for num_faces in args.faces:
        slots = args.slots or next(slot for slot in DataConfig.gt_slots if slot >= num_faces)
        scene = make_scene(args.batch, num_faces, slots, args.size)
        figures[f"faces_{num_faces}"] = {"slots": slots, **_compare(scene, args.rounds)}
    if args.faces[1:]:
        few, many = (make_scene(args.batch, n, 512, args.size) for n in (args.faces[0], args.faces[-1]))
        figures["growth_in_one_slot_size"] = _growth(few, many, args.rounds)
    return figures


def _compare(scene: Scene, rounds: int) -> dict[str, Any]:
    criterion, grid = make_criterion(), ANCHORS.grid([level[0].shape[2:] for level in scene.maps])
    batch, outputs = scene.batch, scene.outputs()
    assign = (grid, batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
    works = {
        "assign_baseline": lambda: [baseline.assign(grid, face.bboxes) for face in scene.faces],
        "assign_product": lambda: criterion.assigner(*assign),
        "losses_baseline": lambda: baseline_losses(scene),
        "losses_product": lambda: criterion(outputs, batch),
        "with_backward_baseline": lambda: _backward(baseline_losses(scene), scene),
        "with_backward_product": lambda: _backward(criterion(scene.outputs(), batch), scene),
    }
    times = alternate(works, rounds=rounds)
    figures: dict[str, Any] = {name: vars(timing) for name, timing in times.items()}
    for part in ("assign", "losses", "with_backward"):
        figures[f"{part}_ratio"] = ratio(times[f"{part}_baseline"], times[f"{part}_product"])
    peaks = {name: peak_tensor_mib(work) for name, work in works.items()}
    figures["peak_mib"] = peaks
    figures["dense_matrices_mib"] = len(scene.faces) * grid.num_anchors * batch.gt_valid.shape[1] * 4 / 2**20
    return figures


def _backward(losses: dict[str, Tensor], scene: Scene) -> None:
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for level in scene.maps:
        for values in level:
            values.grad = None


def _growth(few: Scene, many: Scene, rounds: int) -> dict[str, float]:
    criterion = make_criterion()
    few_outputs, many_outputs = few.outputs(), many.outputs()
    works = {
        "few": lambda: criterion(few_outputs, few.batch),
        "many": lambda: criterion(many_outputs, many.batch),
    }
    times = alternate(works, rounds=2 * rounds, warmup=2)
    return ratio(times["many"], times["few"])
