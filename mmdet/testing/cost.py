"""Predict how long a recorded step takes on a card: memory traffic, convolutions, AI CPU, host.

Every number in `Assumptions` is an estimate; none was measured on a card. Expect a factor of two.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import prod

import torch

from mmdet.errors import ConfigError, unknown_name
from mmdet.testing.placement import AI_CPU, HOST, Call, TensorInfo, placement_of

CUBE = ("convolution", "_convolution", "convolution_backward", "mm", "addmm", "bmm")
NORMS = ("native_batch_norm", "native_batch_norm_backward", "native_group_norm", "native_group_norm_backward")
PARTS = {  # operators by the part of a report they belong to; the first that holds the name counts
    "convolutions": CUBE,
    "batch norm": NORMS[:2],
    "group norm": NORMS[2:],
    "ReLU": ("relu", "threshold_backward"),
    "casts": ("_to_copy", "copy"),
    "pools": (
        "max_pool2d_with_indices", "max_pool2d_with_indices_backward", "avg_pool2d", "avg_pool2d_backward",
        "upsample_nearest2d", "upsample_nearest2d_backward",
    ),
    "adds": ("add",),
}  # fmt: skip
LAYOUT, OTHERS = "layout changes", "others"


@dataclass(frozen=True)
class Assumptions:
    """What a card is taken to do.

    Attributes:
        memory_gb_s: what elementwise kernels reach, 10^9 bytes per second.
        layout_gb_s: what copies between layouts reach, whose accesses are scattered.
        cube_tflops: what convolutions of such few channels reach in fp16, 10^12 operations per second.
        kernel_us: least time of a kernel on the card.
        launch_us: of the host, per launch; a step takes at least the sum.
        ai_cpu_us: an operator on the AI CPU, besides its bytes.
        ai_cpu_gb_s: what it reaches.
        host_us: an operator on the host, besides its bytes: the pipeline stops.
        bus_gb_s: between host and card.
        private_format: convolutions read and write NC1HWC0 without changing the layout before and after.
    """

    memory_gb_s: float
    layout_gb_s: float
    cube_tflops: float
    kernel_us: float = 3.0
    launch_us: float = 12.0
    ai_cpu_us: float = 200.0
    ai_cpu_gb_s: float = 1.0
    host_us: float = 500.0
    bus_gb_s: float = 12.0
    private_format: bool = False


# About 60 % (layouts: 40 %) of the data sheets' bandwidth (910A 1.2, A2 1.6, 310P 0.2 TB/s), 30 % of the
# fp16 peak.
ASSUMED = {
    "910A": Assumptions(memory_gb_s=700, layout_gb_s=450, cube_tflops=75),
    "910B": Assumptions(memory_gb_s=1000, layout_gb_s=600, cube_tflops=95),
    "310P": Assumptions(memory_gb_s=120, layout_gb_s=80, cube_tflops=40),
}


@dataclass(frozen=True)
class Forecast:
    """A predicted step.

    Attributes:
        parts_ms: of the card, by part.
        device_ms: their sum.
        launch_ms: what the host needs to start the kernels; the step takes the longer of the two.
    """

    parts_ms: dict[str, float]
    device_ms: float
    launch_ms: float

    @property
    def step_ms(self) -> float:
        """The longer one of card and host."""
        return max(self.device_ms, self.launch_ms)


def assume(chip: str, settings: Iterable[str] = ()) -> Assumptions:
    """Return a chip's assumptions with some replaced, each given as "name=value".

    Raises:
        ConfigError: a name is unknown, or a value is no number above 0.
    """
    known = {field.name for field in fields(Assumptions)}
    changes: dict[str, float] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ConfigError(unknown_name("assumption", name, sorted(known)))
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if value < 0 or (value == 0 and name != "private_format"):
            raise ConfigError(f"assumption {name}={text}: give a number above 0")
        changes[name] = value
    return replace(ASSUMED[chip], **changes)  # type: ignore[arg-type]


def forecast(calls: Iterable[Call], chip: str, assumed: Assumptions) -> Forecast:
    """Predict the time of a recorded step."""
    parts: dict[str, float] = {}
    launches = [call for call in calls if call.launches]
    for call in launches:
        unit = placement_of(call, chip).unit
        part = unit if unit in (AI_CPU, HOST) else _part(call.base)
        parts[part] = parts.get(part, 0.0) + 1e3 * _seconds(call, unit, assumed)
        if part == "convolutions" and not assumed.private_format:
            parts[LAYOUT] = parts.get(LAYOUT, 0.0) + 1e3 * _layout_bytes(call) / (assumed.layout_gb_s * 1e9)
    parts = dict(sorted(parts.items(), key=lambda item: -item[1]))
    return Forecast(parts, sum(parts.values()), len(launches) * assumed.launch_us * 1e-3)


def _part(base: str) -> str:
    return next((part for part, names in PARTS.items() if base in names), OTHERS)


def _seconds(call: Call, unit: str, assumed: Assumptions) -> float:
    num_bytes = sum(t.num_bytes for t in (*call.inputs, *call.outputs))
    if unit == AI_CPU:
        return assumed.ai_cpu_us * 1e-6 + num_bytes / (assumed.ai_cpu_gb_s * 1e9)
    if unit == HOST:
        return assumed.host_us * 1e-6 + num_bytes / (assumed.bus_gb_s * 1e9)
    if call.base in NORMS:  # statistics first, then the values: the feature maps are read twice
        num_bytes += sum(t.num_bytes for t in call.inputs if len(t.shape) == 4)
    seconds = max(num_bytes / (assumed.memory_gb_s * 1e9), assumed.kernel_us * 1e-6)
    return max(seconds, _operations(call) / (assumed.cube_tflops * 1e12))


def _operations(call: Call) -> float:
    """Return the multiplications and additions of a convolution or a matrix product, else 0."""
    if call.base not in CUBE:
        return 0.0
    if call.base == "convolution_backward":
        grad, _, weight = call.inputs[:3]
        return 2 * 2 * prod(grad.shape) * prod(weight.shape[1:])
    weight = call.inputs[1]
    per_output = prod(weight.shape[1:]) if "convolution" in call.base else call.inputs[-1].shape[-2]
    return 2 * prod(call.outputs[0].shape) * per_output


def _layout_bytes(call: Call) -> float:
    """Return what the copies between NCHW and NC1HWC0 before and after a convolution read and write.

    Forward: input and output. Backward: gradient, input and the input's gradient. NC1HWC0 has 16 channels
    in a group.
    """
    maps = [t for t in (*call.inputs, *call.outputs) if len(t.shape) == 4]
    weight = call.inputs[2] if call.base == "convolution_backward" else call.inputs[1]
    return sum(t.num_bytes + _padded_bytes(t) for t in maps if t.shape != weight.shape)


def _padded_bytes(tensor: TensorInfo) -> int:
    batch, channels, height, width = tensor.shape
    padded = -(-channels // 16) * 16
    return batch * padded * height * width * getattr(torch, tensor.dtype).itemsize
