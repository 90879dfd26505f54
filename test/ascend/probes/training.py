"""Train a few steps on all ranks over HCCL and over gloo, in the same processes, and compare.

Gloo adds in a ring, so in another order for every part of a buffer, and the simulated HCCL in rank order:
the last bits differ. Two comparisons get around that. "in_rank_order": gloo only exchanges, and the sums are
taken in rank order; everything must have HCCL's bits. "frozen": gloo's own all_reduce, with BatchNorm's
statistics frozen, because normalising by the few values of 64 px images multiplies a last bit by ten or
more at every step.
"""

import json
import os
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch_npu  # noqa: F401

from mmdet.config import load_config
from mmdet.device import set_npu_options
from mmdet.distributed import mean_across_ranks
from mmdet.models.build import build_criterion
from mmdet.testing.audit_step import build_audited_step, draw_batch

RANK = int(os.environ["LOCAL_RANK"])
CARD, HOST = torch.device("npu", RANK), torch.device("cpu")
STEPS = 5


def mean_in_rank_order(tensor: torch.Tensor) -> torch.Tensor:
    """Return the mean over ranks, rank 0 first."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.detach())
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / len(parts)


def average_bucket(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Do for DistributedDataParallel what its all_reduce does, in rank order."""
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(mean_in_rank_order(bucket.buffer()))
    return done


def train(
    device: torch.device, mean: Callable = mean_across_ranks, is_frozen: bool = False
) -> dict[str, torch.Tensor]:
    """Return losses (STEPS, kinds) and first gradients of this rank, and how far the weights moved."""
    cfg = load_config("configs/scrfd/scrfd_500m_bnkps.py", ["lr_config.warmup=None", "optimizer.lr=0.001"])
    torch.manual_seed(0)
    train_step = build_audited_step(cfg, device)
    parameters = list(train_step.net.parameters())
    before = torch.cat([p.detach().cpu().flatten() for p in parameters])
    train_step.criterion = build_criterion(cfg.model, cfg.train_cfg, mean_across_ranks=mean)
    train_step.net.train(not is_frozen)
    if mean is mean_in_rank_order:
        train_step.net.register_comm_hook(None, average_bucket)
    losses, gradients = [], before
    for step in range(STEPS):
        batch = draw_batch(2, 64, num_faces=(RANK + step) % 4, slots=8, seed=100 * step + RANK)
        losses.append(torch.stack(list(train_step.update(step, batch.to(device)).values())).cpu())
        if step == 0:
            gradients = torch.cat([p.grad.cpu().flatten() for p in parameters])
    after = torch.cat([p.detach().cpu().flatten() for p in parameters])
    return {"losses": torch.stack(losses), "gradients": gradients, "moved": after - before}


def compare(hccl: dict[str, torch.Tensor], gloo: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the largest difference of each kind, relative to the largest value of that kind."""
    return {key: ((hccl[key] - gloo[key]).abs().max() / gloo[key].abs().max()).item() for key in hccl}


def main() -> None:
    torch.set_num_threads(1)
    torch.npu.set_device(RANK)
    set_npu_options(CARD)  # as training does: the vendor's default lets convolutions drop bits (HF32)
    dist.init_process_group("cpu:gloo,npu:hccl", device_id=CARD)
    over_hccl = train(CARD)
    report = {
        "in_rank_order": compare(over_hccl, train(HOST, mean_in_rank_order)),
        "frozen": compare(train(CARD, is_frozen=True), train(HOST, is_frozen=True)),
        "losses": over_hccl["losses"].sum(dim=1).tolist(),
        "moved": over_hccl["moved"].abs().max().item(),
        "checksum": over_hccl["moved"].double().sum().item(),
    }
    everyone: list = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, report)
    if RANK == 0:
        print(json.dumps({"ranks": everyone}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
