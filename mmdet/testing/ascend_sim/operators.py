"""Run torch_npu's aten operators on the CPU, on tensors that alias the simulated device memory.

Every operator that torch_npu implements (has a kernel for the dispatch key PrivateUse1) is registered again
with a function that calls the CPU operator. An operator torch_npu does not implement is left alone, so
that it meets torch_npu's own fallback: copy to the host, warn, or raise under
TORCH_NPU_FALLBACK_CPU_DISABLE=1. Fallbacks are counted (`fallbacks`), and rank 0 prints them when it ends,
with the calls that the chip's kernels would hand to the host or to the AI CPU (chip.py).
"""

import atexit
import contextlib
import ctypes
import hashlib
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.utils._pytree import tree_map

from mmdet.testing.ascend_sim.chip import Chip

# Metadata-only operators and those that build storage: torch_npu's own code does the right thing.
_KEEP = frozenset(
    """empty empty_strided empty_like new_empty new_empty_strided _local_scalar_dense view as_strided resize_
    set_ record_stream is_pinned _pin_memory pin_memory _reshape_alias detach alias slice select transpose t
    permute expand unsqueeze squeeze unfold view_as_real view_as_complex diagonal split split_with_sizes
    unbind set_data data item _has_compatible_shallow_copy_type _copy_from _copy_from_and_resize to _to_copy
    _unsafe_view""".split()
)
_FORMAT_CASTS = (
    "npu_format_cast",
    "npu_format_cast_.acl_format",
    "_npu_format_cast",
    "npu_format_cast.Tensor",
)

# torch_npu says so itself where a kernel it registers only copies to the host and back.
_FALLS_BACK_INSIDE = re.compile(rb"perator '(aten::[a-zA-Z0-9_.]+)'")
# An operator with a kernel for one of these never reaches the fallback.
_OWN_OR_COMPOSITE = (
    "PrivateUse1",
    "CompositeImplicitAutograd",
    "CompositeExplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
)

CHIP = Chip(os.environ.get("ASCEND_SIM_CHIP", "910B"), os.environ.get("ASCEND_SIM_STRICT") == "1")

counts: dict[str, int] = {}  # calls of operators that torch_npu implements
fallbacks: dict[str, int] = {}  # calls that ran on the host, by operator
watched: frozenset[str] = frozenset()  # operators that only have a kernel so that fallbacks are counted
_libraries: list[torch.library.Library] = []  # registrations live as long as these


def alias(tensor: torch.Tensor) -> torch.Tensor:
    """Return a CPU tensor over the same memory, shape and strides as a simulated-NPU tensor."""
    if tensor.numel() == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    storage = tensor.untyped_storage()
    memory = (ctypes.c_byte * storage.nbytes()).from_address(storage.data_ptr())
    flat = torch.from_numpy(np.frombuffer(memory, dtype=np.uint8)).view(tensor.dtype)
    host = flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    host._ascend_sim_owner = tensor  # keeps the memory alive
    if tensor.is_conj():
        host = host.conj()
    return host


def to_npu(host: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return a simulated-NPU tensor with the values, shape and strides of a CPU tensor."""
    result = torch.empty_strided(host.shape, host.stride(), dtype=host.dtype, device=device)
    if host.numel():
        alias(result).copy_(host)
    return result


def _mixed_devices(name: str, *devices: torch.device) -> RuntimeError:
    first, second = devices
    return RuntimeError(f"Expected all tensors to be on the same device, but {name} got {first} and {second}")


@contextlib.contextmanager
def _card_randomness(generator, device):  # noqa: ANN001, ANN202
    """Draw from a stream that the card's generator (seed, offset) decides, and move that generator on.

    So seeds, saved states and cards behave as on hardware; the numbers themselves are not a card's.
    """
    generator = generator or torch.npu.default_generators[device.index or 0]
    state = generator.get_state()
    seed_and_offset = state.view(torch.int64)
    digest = hashlib.sha256(state.numpy().tobytes()).digest()
    seed_and_offset[1] += 4  # a Philox counter moves in fours
    generator.set_state(state)
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little"))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def _on_cpu(operator, name: str):  # noqa: ANN001, ANN202
    """Return a PrivateUse1 kernel for `operator` that computes on aliased CPU tensors."""
    schema = operator._schema
    is_random = torch.Tag.nondeterministic_seeded in operator.tags
    takes_host_indices = name.startswith(("aten::index", "aten::_index", "aten::_unsafe_index"))
    written = [(i, a.name) for i, a in enumerate(schema.arguments) if a.alias_info and a.alias_info.is_write]
    in_place = bool(schema.returns) and all(r.alias_info is not None for r in schema.returns)

    def kernel(*args, **kwargs):  # noqa: ANN002, ANN003, ANN202
        counts[name] = counts.get(name, 0) + 1
        device: torch.device | None = None
        generator: torch.Generator | None = None
        on_host: list[torch.device] = []

        def to_host(value):  # noqa: ANN001, ANN202
            nonlocal device, generator
            if isinstance(value, torch.Generator):
                generator = value
                return None
            if isinstance(value, torch.Tensor) and value.device.type == "npu":
                if device is not None and device != value.device:
                    raise _mixed_devices(name, device, value.device)
                device = value.device
                return alias(value)
            if isinstance(value, torch.Tensor) and value.dim() and not takes_host_indices:
                on_host.append(value.device)
            if isinstance(value, torch.device) and value.type == "npu":
                device = value if value.index is not None else torch.device("npu", torch.npu.current_device())
                return torch.device("cpu")
            return value

        host_args, host_kwargs = tree_map(to_host, args), tree_map(to_host, kwargs)
        if device is not None and on_host:
            raise _mixed_devices(name, device, on_host[0])
        home = device or torch.device("npu", torch.npu.current_device())
        with _card_randomness(generator, home) if is_random else contextlib.nullcontext():
            result = CHIP.run(operator, host_args, host_kwargs)
        if written and not schema.returns:
            return None
        if written and in_place:
            outs = tuple(kwargs[n] if n in kwargs else args[i] for i, n in written)
            return outs[0] if len(outs) == 1 else outs
        return tree_map(
            lambda v: to_npu(v, home) if isinstance(v, torch.Tensor) and v.device.type == "cpu" else v, result
        )

    return kernel


def _copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    written, read = (alias(t) if t.device.type == "npu" else t for t in (target, source))
    if target.device.type == source.device.type:  # what comes from the host keeps its Inf
        CHIP.run(torch.ops.aten.copy_.default, (written, read), {})
    else:
        torch.ops.aten.copy_.default(written, read)
    return target


def _contiguous(tensor: torch.Tensor, *, memory_format=torch.contiguous_format) -> torch.Tensor:  # noqa: ANN001
    if tensor.is_contiguous(memory_format=memory_format):
        return tensor
    return to_npu(alias(tensor).contiguous(memory_format=memory_format), tensor.device)


def _clone(tensor: torch.Tensor, *, memory_format=None) -> torch.Tensor:  # noqa: ANN001
    keep = torch.preserve_format if memory_format is None else memory_format
    return to_npu(alias(tensor).clone(memory_format=keep), tensor.device)


def _register(namespace: str, kernels: dict, with_keyset: bool = False) -> None:
    library = torch.library.Library(namespace, "IMPL")
    _libraries.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "overriding a previously registered kernel": that is the point
        for name, kernel in kernels.items():
            library.impl(name, kernel, "PrivateUse1", with_keyset=with_keyset, allow_override=True)


def _counted_fallback(full: str):  # noqa: ANN202
    """Return a kernel that counts and calls what torch_npu does about an operator it does not implement."""
    torch_npus = torch.library.get_kernel(full, "PrivateUse1")

    def kernel(keyset, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN202
        result = torch_npus.call_boxed(keyset, *args, **kwargs)
        fallbacks[full] = fallbacks.get(full, 0) + 1
        return result

    return kernel


def _print_counts() -> None:
    kinds = {
        "ran on the AI CPU": CHIP.on_ai_cpu,
        "copied to the host inside their kernels": CHIP.inside_host,
        "fell back to the CPU": fallbacks,
    }
    for what, counted in kinds.items() if os.environ.get("RANK", "0") == "0" else ():
        if counted:
            most = sorted(counted.items(), key=lambda item: -item[1])
            listed = ", ".join(f"{name} {num}x" for name, num in most)
            print(f"ascend_sim: {sum(counted.values())} calls {what}: {listed}", file=sys.stderr)


def _falling_back(torch_npu) -> tuple[frozenset[str], frozenset[str]]:  # noqa: ANN001
    """Return the aten operators that run on the CPU: without a kernel, and with one that goes there."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")]
    library = Path(torch_npu.__file__).parent / "lib" / "libtorch_npu.so"
    inside = {match.decode() for match in _FALLS_BACK_INSIDE.findall(library.read_bytes())}
    return (
        frozenset(n for n in names if not any(has_kernel(n, key) for key in _OWN_OR_COMPOSITE)),
        frozenset(n for n in names if n in inside and has_kernel(n, "PrivateUse1")),
    )


def _aten_kernels(not_these: frozenset[str]) -> dict:
    """Return a kernel for each aten operator that the installed torch_npu implements."""
    kernels = {}
    for full in torch._C._dispatch_get_all_op_names():
        name = full.removeprefix("aten::")
        base, _, overload = name.partition(".")
        if not full.startswith("aten::") or base in _KEEP or full in not_these:
            continue
        if not torch._C._dispatch_has_kernel_for_dispatch_key(full, "PrivateUse1"):
            continue
        operator = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
        if operator is not None and not operator.is_view:
            kernels[name] = _on_cpu(operator, full)
    return kernels


def _get_status(status: torch.Tensor) -> torch.Tensor:
    alias(status)[0] = float(CHIP.overflow)
    return status


def _clear_status(status: torch.Tensor) -> torch.Tensor:
    CHIP.overflow = False
    return status


def _check_and_unscale_(grads: list[torch.Tensor], found_inf: torch.Tensor, inv_scale: torch.Tensor) -> None:
    """Unscale gradients; on a saturating card only the overflow flag tells (torch_npu does the same)."""
    for grad in grads:
        alias(grad).mul_(alias(inv_scale))
    if CHIP.overflow:
        alias(found_inf).fill_(1.0)
        _clear_status(found_inf)


def install(torch_npu) -> None:  # noqa: ANN001
    """Replace the operators of an imported torch_npu; called once per process."""
    global watched
    torch_npu.npu.config.allow_internal_format = False  # private formats exist only on a card
    lacking, inside = _falling_back(torch_npu)
    _register("aten", _aten_kernels(not_these=inside))
    if hasattr(torch.library, "get_kernel"):  # older releases fall back uncounted
        watched = lacking
        counted = {name.removeprefix("aten::"): _counted_fallback(name) for name in lacking | inside}
        _register("aten", counted, with_keyset=True)
    atexit.register(_print_counts)
    _register("aten", {"copy_": _copy_, "contiguous": _contiguous, "clone": _clone})
    available = set(torch._C._dispatch_get_all_op_names())
    casts = {n: (lambda tensor, *rest, **named: tensor) for n in _FORMAT_CASTS if f"npu::{n}" in available}
    flag = {"npu_get_float_status": _get_status, "npu_clear_float_status": _clear_status}
    _register("npu", casts | {n: k for n, k in flag.items() if f"npu::{n}" in available})
    if CHIP.saturates:
        _register("aten", {"_amp_foreach_non_finite_check_and_unscale_": _check_and_unscale_})
