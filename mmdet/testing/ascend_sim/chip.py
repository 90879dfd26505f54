"""What a kind of chip does to a call: dtypes it lacks, fp32 computed in fp16, work on the AI CPU or the host.

Where a call runs is the audit's knowledge (ascend_tables/placement.txt), so a run and the audit agree.

    ASCEND_SIM_CHIP     910A, 910B (default) or 310P
    ASCEND_SIM_STRICT   1: a kernel of torch_npu that copies to the host inside is an error
"""

import os
from collections import Counter
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from mmdet.testing.ascend_ops import NATIVE
from mmdet.testing.ascend_sim.build import SOC
from mmdet.testing.cost import CUBE
from mmdet.testing.placement import (
    AI_CPU,
    HOST,
    IN_FP16,
    ORDER_CHANGES,
    Call,
    Placement,
    arguments_of,
    describe,
    placement_of,
)

FP16_MAX = 65504.0
HF32_DROPS = 12  # bits of the mantissa


class Chip:
    """One kind of simulated chip.

    Args:
        kind: a key of SOC.
        is_strict: copies to the host inside a kernel are errors.

    Attributes:
        saturates: an fp16 result of Inf becomes 65504, NaN 0: all but A2, which can be forced to.
        overflow: the card's sticky flag where it saturates.
        inside_host: calls of kernels that copy to the host, by operator.
        on_ai_cpu: calls that the AI CPU computed, by operator.
    """

    def __init__(self, kind: str, is_strict: bool = False) -> None:
        self.kind, self.is_strict = kind, is_strict
        self.saturates = kind != "910B" or os.environ.get("INF_NAN_MODE_FORCE_DISABLE") == "1"
        self.overflow = False
        self.inside_host: Counter[str] = Counter()
        self.on_ai_cpu: Counter[str] = Counter()
        self._placements: dict[Call, Placement] = {}

    def run(self, operator: Any, args: tuple, kwargs: dict) -> Any:
        """Compute a call on CPU tensors as the chip does, and note where it would have run.

        Raises:
            RuntimeError: the chip has no such dtype, or is_strict forbids the call.
        """
        call = self._describe(operator, args, kwargs)
        if self.kind != "910B" and any(t.dtype == "bfloat16" for t in call.inputs):
            raise RuntimeError(f"ascend_sim: {call.name}: {SOC[self.kind]} has no bfloat16")
        self._note_host(call)
        is_fp16, is_hf32 = self._place(call).note in (IN_FP16, ORDER_CHANGES), self._is_hf32(call)
        if is_fp16 or is_hf32:
            rounded = self._round_to_fp16 if is_fp16 else _round_to_hf32
            args, kwargs = (tree_map(lambda v: rounded(v) if _is_fp32(v) else v, v) for v in (args, kwargs))
        result = operator(*args, **kwargs)
        results = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        for value in results:
            if is_fp16 and _is_fp32(value):
                value.copy_(self._round_to_fp16(value))
            self.saturate_(value)
        call = call._replace(outputs=tuple(map(describe, results)))
        if self._place(call).unit == AI_CPU:
            self.on_ai_cpu[call.name] += 1
        return result

    def saturate_(self, host: torch.Tensor) -> None:
        """Do to an fp16 result what the chip does: Inf -> +-65504, NaN -> 0, and raise the overflow flag."""
        if not self.saturates or host.dtype is not torch.float16 or host.numel() == 0:
            return
        if not bool(torch.isfinite(host).all()):
            self.overflow = True
            host.nan_to_num_(nan=0.0, posinf=FP16_MAX, neginf=-FP16_MAX)

    def _describe(self, operator: Any, args: tuple, kwargs: dict) -> Call:
        outs = {a.name for a in operator._schema.arguments if a.is_out}
        read = [value for name, value in kwargs.items() if name not in outs]
        inputs = tuple(describe(t) for t in tree_leaves((args, read)) if isinstance(t, torch.Tensor))
        return Call(operator.name(), inputs, (), arguments_of(operator, args, kwargs), NATIVE)

    def _place(self, call: Call) -> Placement:
        if call not in self._placements:
            self._placements[call] = placement_of(call, self.kind)
        return self._placements[call]

    def _note_host(self, call: Call) -> None:
        if self._place(call).unit != HOST:
            return
        self.inside_host[call.name] += 1
        if self.is_strict:
            raise RuntimeError(f"ascend_sim: torch_npu's kernel of {call.name} copies to the host and back")

    def _is_hf32(self, call: Call) -> bool:
        """Say whether torch_npu lets an A2 compute a convolution or a matrix product of fp32 in HF32."""
        if self.kind != "910B" or call.base not in CUBE:
            return False
        return bool((torch.npu.conv if "conv" in call.base else torch.npu.matmul).allow_hf32)

    def _round_to_fp16(self, tensor: torch.Tensor) -> torch.Tensor:
        half = tensor.half()
        self.saturate_(half)
        return half.float()


def _is_fp32(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype is torch.float32


def _round_to_hf32(tensor: torch.Tensor) -> torch.Tensor:
    bits = tensor.contiguous().view(torch.int32) + (1 << (HF32_DROPS - 1))
    return (bits >> HF32_DROPS << HF32_DROPS).view(torch.float32)
