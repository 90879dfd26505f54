"""The options under `speed` of a config file, which decide how a step is carried out, not what it computes.

assemble.py calls `check_speed`, then `build_step` the others, in the order in which they stand here.
"""

import shutil
from collections.abc import Mapping

import torch
from torch import nn

from mmdet.config.types import RunConfig, SpeedConfig
from mmdet.device import GraphRecorder, supports_channels_last, supports_fused_optimizer, why_not_recordable
from mmdet.errors import ConfigError

FUSED = ("SGD", "Adam", "AdamW")
CAPTURABLE = ("Adam", "AdamW")  # SGD counts no steps: fused, it can be recorded as it is
COMPILERS = ("g++", "clang++", "c++")


def check_speed(cfg: RunConfig, device: torch.device, world_size: int = 1) -> None:
    """Refuse what cannot work, before anything is built.

    Raises:
        ConfigError: two options that exclude each other, or something that the device or machine lacks.
        DeviceError: `speed.graph` on a device without graphs.
    """
    speed = cfg.speed
    if (speed.fused_optimizer or speed.graph) and cfg.optimizer["type"] not in FUSED:
        option = "speed.graph" if speed.graph else "speed.fused_optimizer"
        raise ConfigError(
            f"{option}: optimizer.type = {cfg.optimizer['type']!r} must be {' or '.join(FUSED)}"
        )
    if (speed.fused_optimizer or speed.graph) and cfg.optimizer.get("dampening"):
        raise ConfigError("speed: a fused optimizer starts with zero momentum; optimizer.dampening must be 0")
    if speed.fused_optimizer and not supports_fused_optimizer(device):
        raise ConfigError(
            f"speed.fused_optimizer does not work on device {device.type}; set it to False (amp.level='O2' "
            "already updates all weights as one)"
        )
    if cfg.optimizer.get("fused") and not supports_fused_optimizer(device):
        raise ConfigError(f"optimizer.fused=True does not work on device {device.type}; remove it")
    if speed.channels_last and not supports_channels_last(device):
        raise ConfigError(
            f"speed.channels_last=True does not work on device {device.type}; set it to None or False"
        )
    if speed.compile and device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise ConfigError(
            "speed.compile on a cpu needs a C++ compiler (g++); install one, or set it to False"
        )
    if speed.graph:
        _check_graph(cfg, device, world_size)


def _check_graph(cfg: RunConfig, device: torch.device, world_size: int) -> None:
    amp = cfg.amp
    GraphRecorder.check(device)
    reason = why_not_recordable(device, cfg.optimizer["type"])
    if reason:
        raise ConfigError(f"speed.graph on device {device.type}: {reason}; set speed.graph=False")
    if world_size > 1:
        raise ConfigError(
            f"speed.graph records the step of one rank, this run has {world_size}; set it to False"
        )
    if amp.level != "O0" and amp.backend == "apex":
        raise ConfigError("speed.graph cannot record apex; set amp.backend='native', or speed.graph=False")
    if amp.level != "O0" and amp.dtype == "float16" and amp.loss_scale == "dynamic":
        raise ConfigError(
            "speed.graph: amp.loss_scale must be a number, not 'dynamic'; or amp.dtype='bfloat16'"
        )
    if cfg.model.get("backbone", {}).get("with_cp"):
        raise ConfigError("speed.graph cannot record model.backbone.with_cp=True; set one of them to False")


def choose_memory_format(speed: SpeedConfig, device: torch.device) -> torch.memory_format:
    """Return the memory format of weights, images and feature maps.

    Under O2 the weights stay in their flat buffers' order: the convolution reorders these small tensors.
    """
    is_last = device.type == "cpu" if speed.channels_last is None else speed.channels_last
    return torch.channels_last if is_last else torch.contiguous_format


def fuse_optimizer(
    optimizer_cfg: Mapping[str, object], speed: SpeedConfig, device: torch.device
) -> dict[str, object]:
    """Return the optimizer's dict with what `speed` asks of its class.

    A graph needs a fused one only where the host would otherwise decide about a step; see `step_if`.
    """
    cfg = dict(optimizer_cfg)
    if speed.fused_optimizer or (speed.graph and supports_fused_optimizer(device)):
        cfg["fused"] = True
        if speed.graph and cfg["type"] in CAPTURABLE:
            cfg["capturable"] = True
    return cfg


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give a fused SGD zero momentum before its first step.

    Otherwise it allocates the momentum in that step and, if the step is refused because of an overflow,
    leaves it uninitialised for the next.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group.get("fused") and group["momentum"]:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def compile_network(net: nn.Module, speed: SpeedConfig) -> nn.Module:
    """Return the network, compiled at its first step if asked for; its weights and their names stay."""
    return torch.compile(net) if speed.compile else net  # type: ignore[return-value]
