"""Which unit of an Ascend chip computes a recorded call: AI Core, AI CPU, or the host's CPU.

The rules are data: ascend_tables/placement.txt, each with the vendor's source file it was read from. They say
what the vendor's master branch does; nothing here was measured on a card.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmdet.device_npu import NPU_CHIPS as CHIPS
from mmdet.errors import ConfigError
from mmdet.testing.ascend_ops import DYNAMIC, FALLBACK, SYNC, TABLES

AI_CORE, AI_CPU, HOST, UNKNOWN = "AI Core", "AI CPU", "host", "unknown"
ORDER_CHANGES, IN_FP16, CAST_FIRST = "sorted as fp16", "computed in fp16", "after a cast"
OFFENCES = (HOST, AI_CPU, DYNAMIC, SYNC, ORDER_CHANGES)  # in a training step
SHORT = {
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "int8": "i8", "uint8": "u8",
    "int16": "i16", "int32": "i32", "int64": "i64", "bool": "bool",
}  # fmt: skip
ANY = frozenset(SHORT.values()) - {"f64"}
BUFFER_BYTES = 256 * 1024  # of an AI Core: a row that a scatter or gather works on has to fit


def saturates(chip: str) -> bool:
    """Say whether an overflow on a chip gives the largest number instead of Inf (910A, 310P)."""
    return chip != "910B"


class TensorInfo(NamedTuple):
    """What the rules know of a tensor: torch's dtype without `torch.`, and the shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * getattr(torch, self.dtype).itemsize


class Call(NamedTuple):
    """One operator call.

    Attributes:
        name: such as "aten::add.Tensor".
        inputs, outputs: its tensors, those of lists in order; what a call writes is among both.
        arguments: (name, value) of the arguments that are numbers, strings, dtypes and tuples of them.
        verdict: what torch_npu does with it, see ascend_ops.
        launches: False for views and for what only makes memory.
        place: file:line for a call the verdict or a chip may forbid ("backward": autograd made it).
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    arguments: tuple[tuple[str, object], ...]
    verdict: str
    launches: bool = True
    place: str = ""

    def argument(self, name: str, default: object = None) -> object:
        """Return an argument that is no tensor."""
        return dict(self.arguments).get(name, default)

    @property
    def base(self) -> str:
        """The name in the table of rules: no namespace, overload, `_foreach_` or trailing underscore."""
        name = self.name.partition("::")[2].partition(".")[0]
        return name if name.startswith("__") else name.removeprefix("_foreach_").rstrip("_")


class Placement(NamedTuple):
    """Where a call runs, and how: ORDER_CHANGES, IN_FP16, CAST_FIRST (an input's cast runs there) or ""."""

    unit: str
    note: str = ""

    @property
    def offence(self) -> str:
        """The reason why a training step must not contain the call, "" if it may."""
        return next((o for o in (self.unit, self.note) if o in OFFENCES), "")


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        by: whose dtype decides: in, out, first, values or cast.
        dtypes: for each chip, the short names of dtypes (pairs "i64>f32" for casts) that run on AI Core;
            "f32~" and "f32!" as in the table.
        condition: name in CONDITIONS, or "".
        source: vendor's files.
    """

    by: str
    dtypes: Mapping[str, frozenset[str]]
    condition: str
    source: str


@lru_cache(maxsize=1)
def rules() -> dict[str, Rule]:
    """Return the shipped rules by operator name."""
    return read_rules(TABLES / "placement.txt")


def read_rules(path: Path) -> dict[str, Rule]:
    """Read a table of rules; its head describes the columns.

    Raises:
        ConfigError: a line does not have seven columns, or names something unknown.
    """
    found: dict[str, Rule] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [column.strip() for column in line.split("|")]
        if len(columns) != 7 or columns[1] not in _DECIDING or columns[5] not in ("", *CONDITIONS):
            raise ConfigError(
                f"{path}:{number}: expected 7 columns, by one of {', '.join(_DECIDING)}: {line}"
            )
        names, by, *listed, condition, source = columns
        found.update(dict.fromkeys(names.split(), Rule(by, _dtypes(listed), condition, source)))
    return found


def _dtypes(listed: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the dtypes of each chip; `=` and `+` refer to the first."""
    first: frozenset[str] = frozenset()
    found = {}
    for chip, text in zip(CHIPS, listed, strict=True):
        words = text.split()
        names = set(first) if words[0] in ("=", "+") else set()
        for word in words:
            names |= set(ANY) if word == "any" else ({word} if word not in ("=", "+", "-") else set())
        found[chip] = frozenset(names)
        first = first or found[chip]
    return found


def describe(tensor: torch.Tensor) -> TensorInfo:
    """Return what the rules know of a tensor."""
    return TensorInfo(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def arguments_of(operator: Any, args: tuple, kwargs: dict) -> tuple[tuple[str, object], ...]:
    """Return the arguments of an operator that are no tensors by their names, defaults included."""
    named = {a.name: a.default_value for a in operator._schema.arguments if a.has_default_value()}
    named |= {a.name: v for a, v in zip(operator._schema.arguments, args, strict=False)} | kwargs
    plain = {name: _plain(value) for name, value in named.items()}
    return tuple((name, value) for name, value in plain.items() if value is not None)


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(value) if all(isinstance(v, (bool, int, float)) for v in value) else None
    return value if isinstance(value, (bool, int, float, str)) else None


def placement_of(call: Call, chip: str) -> Placement:
    """Return where one call runs on a chip."""
    if call.verdict in (SYNC, DYNAMIC):
        return Placement(call.verdict)
    if call.verdict == FALLBACK:
        return Placement(HOST)
    rule = rules().get(call.base)
    if rule is None:
        return Placement(UNKNOWN if call.launches else AI_CORE)
    unit = CONDITIONS[rule.condition](call, chip) if rule.condition else None
    if unit is not None:
        return Placement(unit)
    placement = _by_dtype(rule, _DECIDING[rule.by](call), chip)
    if rule.by in ("in", "out") and not all(_casts_on_ai_core(call, rule, chip)):
        return Placement(AI_CPU, CAST_FIRST)
    return placement


def _by_dtype(rule: Rule, dtype: str, chip: str) -> Placement:
    listed = rule.dtypes[chip]
    if rule.by == "cast":
        source, _, target = dtype.partition(">")
        is_listed = {source, target} <= listed and f"-{dtype}" not in listed
        return Placement(AI_CORE if is_listed or source == target else AI_CPU)
    if f"{dtype}!" in listed:
        return Placement(AI_CORE, ORDER_CHANGES)
    if f"{dtype}~" in listed:
        return Placement(AI_CORE, IN_FP16)
    return Placement(AI_CORE if dtype in listed else AI_CPU)


def _casts_on_ai_core(call: Call, rule: Rule, chip: str) -> list[bool]:
    """Say for each input whether its cast to the computing dtype stays on AI Core."""
    computing = _DECIDING[rule.by](call)
    cast = rules()["_to_copy"]
    pairs = {f"{SHORT[t.dtype]}>{computing}" for t in call.inputs if t.shape and t.dtype in SHORT}
    return [_by_dtype(cast, pair, chip).unit == AI_CORE for pair in pairs]


def _promote(tensors: Sequence[TensorInfo]) -> str:
    """Return torch's common dtype; tensors without dimensions only count among themselves."""
    tensors = [t for t in tensors if t.shape] or list(tensors)
    dtypes = [getattr(torch, t.dtype) for t in tensors]
    return SHORT.get(str(reduce(torch.promote_types, dtypes)).removeprefix("torch."), "") if dtypes else ""


def _cast(call: Call) -> str:
    if len(call.inputs) > 1:  # copy_(target, source)
        return f"{SHORT.get(call.inputs[1].dtype, '')}>{SHORT.get(call.inputs[0].dtype, '')}"
    return f"{SHORT.get(call.inputs[0].dtype, '')}>{SHORT.get(call.outputs[0].dtype, '')}"


_DECIDING: dict[str, Callable[[Call], str]] = {
    "in": lambda call: _promote(call.inputs),
    "out": lambda call: _promote((call.outputs or call.inputs)[:1]),
    "first": lambda call: _promote(call.inputs[:1]),
    "values": lambda call: _promote(call.inputs[1:]),
    "cast": _cast,
}


# ---- conditions: the unit, or None if the dtype decides ---------------------------------------


def _host(call: Call, chip: str) -> str | None:
    return HOST


def _host_unless_fp32_sum(call: Call, chip: str) -> str | None:
    is_sum = call.argument("reduce") in ("sum", "add") and call.argument("include_self", True)
    return _scatter_axis(call, chip) if is_sum and call.inputs[0].dtype == "float32" else HOST


def _axis(call: Call) -> tuple[int, tuple[int, ...]]:
    """Return the axis an operator works along, from 0, and the shape of its first tensor."""
    shape = call.inputs[0].shape or (1,)
    dim = call.argument("dim", -1)
    return (dim if isinstance(dim, int) else -1) % len(shape), shape


def _sorted_axis(call: Call, chip: str) -> str | None:
    axis, shape = _axis(call)
    return AI_CPU if shape[axis] == 1 else None


def _short_topk(call: Call, chip: str) -> str | None:
    axis, shape = _axis(call)
    k = call.argument("k", 1)
    return AI_CPU if chip == "910A" and shape[axis] > 32768 and isinstance(k, int) and k < 8 else None


def _row_bytes(call: Call) -> int:
    axis, shape = _axis(call)
    return shape[axis] * getattr(torch, call.inputs[0].dtype).itemsize


def _scatter_axis(call: Call, chip: str) -> str | None:
    axis, shape = _axis(call)
    is_last, is_first = axis == len(shape) - 1, axis == 0
    if chip == "310P":
        is_fast = len(shape) == 2 and is_last and shape[0] >= 3
    elif chip == "910A":
        is_fast = is_last and _row_bytes(call) <= BUFFER_BYTES
    else:
        is_fast = is_last or is_first
    return None if is_fast else AI_CPU


def _gather_source(call: Call, chip: str) -> str | None:
    source, indices = call.inputs[:2]
    is_large = source.num_bytes > 3000 * 1024 and prod(indices.shape) > 2000
    return AI_CPU if is_large and _row_bytes(call) > BUFFER_BYTES else None


CONDITIONS: dict[str, Callable[[Call, str], str | None]] = {
    "host": _host,
    "host_unless_fp32_sum": _host_unless_fp32_sum,
    "sorted_axis": _sorted_axis,
    "short_topk": _short_topk,
    "scatter_axis": _scatter_axis,
    "gather_source": _gather_source,
}
