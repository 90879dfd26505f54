"""What tools/card_report.py measures, inside the process of a part; `setup` is its JSON object."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmdet.config import RunConfig, load_config
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.device import peak_memory_mib, pick_device, pin_options, supports_bf16, synchronize
from mmdet.engine.speed import check_speed
from mmdet.engine.step import TrainStep, build_step
from mmdet.errors import MMDetError
from mmdet.models.build import build_detector
from mmdet.testing.audit_step import draw_batch, with_amp

FACES, SLOTS = 10, 32
COMPARED_STEPS, WARM_UP, TIMED_STEPS = 5, 5, 20
VARIANTS: dict[str, dict[str, bool]] = {
    "plain": {"channels_last": False},  # the others as the trainer would, on a CUDA card channels_last
    "channels_last": {"channels_last": True},
    "graph": {"graph": True},
    "compile": {"compile": True},
}


def device_of(setup: dict[str, Any]) -> torch.device:
    """Return the device to measure, current in this process."""
    return pick_device(setup["device"])


def compare_levels(setup: dict[str, Any]) -> dict[str, Any]:
    """Return for each level how far the losses of the first steps are from the CPU's at O0, relatively."""
    device = device_of(setup)
    size = min(setup["size"], 320)
    batches = [draw_batch(2, size, FACES, SLOTS, seed=seed) for seed in range(COMPARED_STEPS)]
    expected = _losses(_config(setup, "O0"), torch.device("cpu"), batches)
    levels = [("O0", "float16"), ("O1", "float16"), ("O2", "float16")]
    levels += [("O2", "bfloat16")] if supports_bf16(device) else []
    found = {}
    for level, dtype in levels:
        losses = _losses(with_amp(_config(setup, level), level, dtype), device, batches)
        found[f"{level} {dtype}"] = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
    return {"largest relative difference of the loss": found}


def time_steps(setup: dict[str, Any], variant: str) -> dict[str, float] | str:
    """Return milliseconds and images per second of a step, O2 on a card, or why the variant is left out."""
    device = device_of(setup)
    cfg = _config(setup, "O2" if device.type != "cpu" else "O0")
    cfg = replace(cfg, speed=replace(cfg.speed, **VARIANTS[variant]))
    try:
        check_speed(cfg, device)
        batch = draw_batch(setup["batch_size"], setup["size"], FACES, SLOTS)
        step_s = _time_step(_build(cfg, device), batch)
    except (MMDetError, RuntimeError) as error:
        return f"left out: {str(error).splitlines()[0]}"
    rate = setup["batch_size"] / step_s
    return {"ms": 1000 * step_s, "images/s": rate, "peak MiB": peak_memory_mib(device)}


def time_copies(setup: dict[str, Any]) -> dict[str, Any]:
    """Return GB/s of copying images to the device, by dtype and kind of memory."""
    device = device_of(setup)
    shape = (setup["batch_size"], 3, setup["size"], setup["size"])
    found = {}
    for dtype in (torch.float32, torch.uint8):
        images = torch.zeros(shape, dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        found[f"{name} ordinary"] = _copy_rate(images, device)
        if pin_options(device):
            found[f"{name} page-locked"] = _copy_rate(images.pin_memory(), device)
    return {"GB/s": found}


def train_command(setup: Any, data: Path) -> list[str]:
    """Return the command of a short training with the model of `setup` on drawn faces."""
    return [
        "-m", "mmdet", "train", setup.config, "--device", setup.device, "--work-dir", str(setup.out / "run"),
        "--data-root", str(data), "--perf", "--max-iters", str(setup.iters), "--no-validate",
        "--cfg-options", f"data.samples_per_gpu={min(setup.batch_size, 32)}",
    ]  # fmt: skip


def _config(setup: dict[str, Any], level: str) -> RunConfig:
    return with_amp(load_config(setup["config"]), level, None)


def _build(cfg: RunConfig, device: torch.device) -> TrainStep:
    torch.manual_seed(0)
    return build_step(build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg), cfg, device)


def _assigned(step: TrainStep, batch: Batch) -> Batch:
    assign = assign_ahead(step.criterion)
    return (batch if assign is None else replace(batch, assigned=assign(batch))).to(step.device)


def _losses(cfg: RunConfig, device: torch.device, batches: list[Batch]) -> list[float]:
    step = _build(replace(cfg, speed=replace(cfg.speed, channels_last=False)), device)
    losses = [step.update(iter, _assigned(step, batch)) for iter, batch in enumerate(batches)]
    return [sum(float(value) for value in values.values()) for values in losses]


def _time_step(step: TrainStep, batch: Batch) -> float:
    """Return the seconds of one step, over some of them after others."""
    batch = _assigned(step, batch)
    num_steps = TIMED_STEPS if step.device.type != "cpu" else 2
    for iter in range(WARM_UP if num_steps > 2 else 1):
        step.update(iter, batch)
    synchronize(step.device)
    start = time.perf_counter()
    for iter in range(num_steps):
        step.update(WARM_UP + iter, batch)
    synchronize(step.device)
    return (time.perf_counter() - start) / num_steps


def _copy_rate(images: torch.Tensor, device: torch.device) -> float:
    for _ in range(2):  # the first one prepares the device
        start = time.perf_counter()
        for _ in range(10):
            images.to(device, non_blocking=True, copy=True)
        synchronize(device)
        seconds = time.perf_counter() - start
    return 10 * images.numel() * images.element_size() / seconds / 1e9
