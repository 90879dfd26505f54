"""RetinaFace's targets and losses: the batched product against the reference's loop over images.

The loop follows the description of the reference in words; no line is taken from it. One image at a time: the
matrix of overlaps faces x anchors, dense targets, then losses over index lists and a sort of all anchors.

Also a whole step with either loss (the network, its images and the optimizer are the same), and the time that
memory alone asks of the losses: the logits once, the gathered codes once.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.measure import alternate, ratio
from benchmark.targets import make_scene
from mmdet.cli import add_shared
from mmdet.config import load_config
from mmdet.config.types import DataConfig
from mmdet.core.anchors import AnchorGrid, PriorGenerator
from mmdet.core.assigners import MultiBoxAssigner
from mmdet.core.bbox import pairwise_overlaps
from mmdet.core.coders import PriorCoder
from mmdet.core.structures import Batch, Outputs
from mmdet.device import pick_device
from mmdet.models.build import build_detector
from mmdet.models.criteria.multibox import MultiBoxCriterion
from mmdet.models.losses import SmoothL1Loss

COPIED = torch.zeros(2**24)  # 64 MiB
ANCHORS = PriorGenerator(strides=[8, 16, 32], min_sizes=[[16, 32], [64, 128], [256, 512]])
CODER = PriorCoder()
CONFIG = Path(__file__).parents[1] / "configs/retinaface/mobilenet0.25.py"


def match_loop(grid: AnchorGrid, bboxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the face (A,) and whether it is positive (A,) for each anchor of one image."""
    overlaps = pairwise_overlaps(bboxes, grid.bboxes, eps=1e-12)  # (n, A)
    of_face, best_anchor = overlaps.max(dim=1)
    of_anchor, face = overlaps.max(dim=0)
    is_matched = of_face >= 0.2
    if not is_matched.any():
        return face, torch.zeros_like(face, dtype=torch.bool)
    of_anchor[best_anchor[is_matched]] = 2.0
    for number, anchor in enumerate(best_anchor.tolist()):
        if of_face[number] > 0:
            face[anchor] = number
    return face, of_anchor >= 0.35


def losses_loop(outputs: Outputs, batch: Batch, grid: AnchorGrid) -> dict[str, Tensor]:
    """Return the losses of the reference's algorithm, its underflow left out; every valid slot is a face."""
    bbox_targets, kps_targets, positives, with_kps = [], [], [], []
    for bboxes, kps, valid in zip(batch.gt_bboxes, batch.gt_kps, batch.gt_valid, strict=True):
        bboxes, kps = bboxes[valid], kps[valid]
        if not len(bboxes):
            bboxes, kps = torch.zeros(1, 4), torch.zeros(1, *batch.gt_kps.shape[2:])
        face, is_positive = match_loop(grid, bboxes)
        bbox_targets.append(CODER.encode_bboxes(bboxes[face], grid.anchors))
        kps_targets.append(CODER.encode_kps(kps[face, :, :2].flatten(1), grid.anchors))
        positives.append(is_positive)
        with_kps.append(is_positive & (kps[face, :, 2] > 0).all(dim=1))
    is_positive, has_kps = torch.stack(positives), torch.stack(with_kps)
    num = is_positive.sum().clamp(min=1)
    bbox = F.smooth_l1_loss(
        outputs.bbox_pred[is_positive], torch.stack(bbox_targets)[is_positive], reduction="sum"
    )
    kps = F.smooth_l1_loss(outputs.kps_pred[has_kps], torch.stack(kps_targets)[has_kps], reduction="sum")  # type: ignore[index]
    loss = F.cross_entropy(outputs.cls_logits.flatten(0, 1), is_positive.flatten().long(), reduction="none")
    loss = loss.view_as(is_positive)
    rank = loss.detach().masked_fill(is_positive, 0.0).sort(dim=1, descending=True)[1].sort(dim=1)[1]
    count = (7 * is_positive.sum(dim=1, keepdim=True)).clamp(max=grid.num_anchors - 1)
    counted = loss[is_positive | (rank < count)].sum()
    return {
        "loss_cls": counted / num,
        "loss_bbox": 2 * bbox / num,
        "loss_kps": kps / has_kps.sum().clamp(min=1),
    }


def make_criterion() -> MultiBoxCriterion:
    """Return the criterion of the published configs."""
    return MultiBoxCriterion(
        anchor_generator=ANCHORS,
        coder=CODER,
        assigner=MultiBoxAssigner(),
        loss_bbox=SmoothL1Loss(loss_weight=2.0),
        loss_kps=SmoothL1Loss(),
    )


def draw_outputs(batch_size: int, size: int, seed: int = 0) -> Outputs:
    """Return random numbers of a head, differentiable."""
    rng = torch.Generator().manual_seed(seed)
    sizes = tuple((-(-size // stride),) * 2 for stride in ANCHORS.strides)
    num_anchors = ANCHORS.grid(sizes).num_anchors
    parts = [torch.randn(batch_size, num_anchors, n, generator=rng).requires_grad_() for n in (2, 4, 10)]
    return Outputs(parts[0], parts[1], parts[2], None, sizes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py multibox`."""
    add_shared(parser, "--batch")
    add_shared(parser, "--size")
    add_shared(parser, "--faces", nargs="+", default=[20, 200], help="per image (default: 20 200)")
    parser.add_argument(
        "--step-batch",
        type=int,
        default=4,
        metavar="N",
        help="images of the whole step; 0: none (default: 4)",
    )
    add_shared(parser, "--rounds")
    add_shared(parser, "--threads")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the figures; see docs/benchmarks.md for what they mean."""
    torch.set_num_threads(args.threads)
    pick_device("cpu")  # sets memory up as training on a CPU does, for both sides
    figures: dict[str, Any] = {}
    for num_faces in args.faces:
        slots = next(slot for slot in DataConfig.gt_slots if slot >= num_faces)
        batch = make_scene(args.batch, num_faces, slots, args.size).batch
        figures[f"faces_{num_faces}"] = {"slots": slots, **_compare(batch, args)}
        if args.step_batch:
            batch = make_scene(args.step_batch, num_faces, slots, args.size).batch
            figures[f"step_faces_{num_faces}"] = _compare_steps(batch, args)
    return figures


def _compare(batch: Batch, args: argparse.Namespace) -> dict[str, Any]:
    """Check that both sides compute the same, then take their times."""
    criterion, outputs = make_criterion(), draw_outputs(args.batch, args.size)
    grid = ANCHORS.grid(outputs.level_sizes_hw)
    got, want = criterion(outputs, batch), losses_loop(outputs, batch, grid)
    worst = max(abs(got[name].item() / value.item() - 1) for name, value in want.items())
    assert worst < 1e-4, f"the product's losses differ from the loop's by {worst:.1e}"
    faces = (batch.gt_bboxes, batch.gt_valid, batch.gt_ignore, batch.valid_hw)
    works = {
        "match_loop": lambda: [
            match_loop(grid, b[v]) for b, v in zip(batch.gt_bboxes, batch.gt_valid, strict=True)
        ],
        "match_product": lambda: criterion.assigner(grid, *faces),
        "copy": lambda: COPIED.clone(),
        "losses_loop": lambda: losses_loop(outputs, batch, grid),
        "losses_product": lambda: criterion(outputs, batch),
        "with_backward_loop": lambda: _backward(losses_loop(outputs, batch, grid), outputs),
        "with_backward_product": lambda: _backward(criterion(outputs, batch), outputs),
    }
    times = alternate(works, rounds=args.rounds)
    figures: dict[str, Any] = {"largest_relative_difference": worst}
    figures |= {name: vars(timing) for name, timing in times.items()}
    for part in ("match", "losses", "with_backward"):
        figures[f"{part}_ratio"] = ratio(times[f"{part}_loop"], times[f"{part}_product"])
    num_codes = 14 * int(criterion.assigner(grid, *faces).num_positives.sum())
    least_s = times["copy"].cpu_s * 4 * (outputs.cls_logits.numel() + num_codes) / (2 * COPIED.nbytes)
    figures["memory_bound"] = {"cpu_s": least_s, "ratio": times["losses_loop"].cpu_s / least_s}
    return figures


def _compare_steps(batch: Batch, args: argparse.Namespace) -> dict[str, Any]:
    """Take the times of a whole step with either loss, matching included in both."""
    cfg, criterion = load_config(CONFIG), make_criterion()
    model = build_detector(cfg.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    images = torch.rand(args.step_batch, 3, args.size, args.size)

    grid = ANCHORS.grid(model(images).level_sizes_hw)

    def step(losses: Callable[[Outputs], dict[str, Tensor]]) -> None:
        optimizer.zero_grad()
        sum(losses(model(images)).values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    works = {
        "loop": lambda: step(lambda outputs: losses_loop(outputs, batch, grid)),
        "product": lambda: step(lambda outputs: criterion(outputs, batch)),
        "no_losses": lambda: step(
            lambda outputs: {"all": outputs.cls_logits.sum() + outputs.bbox_pred.sum()}
        ),
    }
    times = alternate(works, rounds=args.rounds)
    return {
        **{name: vars(timing) for name, timing in times.items()},
        "ratio": ratio(times["loop"], times["product"]),
        "bound": ratio(times["loop"], times["no_losses"]),
    }


def _backward(losses: dict[str, Tensor], outputs: Outputs) -> None:
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for values in (outputs.cls_logits, outputs.bbox_pred, outputs.kps_pred):
        values.grad = None  # type: ignore[union-attr]
