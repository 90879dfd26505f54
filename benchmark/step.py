"""A training step on resident data, part by part: ours, the reference's, and the convolutions alone."""

import argparse
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmark.baseline_step import BaselineStep
from benchmark.roofline import LAYOUTS, Roofline, list_convolutions
from benchmark.targets import make_scene
from benchmark.turns import Figures, take_turns
from mmdet.cli import add_config, add_shared
from mmdet.config import RunConfig, SpeedConfig, load_config
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.device import device_summary, peak_memory_mib, pick_device, synchronize
from mmdet.engine.graphs import WARM_UP_STEPS
from mmdet.engine.schedule import Schedule
from mmdet.engine.speed import check_speed
from mmdet.engine.step import TrainStep, build_step
from mmdet.models.build import build_detector
from mmdet.precision.levels import DTYPES
from mmdet.process import let_threads_sleep

TARGETS = ("targets_and_losses", "losses_backward")
ITERS_PER_EPOCH = 1000  # of the learning rate's schedule


@dataclass(frozen=True)
class StepSetup:
    """What every contestant builds its step from."""

    config: str
    options: tuple[str, ...]
    device: str
    amp: str
    speed: SpeedConfig
    batch_size: int
    faces: int
    size: int
    threads: int

    def load(self) -> RunConfig:
        """Return the config with this run's precision and speed options."""
        cfg = load_config(self.config, self.options)
        return replace(cfg, amp=replace(cfg.amp, level=self.amp), speed=self.speed)

    def draw(self, cfg: RunConfig) -> Batch:
        """Return the batch, on the CPU."""
        slots = next((slots for slots in cfg.data.gt_slots if slots >= self.faces), self.faces)
        batch = make_scene(self.batch_size, self.faces, slots, self.size).batch
        rng = torch.Generator().manual_seed(0)
        batch.images = torch.rand(self.batch_size, 3, self.size, self.size, generator=rng) * 2 - 1
        return batch

    def prepare(self, is_product: bool) -> tuple[RunConfig, torch.device]:
        """Set up this process; only the product keeps freed memory (see mmdet/process.py)."""
        device = pick_device(self.device) if is_product or self.device != "cpu" else torch.device("cpu")
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        return self.load(), device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py step`."""
    add = parser.add_argument
    add_config(parser)
    add_shared(parser, "--device")
    add_shared(parser, "--amp", default="O0", help="precision (default: O0)")
    add_shared(parser, "--batch-size", default=4)
    add_shared(parser, "--size")
    add_shared(parser, "--faces", default=20)
    add(
        "--channels-last", action=argparse.BooleanOptionalAction, help="memory order (default: the trainer's)"
    )
    add("--compile", action="store_true", help="torch.compile the network")
    add("--fused-optimizer", action="store_true", help="one kernel for all weights")
    add("--graph", action="store_true", help="record the step and repeat it")
    add_shared(parser, "--rounds", default=7)
    add_shared(parser, "--threads")
    add("--no-baseline", action="store_true", help="leave the reference's step out")
    add_shared(parser, "--cfg-options")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the figures."""
    device = pick_device(args.device)
    setup = StepSetup(
        config=args.config,
        options=tuple(args.cfg_options),
        device=str(device),
        amp=args.amp,
        speed=SpeedConfig(args.channels_last, args.compile, args.fused_optimizer, args.graph),
        batch_size=args.batch_size,
        faces=args.faces,
        size=args.size,
        threads=args.threads,
    )
    cfg = setup.load()
    check_speed(cfg, device)
    makers = {"product": make_product, "roofline": make_roofline}
    if not args.no_baseline:
        makers["baseline"] = make_baseline
        if device.type == "cpu":
            makers["baseline_keeping_memory"] = make_baseline_keeping_memory
    let_threads_sleep()  # in all contestants: they load torch after this
    warmup = 2 * WARM_UP_STEPS if args.graph else 2
    times = take_turns(makers, setup, args.rounds, warmup)
    return {
        "device": device_summary(device),
        "config": Path(args.config).stem,
        "amp": f"{cfg.amp.level} {cfg.amp.dtype}" if args.amp != "O0" else "O0",
        "speed": vars(setup.speed),
        "batch_size": args.batch_size,
        "faces": args.faces,
        **summarise(times, count_flops(cfg, setup), args.batch_size),
    }


def count_flops(cfg: RunConfig, setup: StepSetup) -> dict[str, int]:
    """Return floating-point operations of the convolutions of one step, forward and backward."""
    calls = list_convolutions(_on_meta(cfg), setup.batch_size, setup.size, setup.size)
    return {
        "forward": sum(call.forward_flops for call in calls),
        "backward": sum(call.backward_flops for call in calls),
    }


def summarise(times: dict[str, Figures], flops: dict[str, int], batch_size: int) -> dict[str, Any]:
    """Return readable figures of the medians.

    Args:
        times: contestant -> seconds of its parts, and "peak_mib".
        flops: of the convolutions, "forward" and "backward".
        batch_size: images of one step.
    """
    product, roofline = times["product"], times["roofline"]
    layouts = {name: roofline[f"{name}_forward"] + roofline[f"{name}_backward"] for name in LAYOUTS}
    best = min(layouts, key=layouts.__getitem__)
    total = sum(flops.values())
    figures: dict[str, Any] = {
        "ms": {name: {k: 1000 * v for k, v in row.items() if k != "peak_mib"} for name, row in times.items()},
        "peak_mib": {name: row["peak_mib"] for name, row in times.items() if "peak_mib" in row},
        "images_per_s": {n: batch_size / row["step"] for n, row in times.items() if "step" in row},
        "percent_in_targets_and_losses": 100 * sum(product[part] for part in TARGETS) / product["parts"],
        "conv_gflops": total / 1e9,
        "gflops_per_s": {
            "step": total / 1e9 / product["step"],
            **{f"roofline_{name}": total / 1e9 / seconds for name, seconds in layouts.items()},
        },
        "roofline": {
            "layout": best,
            "step_ms": 1000 * layouts[best],
            "images_per_s": batch_size / layouts[best],
        },
        "percent_of_roofline": 100 * layouts[best] / product["step"],
    }
    for name in ("baseline", "baseline_keeping_memory"):
        if name in times:
            figures[f"speedup_over_{name}"] = times[name]["step"] / product["step"]
            figures[f"most_that_{name}_allows"] = times[name]["step"] / layouts[best]
    return figures


def make_product(setup: StepSetup):  # noqa: ANN201
    """Return what times one training step, and another one part by part."""
    cfg, device = setup.prepare(is_product=True)
    step = make_step(cfg, device)
    schedule = Schedule(cfg.lr, cfg.optimizer["lr"], ITERS_PER_EPOCH, cfg.total_epochs)
    iters = count()
    drawn = setup.draw(cfg)
    assign = assign_ahead(step.criterion)
    batch = drawn if assign is None else replace(drawn, assigned=assign(drawn))
    batch = batch.to(device)

    def turn() -> Figures:
        start = time.perf_counter()
        if assign is not None:
            assign(drawn)
        assign_s = time.perf_counter() - start  # of the loader, for a batch
        synchronize(device)
        start = time.perf_counter()
        iter = next(iters)
        schedule.apply(step.optimizer, iter)
        step.update(iter, batch)
        synchronize(device)
        step_s = time.perf_counter() - start
        parts = time_parts(step, next(iters), batch)
        sums = {"parts": sum(parts.values()), "step": step_s, "assign_in_loader": assign_s}
        return {**parts, **sums, "peak_mib": peak_memory_mib(device)}

    return turn


def make_baseline(setup: StepSetup):  # noqa: ANN201
    """Return the reference's step, in the C library's own way with memory."""
    return _baseline(setup, is_product=False)


def make_baseline_keeping_memory(setup: StepSetup):  # noqa: ANN201
    """Return the reference's step with our way to keep freed memory."""
    return _baseline(setup, is_product=True)


def _baseline(setup: StepSetup, is_product: bool):  # noqa: ANN202
    cfg, device = setup.prepare(is_product)
    step = BaselineStep(cfg, setup.draw(cfg).to(device), device)
    return lambda: {**step(), "peak_mib": peak_memory_mib(device)}


def make_roofline(setup: StepSetup) -> Roofline:
    """Return the convolutions of the step."""
    cfg, device = setup.prepare(is_product=True)
    dtype = DTYPES[cfg.amp.dtype] if cfg.amp.level != "O0" else torch.float32
    calls = list_convolutions(_on_meta(cfg), setup.batch_size, setup.size, setup.size)
    return Roofline(calls, device, dtype)


def _on_meta(cfg: RunConfig) -> torch.nn.Module:
    return build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).to("meta").train()


def make_step(cfg: RunConfig, device: torch.device) -> TrainStep:
    """Return the training step of a config, with fresh weights."""
    return build_step(build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg), cfg, device)


def time_parts(step: TrainStep, iter: int, batch: Batch) -> Figures:
    """Take a step like `TrainStep.update`, with pauses; return the seconds of its parts.

    The backward pass is cut at the network's outputs, to tell the losses' share from the network's.
    """
    precision, device = step.precision, step.device
    times: list[float] = []

    def mark() -> None:
        synchronize(device)
        times.append(time.perf_counter())

    mark()
    precision.zero_grad()
    images = batch.images.to(memory_format=step.memory_format)
    with precision.autocast():
        outputs = step.net(precision.cast_input(images))
    made = [value for value in vars(outputs).values() if isinstance(value, torch.Tensor)]
    mark()
    cut = {
        name: value.detach().requires_grad_() if isinstance(value, torch.Tensor) else value
        for name, value in vars(outputs).items()
    }
    losses = step.criterion(type(outputs)(**cut).float(), batch)
    total = step.guard.watch(losses)
    mark()
    precision.backward(total, step.guard.seed)
    mark()
    grads = [value.grad for value in cut.values() if isinstance(value, torch.Tensor)]
    used = [(value, grad) for value, grad in zip(made, grads, strict=True) if grad is not None]
    torch.autograd.backward([value for value, _ in used], [grad for _, grad in used])
    mark()
    precision.step(step.optimizer, step.grad_clip)
    mark()
    step.guard.remember(iter)
    names = ("forward", *TARGETS, "backward", "optimizer")
    return {name: end - start for name, start, end in zip(names, times, times[1:], strict=False)}
