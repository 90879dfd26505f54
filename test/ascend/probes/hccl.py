"""Every collective on HCCL and on gloo, in the same processes; rank 0 prints what differs as JSON."""

import json
import os

import torch
import torch.distributed as dist
import torch_npu  # noqa: F401

RANK = int(os.environ["LOCAL_RANK"])
CARD = torch.device("npu", RANK)
OPS = ("SUM", "PRODUCT", "MAX", "MIN")
DTYPES = "float32 float16 bfloat16 int32 int64 int8 uint8".split()


def all_reduce_differs(dtype_name: str, op_name: str, num: int) -> bool:
    """Compare with gloo on small whole numbers, for which every order of summing is exact."""
    torch.manual_seed(RANK)
    host = torch.randint(1, 4, (num,)).to(getattr(torch, dtype_name))
    card = host.to(CARD)
    op = getattr(dist.ReduceOp, op_name)
    dist.all_reduce(host, op)
    dist.all_reduce(card, op)
    return not torch.equal(host, card.cpu())


def collectives(device: torch.device, world: int) -> dict[str, list]:
    """Return what every collective gives on one device type."""
    got: dict[str, list] = {}

    def ramp(*shape: int) -> torch.Tensor:
        return torch.arange(float(torch.Size(shape).numel()), device=device).view(shape) + 100 * RANK

    value = ramp(3)
    dist.broadcast(value, src=1)
    got["broadcast"] = value.tolist()
    parts = [torch.empty(4, device=device) for _ in range(world)]
    dist.all_gather(parts, ramp(4))
    got["all_gather"] = [p.tolist() for p in parts]
    value = ramp(5)
    dist.reduce(value, dst=0)
    got["reduce"] = value.tolist() if RANK == 0 else []
    parts = [torch.empty(2, device=device) for _ in range(world)] if RANK == 0 else None
    dist.gather(ramp(2), parts, dst=0)
    got["gather"] = [p.tolist() for p in parts or []]
    big = ramp(1_200_000)  # more than one piece of shared memory
    dist.all_reduce(big)
    got["big"] = [big.sum().item(), big[-1].item()]
    if RANK == 0:
        dist.send(ramp(300_000), 1)
    elif RANK == 1:
        value = torch.empty(300_000, device=device)
        dist.recv(value, 0)
        got["recv"] = [value.sum().item(), value[-1].item()]
    dist.barrier()
    return got


def only_on_hccl(world: int) -> dict[str, list]:
    """Return collectives that gloo lacks, to compare with numbers worked out by hand."""
    uneven = [torch.empty(r + 1, device=CARD) for r in range(world)]
    dist.all_gather(uneven, torch.full((RANK + 1,), float(RANK), device=CARD))
    share = torch.empty(2, device=CARD)
    dist.reduce_scatter_tensor(share, torch.arange(2.0 * world, device=CARD) * (RANK + 1))
    mean = torch.full((2,), float(RANK), device=CARD)
    dist.all_reduce(mean, dist.ReduceOp.AVG)
    return {"gather_v": [p.tolist() for p in uneven], "reduce_scatter": share.tolist(), "mean": mean.tolist()}


def main() -> None:
    torch.npu.set_device(RANK)
    dist.init_process_group("cpu:gloo,npu:hccl", device_id=CARD)
    world = dist.get_world_size()
    wrong = [f"{d} {op}" for d in DTYPES for op in OPS if all_reduce_differs(d, op, 1000)]
    on_card, on_host = collectives(CARD, world), collectives(torch.device("cpu"), world)
    mine = {
        "wrong": wrong,
        "differ": [name for name in on_host if on_host[name] != on_card[name]],
        **only_on_hccl(world),
    }
    everyone: list = [None] * world
    dist.all_gather_object(everyone, mine)
    if RANK == 0:
        print(json.dumps({"ranks": everyone}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
