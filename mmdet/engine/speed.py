"""The options under `speed` of a config file, which decide how a step is carried out, not what it computes.

assemble.py calls `check_speed`, then `build_step` the others, in the order in which they stand here.
"""

import shutil
from collections.abc import Mapping

import torch
from torch import nn

from mmdet.config.types import RunConfig, SpeedConfig
from mmdet.device import shows_overflow, supports_channels_last, supports_fused_optimizer
from mmdet.device_graph import GraphRecorder, find_scaler_question
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
    GraphRecorder.check(device)
    if not supports_fused_optimizer(device):
        _check_own_step(cfg.optimizer, device)
    if world_size > 1 and (cfg.sync_bn or cfg.amp.level != "O2"):
        where = "sync_bn exchanges statistics" if cfg.sync_bn else "amp.level O0 and O1 average gradients"
        raise ConfigError(
            f"speed.graph: {where} between {world_size} ranks in the middle of the backward pass (torch's "
            "DistributedDataParallel and SyncBatchNorm); use amp.level='O2' and sync_bn=False, or "
            "speed.graph=False"
        )
    if cfg.amp.level != "O0":
        _check_scale(cfg, device)
    if cfg.model.get("backbone", {}).get("with_cp"):
        raise ConfigError("speed.graph cannot record model.backbone.with_cp=True; set one of them to False")


def _check_own_step(optimizer_cfg: Mapping[str, object], device: torch.device) -> None:
    """Refuse what precision/sgd.py does not compute: torch reads its numbers on the host."""
    kind = optimizer_cfg["type"]
    if kind != "SGD" or optimizer_cfg.get("nesterov") or optimizer_cfg.get("maximize"):
        file = "torch/optim/sgd.py, _to_scalar" if kind == "SGD" else "torch/optim/adam.py, _get_value"
        raise ConfigError(
            f"speed.graph on device {device.type}: {kind} without fused=True reads its numbers on the host "
            f"({file}); use plain SGD, or set speed.graph=False"
        )


def _check_scale(cfg: RunConfig, device: torch.device) -> None:
    if cfg.amp.backend == "apex":
        raise ConfigError("speed.graph cannot record apex; set amp.backend='native', or speed.graph=False")
    if cfg.amp.dtype != "float16":
        return
    if cfg.amp.loss_scale == "dynamic":
        raise ConfigError(
            "speed.graph: amp.loss_scale must be a number, not 'dynamic', which asks the host by item() "
            f"({find_scaler_question(device)}); or amp.dtype='bfloat16'"
        )
    if not shows_overflow(device):
        raise ConfigError(
            "speed.graph: this chip saturates, so that the host has to read its overflow register by item() "
            f"({find_scaler_question(device)}); set speed.graph=False"
        )


def choose_memory_format(speed: SpeedConfig, device: torch.device) -> torch.memory_format:
    """Return the memory format of weights, images and feature maps.

    Under O2 the weights stay in their flat buffers' order: the convolution reorders these small tensors.
    """
    is_last = supports_channels_last(device) if speed.channels_last is None else speed.channels_last
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
