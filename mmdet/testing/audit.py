"""Record every operator of a piece of code and say what an Ascend card does with it.

    with Recorder(operators(), META) as recorder:
        train_step(...)
    recorder.calls          # in order: operator, tensors, verdict, place

On META nothing is computed: tensors have shapes and dtypes only, so the real batch and image size cost no
time. What needs values (`item`, `nonzero`, masks) is recorded and carried out on ones. On a card, or a
simulated one, the code runs as it is.

Two recorders whose `signature()` is equal ran the same operators on the same shapes: the proof that a
step's shapes do not depend on the data.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from mmdet.testing.ascend_ops import DYNAMIC, FALLBACK, SYNC, NpuOperators
from mmdet.testing.placement import (
    CHIPS,
    HOST,
    OFFENCES,
    Call,
    TensorInfo,
    arguments_of,
    describe,
    placement_of,
)

META = torch.device("meta")
PACKAGE = Path(__file__).resolve().parents[1]
# Where waiting for the device is the purpose: the loss scaler asks whether to take the step.
SCALER_FILES = ("torch/amp/grad_scaler.py", "torch_npu/npu/amp/grad_scaler.py")
SCALER_SYNC = "loss scaler"  # the verdict on its questions: reported, no offence
NO_CAPTURE = (SYNC, DYNAMIC, FALLBACK, SCALER_SYNC)  # what a recorded graph must not contain
COPIES = ("aten::_to_copy", "aten::copy_")
# These make or describe memory; nothing is started on the card.
NO_LAUNCH = (
    "_unsafe_view empty empty_like empty_strided new_empty new_empty_strided lift_fresh set_ resize_ "
    "record_stream _local_scalar_dense _reshape_alias"
).split()


@dataclass(frozen=True)
class Row:
    """All calls of one operator that run in one place on a chip.

    Attributes:
        name: such as "aten::add.Tensor".
        unit: AI Core, AI CPU, host, ... or the offence.
        count: calls.
        dtypes: of all tensors.
        num_shapes: different sets of shapes.
        num_bytes: read and written by all calls.
        places: file:line, the most frequent first, for offences.
    """

    name: str
    unit: str
    count: int
    dtypes: tuple[str, ...]
    num_shapes: int
    num_bytes: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What a recording costs on a chip.

    Attributes:
        launches: calls that start work on the card; views are none.
        units: launches by place of computation.
        offences: calls that a training step must not contain, by reason.
        int64: launches with an int64 tensor.
        unaligned: launches with a tensor whose last axis is no multiple of 32 bytes.
        num_bytes: read and written by the launches.
        scaler_syncs: questions of the loss scaler, which wait for the card on purpose.
    """

    launches: int
    units: dict[str, int]
    offences: dict[str, int]
    int64: int
    unaligned: int
    num_bytes: int
    scaler_syncs: int


class Recorder(TorchDispatchMode):
    """Records the operators that run inside `with`, backward included.

    Args:
        npu: what torch_npu implements.
        device: where the audited tensors are; what happens on the host alone is not recorded.
    """

    def __init__(self, npu: NpuOperators, device: torch.device) -> None:
        super().__init__()
        self.npu = npu
        self.device = device
        self.calls: list[Call] = []
        self._whole = _Whole(self)

    def __enter__(self) -> "Recorder":
        """Start recording."""
        if self.device.type == "meta":
            self._whole.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Stop recording."""
        super().__exit__(*error)
        if self.device.type == "meta":
            self._whole.__exit__(*error)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Note one call and let it run."""
        kwargs = kwargs or {}
        result = self._run(operator, args, kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        if all(t.device.type == "cpu" for t in (*inputs, *outputs)) or operator.namespace == "profiler":
            return result
        verdict = self.npu.verdict(operator, args)
        if _copies_to_host(operator, args, result) or _waits_for_copy(operator, args, kwargs):
            verdict = SYNC
        self._note(operator, args, kwargs, (inputs, outputs), verdict)
        return result

    def _run(self, operator: Any, args: tuple, kwargs: dict) -> Any:
        if self.device.type != "meta":
            return operator(*args, **kwargs)
        if operator.name().partition(".")[0] in COPIES and _is_read_by_host(operator, args, kwargs):
            return _read_ones(operator, args)
        is_read = operator.name() == "aten::_local_scalar_dense" and args[0].device.type != "cpu"
        if is_read and _is_inside(SCALER_FILES):
            return 0.0  # no overflow: the step is taken
        try:
            return operator(*args, **kwargs)
        except (NotImplementedError, RuntimeError):
            return _run_on_ones(operator, args, kwargs)

    def _note(
        self, operator: Any, args: tuple, kwargs: dict, tensors: tuple[list, list], verdict: str
    ) -> None:
        if verdict == SYNC and _is_inside(SCALER_FILES):
            verdict = SCALER_SYNC
        inputs, outputs = (tuple(map(describe, group)) for group in tensors)
        arguments = arguments_of(operator, args, kwargs)
        call = Call(operator.name(), inputs, outputs, arguments, verdict, _launches(operator))
        if call.verdict in NO_CAPTURE or any(placement_of(call, chip).offence for chip in CHIPS):
            call = call._replace(place=_find_place())
        self.calls.append(call)

    def signature(self) -> list[tuple]:
        """Return operators and shapes in order."""
        return [(call.name, call.inputs) for call in self.calls]

    def offenders(self, chip: str) -> list[Call]:
        """Return the calls a training step must not contain on a chip."""
        return [call for call in self.calls if placement_of(call, chip).offence]

    def capture_offenders(self, chip: str) -> list[Call]:
        """Return the calls that cannot be part of a recorded graph: whatever the host takes part in."""
        return [c for c in self.calls if c.verdict in NO_CAPTURE or placement_of(c, chip).unit == HOST]

    def rows(self, chip: str) -> list[Row]:
        """Return the table of launches and offences: offending operators first, then by count."""
        groups: dict[tuple[str, str], list[Call]] = {}
        for call in self.calls:
            placement = placement_of(call, chip)
            if call.launches or placement.offence:
                unit = placement.offence or placement.note or placement.unit
                groups.setdefault((call.name, unit), []).append(call)
        rows = [_row(name, unit, calls) for (name, unit), calls in groups.items()]
        return sorted(rows, key=lambda r: (r.unit not in OFFENCES, -r.count, r.name))

    def summary(self, chip: str) -> Summary:
        """Return the totals."""
        launches = [call for call in self.calls if call.launches]
        offences = Counter(placement_of(call, chip).offence for call in self.calls)
        offences.pop("", None)
        return Summary(
            launches=len(launches),
            units=dict(Counter(placement_of(call, chip).unit for call in launches)),
            offences=dict(offences),
            int64=sum(any(t.dtype == "int64" for t in (*c.inputs, *c.outputs)) for c in launches),
            unaligned=sum(any(map(_is_unaligned, (*c.inputs, *c.outputs))) for c in launches),
            num_bytes=sum(t.num_bytes for c in launches for t in (*c.inputs, *c.outputs)),
            scaler_syncs=sum(call.verdict == SCALER_SYNC for call in self.calls),
        )


def _row(name: str, unit: str, calls: list[Call]) -> Row:
    places = [call.place for call in calls if call.place] if unit in OFFENCES else []
    return Row(
        name=name,
        unit=unit,
        count=len(calls),
        dtypes=tuple(sorted({t.dtype for call in calls for t in (*call.inputs, *call.outputs)})),
        num_shapes=len({call.inputs for call in calls}),
        num_bytes=sum(t.num_bytes for call in calls for t in (*call.inputs, *call.outputs)),
        places=tuple(place for place, _ in Counter(places).most_common()),
    )


def _tensors(values: object) -> list[torch.Tensor]:
    return [v for v in tree_leaves(values) if isinstance(v, torch.Tensor)]


def _is_unaligned(tensor: TensorInfo) -> bool:
    return bool(tensor.shape) and tensor.shape[-1] * getattr(torch, tensor.dtype).itemsize % 32 != 0


def _launches(operator: Any) -> bool:
    is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in operator._schema.returns)
    return not is_view and operator._schema.name.partition("::")[2] not in NO_LAUNCH


def _copies_to_host(operator: Any, args: tuple, result: object) -> bool:
    name = operator.name().partition(".")[0]
    if name not in COPIES or not isinstance(result, torch.Tensor):
        return False
    source = args[0] if name == COPIES[0] else args[1]
    return result.device.type == "cpu" and source.device.type != "cpu"


def _waits_for_copy(operator: Any, args: tuple, kwargs: dict) -> bool:
    """Say whether a copy from the host waits for the card's stream, as blocking ones do.

    Source: Ascend/pytorch torch_npu/csrc/aten/ops/op_api/CopyKernelOpApi.cpp.
    """
    if operator.name().partition(".")[0] not in COPIES:
        return False
    if dict(arguments_of(operator, args, kwargs)).get("non_blocking"):
        return False
    source, target = (args[1], args[0].device) if len(args) > 1 else (args[0], kwargs.get("device"))
    return source.device.type == "cpu" and target is not None and torch.device(target).type != "cpu"


# ---- without a device: shapes only ------------------------------------------------------------


FROM_HOST = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)  # numbers, in a blocking copy


class _Whole(TorchFunctionMode):
    """Note what torch does otherwise or unseen on META.

    `isfinite` stays whole, as with torch_npu; torch alone composes it of four operators. A tensor of numbers
    of the host is copied.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        is_isfinite = function in (torch.isfinite, torch.Tensor.isfinite) and args[0].device.type == "meta"
        with _disable_current_modes() if is_isfinite else contextlib.nullcontext():
            result = torch.empty_like(args[0], dtype=torch.bool) if is_isfinite else function(*args, **kwargs)
        if is_isfinite:
            operator = torch.ops.aten.isfinite.default
            verdict = self.recorder.npu.verdict(operator)
            self.recorder._note(operator, args, {}, (_tensors(args), [result]), verdict)
        elif function in FROM_HOST and result.device.type == "meta":
            self.recorder._note(torch.ops.aten.copy_.default, (), {}, ([result], [result]), SYNC)
        return result


def _is_read_by_host(operator: Any, args: tuple, kwargs: dict) -> bool:
    if operator.name().startswith("aten::copy_"):
        return args[0].device.type == "cpu" and args[1].device.type == "meta"
    target = kwargs.get("device")
    return target is not None and torch.device(target).type == "cpu" and args[0].device.type == "meta"


def _read_ones(operator: Any, args: tuple) -> torch.Tensor:
    """Return what the host would get: ones."""
    if operator.name().startswith("aten::copy_"):
        return args[0].fill_(1)
    return torch.ones(args[0].shape, dtype=args[0].dtype)


def _run_on_ones(operator: Any, args: tuple, kwargs: dict) -> Any:
    """Carry out what has no shape-only kernel on tensors of ones; results go back to META."""
    is_meta = [t for t in _tensors((args, kwargs)) if t.device.type == "meta"]

    def to_ones(value: object) -> object:
        if isinstance(value, torch.Tensor) and value.device.type == "meta":
            return torch.ones(value.shape, dtype=value.dtype)
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == "meta" else value

    result = operator(*tree_map(to_ones, args), **tree_map(to_ones, kwargs))
    if operator._schema.is_mutable and is_meta:
        return is_meta[0] if operator._schema.returns else None
    return tree_map(lambda v: v.to(META) if isinstance(v, torch.Tensor) else v, result)


# ---- where a call was made --------------------------------------------------------------------


def _frames() -> Iterator[tuple[str, int]]:
    frame = sys._getframe(2)
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]


def _is_inside(parts: tuple[str, ...]) -> bool:
    """Say whether one of the files is among the callers."""
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
