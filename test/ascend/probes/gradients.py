"""Averaged gradients of one step: DistributedDataParallel over HCCL, over gloo, and the mean by hand."""

import json
import os

import torch
import torch.distributed as dist
import torch_npu  # noqa: F401
from torch.nn.parallel import DistributedDataParallel

from mmdet.build import build_criterion, build_detector
from mmdet.config import load_config
from mmdet.testing.audit_step import draw_batch

RANK = int(os.environ["LOCAL_RANK"])
CARD, HOST = torch.device("npu", RANK), torch.device("cpu")


def gradients(device: torch.device, is_parallel: bool) -> list[torch.Tensor]:
    """Return the gradients of this rank's two images, averaged over ranks if `is_parallel`."""
    cfg = load_config("configs/scrfd/scrfd_500m_bnkps.py")
    torch.manual_seed(0)
    model = build_detector(cfg.model, cfg.train_cfg).to(device)
    net = DistributedDataParallel(model, broadcast_buffers=False) if is_parallel else model
    batch = draw_batch(2, 64, num_faces=RANK, slots=8, seed=RANK).to(device)
    losses = build_criterion(cfg.model, cfg.train_cfg)(net(batch.images).float(), batch)
    sum(losses.values()).backward()
    return [parameter.grad.cpu() for parameter in model.parameters()]


def largest_error(got: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest error relative to the largest gradient of the same parameter."""
    scale = [max(e.abs().max().item(), 1e-12) for e in expected]
    return max(((g - e).abs().max() / s).item() for g, e, s in zip(got, expected, scale, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    torch.npu.set_device(RANK)
    dist.init_process_group("cpu:gloo,npu:hccl", device_id=CARD)
    own = gradients(HOST, is_parallel=False)
    is_same_alone = all(map(torch.equal, own, gradients(CARD, is_parallel=False)))
    mean = [gradient.double() for gradient in own]
    for gradient in mean:
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    report = {
        "is_same_alone": is_same_alone,
        "hccl": largest_error(gradients(CARD, is_parallel=True), mean),
        "gloo": largest_error(gradients(HOST, is_parallel=True), mean),
    }
    everyone: list = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, report)
    if RANK == 0:
        print(json.dumps({"ranks": everyone}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
