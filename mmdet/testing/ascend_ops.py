"""Which operators torch_npu implements, and what becomes of the others on a card.

Without torch_npu the answer comes from a table of a named release, ascend_tables/torch_npu-VERSION.txt. To
make the table of the installed release (on cards, or on simulated ones):

    python -m mmdet.testing.ascend_sim --devices 1 -- python -m mmdet.testing.ascend_ops
"""

import importlib.metadata
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mmdet.errors import ConfigError

TABLES = Path(__file__).parent / "ascend_tables"
NATIVE, COMPOSITE, FALLBACK, DYNAMIC, SYNC = (
    "native",
    "composite",
    "CPU fallback",
    "dynamic shape",
    "host sync",
)
FORBIDDEN = (FALLBACK, DYNAMIC, SYNC)  # in a training step

_has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
# torch's own kernels that only call other operators, on any device.
_COMPOSITE_KEYS = ("CompositeImplicitAutograd", "CompositeExplicitAutograd")
# torch_npu says so itself where a kernel it registers only copies to the host and back.
_FALLS_BACK_INSIDE = re.compile(rb"perator 'aten::([a-zA-Z0-9_.]+)'")
_INDEX_OPERATORS = (
    "index",
    "index_put",
    "index_put_",
    "_index_put_impl_",
    "_unsafe_index",
    "_unsafe_index_put",
)


@dataclass(frozen=True)
class NpuOperators:
    """The aten operators of one torch_npu release, without the prefix `aten::`.

    Attributes:
        source: where the list comes from, for the report.
        native: operators with a kernel of their own.
        fall_back_inside: operators with a kernel that calls the CPU.
    """

    source: str
    native: frozenset[str]
    fall_back_inside: frozenset[str]

    def verdict(self, operator: torch._ops.OpOverload, args: Sequence[object] = ()) -> str:
        """Say what an NPU does with one call: NATIVE, COMPOSITE, FALLBACK, DYNAMIC or SYNC.

        Copies to the host are not known here: they depend on devices (see audit.py).
        """
        namespace, _, name = operator.name().partition("::")
        if torch.Tag.data_dependent_output in operator.tags or name in ("_local_scalar_dense", "equal"):
            return SYNC
        if torch.Tag.dynamic_output_shape in operator.tags and not _is_index_by_numbers(name, args):
            return DYNAMIC
        if _is_index_by_mask(name, args):
            return DYNAMIC
        if namespace != "aten":
            return NATIVE  # torch_npu's own, collectives
        if name in self.fall_back_inside:
            return FALLBACK
        if name in self.native:
            return NATIVE
        if _is_composite(operator.name()):
            return COMPOSITE
        out = _out_variant(operator)  # a structured operator is its out variant with fresh memory
        is_made_of_out = out is not None and (out in self.native or _is_composite(f"aten::{out}"))
        return COMPOSITE if is_made_of_out else FALLBACK


def _is_composite(name: str) -> bool:
    return any(_has_kernel(name, key) for key in _COMPOSITE_KEYS)


def _is_index_by_mask(name: str, args: Sequence[object]) -> bool:
    if name.partition(".")[0] not in _INDEX_OPERATORS:
        return False
    indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _is_index_by_numbers(name: str, args: Sequence[object]) -> bool:
    return name.partition(".")[0] in _INDEX_OPERATORS and not _is_index_by_mask(name, args)


def _out_variant(operator: torch._ops.OpOverload) -> str | None:
    """Return the operator that writes the same result into given tensors, for example "add.out"."""
    base = operator.name().partition("::")[2].partition(".")[0]
    packet = getattr(torch.ops.aten, base)
    inputs = [a.name for a in operator._schema.arguments]
    for overload in packet.overloads():
        candidate = getattr(packet, overload)
        arguments = [a.name for a in candidate._schema.arguments if not a.is_out]
        if len(arguments) < len(candidate._schema.arguments) and arguments == inputs:
            return f"{base}.{overload}"
    return None


def operators() -> NpuOperators:
    """Return the list of the imported torch_npu, or of the newest table if it is not imported."""
    if "torch_npu" in sys.modules:
        return _installed()
    tables = sorted(TABLES.glob("torch_npu-*.txt"), key=_version_of)
    if not tables:
        raise ConfigError(f"{TABLES} holds no table; make one with python -m mmdet.testing.ascend_ops")
    return read_table(tables[-1])


def _version_of(table: Path) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", table.stem))


def _installed() -> NpuOperators:
    names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::")]
    # On simulated cards some have a kernel that only counts how often torch_npu falls back.
    watched: frozenset[str] = getattr(sys.modules.get("ascend_sim_operators"), "watched", frozenset())
    library = Path(sys.modules["torch_npu"].__file__ or "").parent / "lib" / "libtorch_npu.so"
    inside = {m.decode() for m in _FALLS_BACK_INSIDE.findall(library.read_bytes())}
    has_own = {n for n in names if _has_kernel(n, "PrivateUse1") and n not in watched}
    native = {n.removeprefix("aten::") for n in has_own}
    version = importlib.metadata.version("torch-npu")
    return NpuOperators(f"torch_npu {version} (installed)", frozenset(native), frozenset(inside))


def read_table(path: Path) -> NpuOperators:
    """Read a table: comments, then `name: overload overload ...` per line; `-` is the unnamed overload."""
    found: dict[str, set[str]] = {"": set(), "!": set()}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            mark = "!" if line.startswith("!") else ""
            base, _, overloads = line.removeprefix("!").partition(":")
            found[mark].update(base if o == "-" else f"{base}.{o}" for o in overloads.split())
    return NpuOperators(f"{path.stem} (table)", frozenset(found[""]), frozenset(found["!"]))


def format_table(table: NpuOperators) -> str:
    """Return the text that `read_table` reads."""

    def lines(names: frozenset[str], mark: str) -> list[str]:
        grouped: dict[str, list[str]] = {}
        for name in sorted(names):
            base, _, overload = name.partition(".")
            grouped.setdefault(base, []).append(overload or "-")
        return [f"{mark}{base}: {' '.join(overloads)}" for base, overloads in grouped.items()]

    head = [
        f"# aten operators with a kernel in {table.source}; torch {torch.__version__.partition('+')[0]}.",
        "# name: overloads (- is the unnamed one). A leading ! marks a kernel that calls the CPU.",
        "# Made by python -m mmdet.testing.ascend_ops; do not edit.",
    ]
    return "\n".join(head + lines(table.fall_back_inside, "!") + lines(table.native, "")) + "\n"


def main() -> None:
    """Write the table of the installed torch_npu."""
    import torch_npu  # noqa: F401

    path = TABLES / f"torch_npu-{importlib.metadata.version('torch-npu')}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(format_table(operators()))
    print(path)


if __name__ == "__main__":
    main()
