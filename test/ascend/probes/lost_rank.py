"""Rank 1 dies after the first collective; the others go on to the next one."""

import os

import torch
import torch.distributed as dist
import torch_npu  # noqa: F401

rank = int(os.environ["RANK"])
torch.npu.set_device(rank)
dist.init_process_group("hccl", device_id=torch.device("npu", rank))
value = torch.ones(2, device="npu")
dist.all_reduce(value)
torch.npu.synchronize()
if rank == 1:
    os._exit(9)
dist.all_reduce(value)
torch.npu.synchronize()
print("nobody noticed", flush=True)
