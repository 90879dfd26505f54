"""One process, one card: what the simulated runtime and operators do, as one JSON object."""

import json
import sys
import time
from collections.abc import Callable

import torch
import torch_npu
from torch_npu.npu.amp import GradScaler

report: dict = {}


def error_of(call: Callable) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def rounding(dtype: torch.dtype) -> bool:
    """Say whether sums, products, a matmul and a convolution give the CPU's bits."""
    a, b = torch.randn(16, 16).to(dtype), torch.randn(16, 16).to(dtype)
    image, kernel = torch.randn(2, 3, 8, 8).to(dtype), torch.randn(4, 3, 3, 3).to(dtype)
    functions = [
        lambda x, y, i, k: x + y * 3,
        lambda x, y, i, k: x @ y,
        lambda x, y, i, k: torch.softmax(x, 1),
        lambda x, y, i, k: torch.nn.functional.conv2d(i, k, padding=1),
    ]
    cpu = (a, b, image, kernel)
    npu = [t.npu() for t in cpu]
    return all(torch.equal(f(*cpu), f(*npu).cpu()) for f in functions)


def losses(device: str) -> list[float]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8), torch.nn.GroupNorm(4, 8), torch.nn.Conv2d(8, 1, 1),
    ).to(device)  # fmt: skip
    images = torch.randn(4, 3, 16, 16).to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    values = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (net(images) - 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def scaled_steps(num: int) -> list[list[float]]:
    """Return (loss scale, weight) after each of `num` steps whose fp16 gradient is 4 * loss scale."""
    weight = torch.nn.Parameter(torch.ones(4, device="npu"))
    optimizer = torch.optim.SGD([weight], lr=2.0**-14)
    scaler = GradScaler(init_scale=2.0**16)
    steps = []
    for _ in range(num):
        optimizer.zero_grad()
        value = (weight.half() * torch.full((4,), 4.0, device="npu", dtype=torch.float16)).sum()
        scaler.scale(value.float()).backward()
        scaler.step(optimizer)
        scaler.update()
        steps.append([scaler.get_scale(), weight[0].item()])
    return steps


def chip() -> None:
    """What depends on the kind of chip: rounding, dtypes, and where integers are worked on."""
    card, simulated = torch.device("npu"), sys.modules["ascend_sim_operators"].CHIP
    one = torch.ones(1, 1, 1, 1, device=card)
    torch.npu.conv.allow_hf32 = True  # torch_npu's own default
    report["hf32"] = torch.conv2d(one * (1 + 2**-13), one).item()
    torch.npu.conv.allow_hf32 = False
    report["convolved"] = torch.conv2d(one * (1 + 2**-13), one * (1 + 2**-9)).item()
    report["sorted"] = torch.tensor([1 + 2**-13, 1.0], device=card).sort(stable=True)[1].tolist()
    report["bf16"] = [torch.npu.is_bf16_supported(), error_of(lambda: one.bfloat16() + 1)]
    where = torch.tensor([3, 1, 2, 0], device=card)
    report["on_ai_cpu"] = error_of(lambda: (where << 1, where.sort(), where.float().sort()))
    report["inside_host"] = error_of(lambda: where.scatter_reduce(0, where, where, "amax"))
    report["counts"] = [dict(simulated.on_ai_cpu), dict(simulated.inside_host)]


def memory() -> None:
    before = torch.npu.memory_allocated()
    block = torch.empty(1024, 1024, device="npu")
    report["allocated"] = torch.npu.memory_allocated() - before
    del block
    report["freed"] = torch.npu.memory_allocated() - before
    huge = torch.empty(10 * 2**30, device="npu")  # 40 GiB that nobody touches, but for its end
    report["huge"] = huge[-2:].fill_(3).sum().item()
    report["oom"] = error_of(lambda: torch.empty(10 * 2**30, device="npu"))
    report["grows"] = any(segment["is_expandable"] for segment in torch.npu.memory_snapshot())
    del huge
    torch.npu.empty_cache()
    report["reserved_mib"] = torch.npu.memory_reserved() // 2**20
    free, total = torch.npu.mem_get_info()
    report["used_mib"] = (total - free) // 2**20


def randomness() -> None:
    def draw() -> list:
        return [torch.rand(3, device="npu").tolist(), torch.randperm(5, device="npu").tolist()]

    torch.npu.manual_seed(3)
    first, state = draw(), torch.npu.get_rng_state(0)
    second = draw()
    torch.npu.manual_seed(3)
    report["same_seed"] = draw() == first and first != second
    torch.npu.set_rng_state(state, 0)
    report["same_state"] = draw() == second
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    torch.randn(3, device="npu")
    report["host_stream_untouched"] = torch.equal(torch.randn(3), expected)


def fused_adam_step() -> float:
    """Return a weight of 1 after a step with gradient 1 and lr 0.5, by an operator that goes to the CPU."""
    weight = torch.nn.Parameter(torch.ones(1, device="npu"))
    weight.grad = torch.ones_like(weight)
    torch.optim.Adam([weight], lr=0.5, fused=True).step()
    return weight.item()


def main() -> None:
    torch.npu.set_device(0)
    report["count"], report["name"] = torch.npu.device_count(), torch.npu.get_device_name()
    report["inf_nan"] = torch_npu.npu.utils.is_support_inf_nan()
    report["steps"] = scaled_steps(4)
    big = torch.full((2,), 60000.0, device="npu").half()
    report["overflow"] = [str(v) for v in (big * 2).tolist() + ((big - big) / (big - big)).tolist()]
    report["cast_overflow"] = str(torch.full((1,), 1e9, device="npu").half().item())
    chip()
    if sys.argv[1:] == ["short"]:
        print(json.dumps(report))
        return
    torch.manual_seed(1)
    report["rounding"] = {str(t): rounding(t) for t in (torch.float32, torch.float16, torch.bfloat16)}
    report["losses_equal"] = losses("npu") == losses("cpu")
    memory()
    randomness()
    start, end = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
    start.record()
    time.sleep(0.05)
    end.record()
    end.synchronize()
    report["event_ms"] = start.elapsed_time(end)
    matrix = torch.arange(12.0).npu().view(4, 3)
    report["strides"] = [list((matrix.t() + 1).stride()), list(matrix.t().contiguous().stride())]
    report["channels_last"] = error_of(lambda: matrix[None, None].to(memory_format=torch.channels_last))
    report["double_on_card"] = str(matrix.double().dtype)
    pinned = torch.ones(3).pin_memory()
    report["pinned"] = [pinned.is_pinned(), pinned.to("npu", non_blocking=True).sum().item()]
    report["mixed_host"] = error_of(lambda: matrix + torch.ones(3))
    report["mixed_cards"] = error_of(lambda: matrix + torch.ones(3, device="npu:1"))
    report["host_scalar"] = (matrix + torch.tensor(1.0)).sum().item()
    report["host_index"] = matrix[torch.tensor([1])].tolist()
    report["no_such_card"] = error_of(lambda: torch.ones(2, device="npu:7"))
    report["unknown_compiled"] = error_of(
        lambda: torch_npu.npu_ps_roi_pooling(
            torch.rand(2, 4, 4, 4).npu(), torch.rand(2, 5, 4).npu(), 0.5, 2, 2
        )
    )
    report["fallback"] = error_of(lambda: [torch.lgamma(matrix + 1) for _ in range(3)])
    report["eigh"] = error_of(lambda: torch.linalg.eigh(torch.eye(2).npu()))
    report["fused_adam"] = fused_adam_step()
    report["fallbacks"] = sys.modules["ascend_sim_operators"].fallbacks
    print(json.dumps(report))


if __name__ == "__main__":
    main()
