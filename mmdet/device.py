"""The only file, with device_npu.py and device_graph.py, that knows which accelerators exist.

Everything else uses `tensor.device`.

`pick_device` chooses and prepares the device of this process. The other functions answer questions
about a device: how to wait for it, how much memory it used, which loss scaler it has. The accelerator
modules come from a `Backends` object, so that a stand-in can drive the NPU branches on a CPU.
"""

import contextlib
import logging
import os
import random
import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmdet.device_npu import NPU_CHIPS, chip_of, import_torch_npu
from mmdet.errors import ConfigError, DeviceError, unknown_name
from mmdet.process import keep_freed_memory

logger = logging.getLogger(__name__)

DEVICE_CHOICES = ("auto", "npu", "cuda", "cpu")
DIST_BACKEND = {"npu": "hccl", "cuda": "nccl", "cpu": "gloo"}


@dataclass(frozen=True)
class Backends:
    """Where the accelerator modules come from; a test passes functions that return stand-ins.

    `make_device` is one of them: torch.device knows the type npu only once torch_npu is imported.
    """

    torch_npu: Callable[[], Any] = import_torch_npu
    cuda: Callable[[], Any] = lambda: torch.cuda
    make_device: Callable[[str, int], torch.device] = torch.device

    def api(self, device_type: str) -> Any:
        """Return the module with set_device, synchronize, ... of a device type; None for the CPU."""
        if device_type == "npu":
            return self.torch_npu().npu
        return self.cuda() if device_type == "cuda" else None


BACKENDS = Backends()


def pick_device(
    requested: str = "auto", local_rank: int = 0, *, first_npu: int = 0, backends: Backends = BACKENDS
) -> torch.device:
    """Return this process's device and make it current.

    Args:
        requested: "npu", "cuda", "cpu", "auto" (the first present, in that order), or a device with
            its index such as "cuda:1", which then does not depend on local_rank.
        local_rank: this process's number on this machine; its card, counted from the first visible.
        first_npu: added to local_rank on an NPU (the Ascend scripts' ASCEND_DEVICE_ID).
        backends: where the accelerator modules come from.

    Raises:
        DeviceError: a device asked for by name is absent (why is in the message), or there are more
            processes than cards. Only "auto" may choose the CPU.
    """
    kind, _, index_text = requested.partition(":")
    if kind not in DEVICE_CHOICES or (index_text and not index_text.isdigit()):
        raise ConfigError(unknown_name("device", requested, DEVICE_CHOICES))
    if kind == "auto":
        kind = _first_present(backends)
    if kind == "cpu":
        keep_freed_memory()
        return torch.device("cpu")
    api = backends.api(kind)
    count = _device_count(kind, api)
    index = int(index_text) if index_text else local_rank + (first_npu if kind == "npu" else 0)
    if index >= count:
        raise DeviceError(
            f"device {kind}:{index} (local rank {local_rank}) does not exist: {count} visible. Start "
            f"at most {count} processes per machine, or make more cards visible."
        )
    device = backends.make_device(kind, index)
    api.set_device(device)
    set_npu_options(device, backends=backends)  # fp32 means fp32
    return device


def _first_present(backends: Backends) -> str:
    # After torch_npu's transfer_to_npu the CUDA questions are answered for the NPU: ask for npu first.
    try:
        if backends.api("npu").is_available():
            return "npu"
        logger.warning("device auto: torch_npu is installed but finds no NPU")
    except DeviceError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):  # installed, but broken: say so
            logger.warning("device auto: no NPU. %s", error)
    return "cuda" if backends.cuda().is_available() else "cpu"


def _device_count(kind: str, api: Any) -> int:
    count = int(api.device_count()) if api.is_available() else 0
    if count:
        return count
    if kind == "npu":
        why = "torch_npu finds no NPU. Does npu-smi info list one? Is ASCEND_RT_VISIBLE_DEVICES right?"
    elif not torch.version.cuda:
        why = f"this torch ({torch.__version__}) was built without CUDA. Install a CUDA build."
    else:
        why = "torch finds no GPU. Does nvidia-smi list one? Is CUDA_VISIBLE_DEVICES right?"
    raise DeviceError(f"device {kind}: {why} Or pass --device cpu.")


def set_npu_options(
    device: torch.device,
    hf32: bool = False,
    internal_format: bool | None = None,
    jit_compile: bool | None = None,
    backends: Backends = BACKENDS,
) -> None:
    """Set how an NPU computes; any other device has none of it. Call after `pick_device`.

    Args:
        device: of this process.
        hf32: convolutions and matrix products of fp32 may drop 12 bits of the mantissa (A2). The vendor's
            default is True for convolutions.
        internal_format: results of convolutions stay in NC1HWC0 for the next operator. None: the vendor's
            default, off on A2 and A3, on on 910A and 310P.
        jit_compile: compile operators per shape. None: the vendor's default, the same as above.
        backends: where the accelerator modules come from.
    """
    if device.type != "npu":
        return
    api = backends.api("npu")
    api.conv.allow_hf32 = api.matmul.allow_hf32 = hf32
    if internal_format is not None:
        api.config.allow_internal_format = internal_format
    if jit_compile is not None:
        api.set_compile_mode(jit_compile=jit_compile)


def npu_chip(device: torch.device, backends: Backends = BACKENDS) -> str:
    """Return the kind of Ascend chip, one of NPU_CHIPS, by its name; "" for any other device."""
    if device.type != "npu":
        return ""
    name = str(backends.api("npu").get_device_name(device))
    return chip_of(name)


def check_chip(chip: str, device: torch.device, backends: Backends = BACKENDS) -> None:
    """Refuse an unknown kind of chip, or one that is not the device's.

    Raises:
        ConfigError: either.
    """
    if chip not in NPU_CHIPS:
        raise ConfigError(unknown_name("chip", chip, NPU_CHIPS))
    found = npu_chip(device, backends)
    if found not in ("", chip):
        raise ConfigError(
            f"chip {chip}: the card here is a {found} ({backends.api('npu').get_device_name(device)})"
        )


def synchronize(device: torch.device, backends: Backends = BACKENDS) -> None:
    """Wait until the device has done all its work; nothing to wait for on a CPU."""
    api = backends.api(device.type)
    if api is not None:
        api.synchronize(device)


def peak_memory_mib(device: torch.device, backends: Backends = BACKENDS) -> float:
    """Return the most memory tensors took on the device (CPU: the process's peak resident size)."""
    api = backends.api(device.type)
    if api is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return api.max_memory_allocated(device) / 2**20


def free_memory_mib(device: torch.device, backends: Backends = BACKENDS) -> float:
    """Return the memory of an accelerator that nobody uses."""
    return backends.api(device.type).mem_get_info(device)[0] / 2**20


def reset_peak_memory(device: torch.device, backends: Backends = BACKENDS) -> None:
    """Let `peak_memory_mib` of an accelerator count from here."""
    backends.api(device.type).reset_peak_memory_stats(device)


def autocast(
    device: torch.device, dtype: torch.dtype, enabled: bool = True
) -> contextlib.AbstractContextManager:
    """Return the context in which operators choose between fp32 and `dtype` by themselves."""
    return torch.autocast(device.type, dtype=dtype, enabled=enabled)


def make_grad_scaler(device: torch.device, init_scale: float, backends: Backends = BACKENDS) -> Any:
    """Return the device's own GradScaler.

    On NPU that is torch_npu's, which knows the overflow register (`shows_overflow`). It is made dynamic even
    for a static scale, because its static mode takes every step, also an overflowed one; a static scale is
    kept by `scaler.update(new_scale=scale)`. It reads the device two or three times per step.
    """
    if device.type == "npu":
        return backends.torch_npu().npu.amp.GradScaler(init_scale=init_scale, dynamic=True)
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.type, init_scale=init_scale)
    if device.type == "cuda":  # torch < 2.3
        return torch.cuda.amp.GradScaler(init_scale=init_scale)
    raise DeviceError(f"device {device.type}: loss scaling needs torch >= 2.3, this is {torch.__version__}.")


def shows_overflow(device: torch.device, backends: Backends = BACKENDS) -> bool:
    """Say whether an overflow gives Inf, so that gradients tell of it.

    910A and 310P saturate, A2 with INF_NAN_MODE_FORCE_DISABLE=1: there only the overflow register tells.
    """
    return device.type != "npu" or bool(backends.torch_npu().npu.utils.is_support_inf_nan())


def make_profiler(
    device: torch.device, folder: Path, first_step: int, last_step: int, backends: Backends = BACKENDS
) -> Any:
    """Return the device's own profiler, which writes a trace of some steps into `folder`.

    Call start() before the first step and step() after each; steps are counted from 1, first_step >= 2.
    stop() ends an unfinished recording.
    """
    profiler: Any = torch.profiler
    options: dict[str, Any] = {}
    if device.type == "npu":  # its default level leaves out what the AI Cores did
        profiler = backends.torch_npu().profiler
        level, metrics = profiler.ProfilerLevel.Level1, profiler.AiCMetrics.PipeUtilization
        config = profiler._ExperimentalConfig(profiler_level=level, aic_metrics=metrics)
        options["experimental_config"] = config
    active = last_step - first_step + 1
    return profiler.profile(
        schedule=profiler.schedule(skip_first=first_step - 2, wait=0, warmup=1, active=active, repeat=1),
        on_trace_ready=profiler.tensorboard_trace_handler(str(folder), worker_name="rank0"),
        record_shapes=True,
        **options,
    )


def supports_bf16(device: torch.device, backends: Backends = BACKENDS) -> bool:
    """Say whether the device computes in bfloat16."""
    api = backends.api(device.type)
    return True if api is None else bool(api.is_bf16_supported())


def supports_channels_last(device: torch.device) -> bool:
    """Say whether tensors can lie in the order (B, H, W, C); torch_npu refuses it."""
    return device.type != "npu"


def supports_fused_optimizer(device: torch.device) -> bool:
    """Say whether torch's optimizers with fused=True work.

    On NPU (torch_npu 2.13) the GradScaler hands itself to `optimizer.step`, which torch's fused optimizers
    refuse, and Adam's fused kernel calls the CPU.
    """
    return device.type != "npu"


def pin_options(device: torch.device) -> dict[str, Any]:
    """Return the arguments of DataLoader by which batches lie in page-locked memory, for a faster copy.

    Up to torch 2.6 `pin_memory=True` alone looks for CUDA and pins nothing for an NPU.
    """
    if device.type == "cpu":
        return {}
    named = {"pin_memory_device": device.type} if device.type == "npu" and _torch_release() < (2, 7) else {}
    return {"pin_memory": True, **named}


def binds_process_group(device: torch.device) -> bool:
    """Say whether `init_process_group(device_id=...)` takes the device: CUDA from torch 2.3, NPU from 2.7."""
    first = {"cuda": (2, 3), "npu": (2, 7)}.get(device.type)
    return first is not None and _torch_release() >= first


def _torch_release() -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state(device: torch.device, backends: Backends = BACKENDS) -> dict[str, Any]:
    """Return the state of all random generators, as tensors and plain values only (for a checkpoint)."""
    kind, keys, *rest = np.random.get_state()  # type: ignore[misc]
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    api = backends.api(device.type)
    if api is not None:
        state["device"] = api.get_rng_state(device)
    return state


def set_rng_state(device: torch.device, state: dict[str, Any], backends: Backends = BACKENDS) -> None:
    """Restore what `rng_state` returned; the device's own part only if both were the same kind."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    api = backends.api(device.type)
    if api is not None and "device" in state:
        api.set_rng_state(state["device"], device)


def set_deterministic(is_on: bool) -> None:
    """Choose repeatable kernels where there are any; an operator that has none warns.

    Call before the device is used: the matrix library and the collectives read their setting once.
    """
    if is_on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("HCCL_DETERMINISTIC", "true")
    torch.use_deterministic_algorithms(is_on, warn_only=True)
    torch.backends.cudnn.deterministic = is_on
    if is_on:
        torch.backends.cudnn.benchmark = False


def device_summary(device: torch.device, backends: Backends = BACKENDS) -> str:
    """Return one line for the log: the device's name and the versions that matter."""
    versions = f"torch {torch.__version__}"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads), {versions}"
    api = backends.api(device.type)
    if device.type == "npu":
        versions += f", torch_npu {getattr(backends.torch_npu(), '__version__', '?')}"
    else:
        versions += f", CUDA {torch.version.cuda}"
    return f"{device} ({api.get_device_name(device)}), {versions}"
