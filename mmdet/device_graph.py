"""Graphs of a device's work, CUDA's and NPU's: how they are recorded, and what of a loss scale forbids it."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import torch

from mmdet.device import BACKENDS, Backends
from mmdet.errors import DeviceError

Outside = Callable[[Callable[[], object]], None]


class GraphRecorder:
    """Records work on a device as a graph and repeats it, by torch's rules for CUDA graphs, also NPUGraph's.

    Work to be recorded runs first on the stream it will be recorded on (`warm_up`): lazily made state must
    exist before, and autograd remembers streams. All graphs share one pool of memory: what one computed is
    copied away before the next is repeated, and what lasts (weights, momentum) lies outside.
    """

    def __init__(self, device: torch.device, backends: Backends = BACKENDS) -> None:
        self.check(device)
        self._api = backends.api(device.type)
        self._device = device
        self._stream = self._api.Stream(device)
        self._pool = self._api.graph_pool_handle()

    @staticmethod
    def check(device: torch.device) -> None:
        """Raise DeviceError if the device has no graphs."""
        if device.type not in ("cuda", "npu"):
            raise DeviceError(
                f"speed.graph: device {device.type} cannot record a step; set it to False, or pass "
                "--device cuda or npu."
            )

    def warm_up(self, work: Callable[[], Any]) -> Any:
        """Run the work on the recording stream and return its result."""
        current = self._api.current_stream(self._device)
        self._stream.wait_stream(current)
        with self._api.stream(self._stream):
            result = work()
        current.wait_stream(self._stream)
        return result

    def record(self, work: Callable[[Outside], Any]) -> tuple[Callable[[], None], Any]:
        """Record the work without running it.

        Args:
            work: gets a function `outside`; what it hands to that (an exchange between ranks) stays out of
                the graph: called not now but at each repetition, between the parts before and after it.

        Returns:
            What repeats it; and the work's result, whose tensors each repetition overwrites.
        """
        parts: list[Callable[[], object]] = []
        with contextlib.ExitStack() as recording:

            def begin() -> None:
                graph = self._api.NPUGraph() if self._device.type == "npu" else self._api.CUDAGraph()
                # thread_local: the loader's thread that pins batches may allocate meanwhile.
                recording.enter_context(
                    self._api.graph(
                        graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                    )
                )
                parts.append(graph.replay)

            def outside(call: Callable[[], object]) -> None:
                recording.close()
                parts.append(call)
                begin()

            begin()
            result = work(outside)

        def repeat() -> None:
            for part in parts:
                part()

        return repeat, result


def find_scaler_question(device: torch.device, backends: Backends = BACKENDS) -> str:
    """Return file:line where the device's GradScaler asks the host whether to take a step."""
    scaler = backends.torch_npu().npu.amp.GradScaler if device.type == "npu" else torch.amp.GradScaler
    method = scaler._maybe_opt_step
    lines, first = inspect.getsourcelines(method)
    line = next((n for n, text in enumerate(lines, first) if ".item()" in text), first)
    return f"{inspect.getfile(method).partition('site-packages/')[2]}:{line}"
