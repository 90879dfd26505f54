"""Record every operator of a piece of code and say what an NPU does with it.

    with Recorder(operators(), torch.device("cpu")) as recorder:
        train_step(...)
    recorder.calls          # in order: operator, tensors, verdict, place

Two recorders whose `signature()` is equal ran the same operators on the same shapes: the proof that a
step's shapes do not depend on the data.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from mmdet.testing.ascend_ops import FORBIDDEN, SYNC, NpuOperators

PACKAGE = Path(__file__).resolve().parents[1]
# Where waiting for the device is the purpose: the loss scaler asks whether to take the step.
SCALER_FILES = ("torch/amp/grad_scaler.py", "torch_npu/npu/amp/grad_scaler.py")
OPTIMIZER_FILES = ("torch/optim/",)  # Adam's step count is a tensor on the host: reading it waits for nothing
COPIES = ("aten::_to_copy", "aten::copy_")
HOST_READS: dict[Any, str] = {
    torch.Tensor.cpu: "Tensor.cpu",
    torch.Tensor.numpy: "Tensor.numpy",
    torch.Tensor.tolist: "Tensor.tolist",
    torch.Tensor.__array__: "Tensor.__array__",
}


class Call(NamedTuple):
    """One operator call.

    Attributes:
        name: such as "aten::add.Tensor".
        tensors: dtype and shape of each tensor argument.
        verdict: see ascend_ops.
        place: file:line for a forbidden call ("backward" when autograd made it), else "".
    """

    name: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    verdict: str
    place: str


@dataclass(frozen=True)
class Row:
    """All calls of one operator with one verdict."""

    name: str
    verdict: str
    count: int
    dtypes: tuple[str, ...]
    num_shapes: int
    places: tuple[str, ...]


class Recorder(TorchDispatchMode):
    """Records the operators that run inside `with`, backward included.

    Args:
        npu: what the card can do.
        device: where the audited tensors are. On a "cpu" the recorder keeps account of what would be on
            a card: `on_card` and everything computed from it.
        on_card: weights and inputs; None means that every tensor counts.
    """

    def __init__(
        self, npu: NpuOperators, device: torch.device, on_card: Iterable[torch.Tensor] | None = None
    ) -> None:
        super().__init__()
        self.npu = npu
        self.device = device
        self.calls: list[Call] = []
        self._on_card = None if on_card is None else WeakIdKeyDictionary(dict.fromkeys(on_card, True))
        self._reads = _HostReads(self)

    def __enter__(self) -> "Recorder":
        """Start recording."""
        if self.device.type == "cpu":
            self._reads.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop recording."""
        super().__exit__(kind, error, trace)
        if self.device.type == "cpu":
            self._reads.__exit__(kind, error, trace)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Note one call and let it run."""
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
        if self._is_on_host_only(tensors, result):
            return result
        verdict = self.npu.verdict(operator, args)
        if self._on_card is not None and any(t in self._on_card for t in tensors):
            results = [v for v in tree_leaves(result) if isinstance(v, torch.Tensor)]
            written = [t for t in tensors if operator._schema.is_mutable]
            self._on_card.update(dict.fromkeys([*results, *written], True))
        if self._copies_to_host(operator.name().partition(".")[0], args, result):
            verdict = SYNC
        self.note(operator.name(), tensors, verdict)
        return result

    def note(self, name: str, tensors: list[torch.Tensor], verdict: str) -> None:
        """Append a call; the loss scaler's own questions are no host sync."""
        place = ""
        if verdict in FORBIDDEN:
            is_read_on_host = self._on_card is not None and not any(t in self._on_card for t in tensors)
            if verdict == SYNC and (is_read_on_host or _is_inside(SCALER_FILES, OPTIMIZER_FILES)):
                return
            place = _find_place()
        described = tuple((str(t.dtype).removeprefix("torch."), tuple(t.shape)) for t in tensors)
        self.calls.append(Call(name, described, verdict, place))

    def _is_on_host_only(self, tensors: list[torch.Tensor], result: object) -> bool:
        if self.device.type == "cpu":
            return False
        everything = tensors + [v for v in tree_leaves(result) if isinstance(v, torch.Tensor)]
        return all(t.device.type == "cpu" for t in everything)

    def _copies_to_host(self, name: str, args: tuple, result: object) -> bool:
        if name not in COPIES or self.device.type == "cpu" or not isinstance(result, torch.Tensor):
            return False
        source = args[0] if name == COPIES[0] else args[1]
        return result.device.type == "cpu" and source.device.type == self.device.type

    def signature(self) -> list[tuple]:
        """Return operators and shapes in order."""
        return [(call.name, call.tensors) for call in self.calls]

    def offenders(self) -> list[Call]:
        """Return the calls a training step must not contain."""
        return [call for call in self.calls if call.verdict in FORBIDDEN]

    def rows(self) -> list[Row]:
        """Return the table: offending operators first, then by count."""
        groups: dict[tuple[str, str], list[Call]] = {}
        for call in self.calls:
            groups.setdefault((call.name, call.verdict), []).append(call)
        rows = [_row(name, verdict, calls) for (name, verdict), calls in groups.items()]
        return sorted(rows, key=lambda r: (r.verdict not in FORBIDDEN, -r.count, r.name))


def _row(name: str, verdict: str, calls: list[Call]) -> Row:
    return Row(
        name=name,
        verdict=verdict,
        count=len(calls),
        dtypes=tuple(sorted({dtype for call in calls for dtype, _ in call.tensors})),
        num_shapes=len({call.tensors for call in calls}),
        places=tuple(place for place, _ in Counter(c.place for c in calls if c.place).most_common()),
    )


class _HostReads(TorchFunctionMode):
    """On CPU tensors reading them dispatches nothing; catch the Python calls instead."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = HOST_READS.get(function)
        if function is torch.Tensor.to and "cpu" in [
            v for v in (*args[1:], *kwargs.values()) if type(v) is str
        ]:
            name = "Tensor.to(cpu)"
        if name:
            self.recorder.note(name, [args[0]], SYNC)
        return function(*args, **kwargs)


def _frames() -> Iterator[tuple[str, int]]:
    frame = sys._getframe(2)
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]


def _is_inside(*groups: tuple[str, ...]) -> bool:
    """Say whether the nearest frame outside torch's plumbing belongs to one of the files."""
    parts = [part for group in groups for part in group]
    return any(part in filename for filename, _ in _frames() for part in parts)


def _find_place() -> str:
    """Return file:line of the nearest frame in the package, or outside of torch; "backward" without one."""
    for filename, line in _frames():
        path = Path(filename)
        if "torch/autograd" in filename:
            return "backward"
        if "/torch/" in filename or "/torch_npu/" in filename or PACKAGE / "testing" in path.parents:
            continue
        name = path.relative_to(PACKAGE.parent) if PACKAGE in path.parents else path.name
        return f"{name}:{line}"
    return "backward"
