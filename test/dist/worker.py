"""What one rank does in the tests beside this file: python worker.py TASK OUT_DIR, under torchrun.

Each task is a function of (info, out_dir); it saves rank<N>.pth there for the test to look at.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from mmdet import distributed
from mmdet.models.build import build_criterion, build_detector
from mmdet.config import load_config
from mmdet.config.types import AmpConfig
from mmdet.core.structures import Batch
from mmdet.engine.finite import FiniteGuard
from mmdet.cli import run_cli
from mmdet.precision import Precision

CPU = torch.device("cpu")
REPO = Path(__file__).resolve().parents[2]


# ---- a small model whose loss is normalised over ranks -------------------------------------------


def small_net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
    )


def small_batch(rows):
    """4 images and masks of positives; the second half has none, so rank 1 of 2 is without positives."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(4, 3, 8, 8, generator=generator)
    positive = (torch.rand(4, 1, 8, 8, generator=generator) < 0.2).float()
    positive[2:] = 0
    return images[rows], positive[rows]


def small_loss(out, positive):
    num_pos = distributed.mean_across_ranks(positive.sum().reshape(1))[0].clamp(min=1)
    loss_bbox = ((out - 1).pow(2) * positive).sum() / num_pos
    return {"loss_cls": out.pow(2).sum() / num_pos, "loss_bbox": loss_bbox}


def small_step(rows, level, dtype, seed=0, steps=3):
    """Train a few steps; return the last gradients, and the weights in fp32."""
    net = small_net(seed)
    precision = Precision(net, AmpConfig(level, dtype), CPU)
    optimizer = torch.optim.SGD(precision.optimizer_params(), lr=0.01, momentum=0.9)
    wrapped = distributed.wrap_ddp(net, CPU, is_averaged=precision.averages_gradients)
    guard = FiniteGuard(CPU, precision)
    images, positive = small_batch(rows)
    for iter in range(steps):
        precision.zero_grad()
        with precision.autocast():
            out = wrapped(precision.cast_input(images))
        precision.backward(guard.watch(small_loss(out.float(), positive)), guard.seed)
        guard.remember(iter)
        precision.step(optimizer, {"max_norm": 100, "norm_type": 2})
        grads = [parameter.grad.clone() for parameter in net.parameters()]
    if level == "O2":
        for group in precision.weights.groups:
            views = zip(group.params, group.grad_views, strict=True)
            assert all(parameter.grad.data_ptr() == view.data_ptr() for parameter, view in views)
    return {"grads": grads, "weights": precision.model_state_dict()}


def small(info, level="O0", dtype="float16"):
    rows = slice(2 * info.rank, 2 * info.rank + 2)
    return small_step(rows, level, dtype, seed=info.rank)  # rank 0's weights must win


# ---- the real model and criterion ----------------------------------------------------------------


def scrfd_batch(rows, size=128):
    """4 drawn images; image 3 has no face."""
    generator = torch.Generator().manual_seed(7)
    boxes = torch.zeros(4, 32, 4)
    boxes[0, :2] = torch.tensor([[10.0, 12, 40, 52], [60, 60, 110, 120]])
    boxes[1, :1] = torch.tensor([[5.0, 70, 25, 99]])
    boxes[2, :1] = torch.tensor([[30.0, 30, 90, 100]])
    valid = boxes[..., 2] > 0
    kps = torch.zeros(4, 32, 5, 3)
    kps[..., :2] = boxes[..., None, :2] + torch.rand(4, 32, 5, 2, generator=generator) * 20
    kps[..., 2] = valid[..., None]
    batch = Batch(
        images=torch.randn(4, 3, size, size, generator=generator),
        gt_bboxes=boxes,
        gt_labels=torch.zeros(4, 32, dtype=torch.int64),
        gt_kps=kps,
        gt_valid=valid,
        gt_ignore=torch.zeros_like(valid),
        valid_hw=torch.full((4, 2), size),
        names=tuple("abcd"),
    )
    return rows_of(batch, rows)


def rows_of(batch, rows):
    return Batch(**{name: value if value is None else value[rows] for name, value in vars(batch).items()})


def scrfd_step(rows):
    """Return losses and gradients of scrfd_500m_bnkps for some of the images, BN in eval mode."""
    cfg = load_config(str(REPO / "configs/scrfd/scrfd_500m_bnkps.py"))
    torch.manual_seed(0)
    net = build_detector(cfg.model, cfg.train_cfg, cfg.test_cfg).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # normalising by the batch would tell ranks and joint batch apart
    criterion = build_criterion(cfg.model, cfg.train_cfg, distributed.mean_across_ranks)
    batch = scrfd_batch(rows)
    wrapped = distributed.wrap_ddp(net, CPU)  # must live until backward
    losses = criterion(wrapped(batch.images).float(), batch)
    sum(losses.values()).backward()
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {"grads": grads, "losses": {key: value.item() for key, value in losses.items()}}


def scrfd(info):
    return scrfd_step(slice(2 * info.rank, 2 * info.rank + 2))


def scrfd_no_face(info):
    return scrfd_step(slice(0, 2) if info.rank == 0 else slice(3, 4))


# ---- failures and small collectives --------------------------------------------------------------


def bad_loss(info):
    guard = FiniteGuard(CPU, describe=lambda: "No checkpoint yet.")
    for iter in range(5):
        value = float("nan") if (iter, info.rank) == (3, 1) else 1.0
        guard.watch({"loss_cls": torch.tensor(value)})
        guard.remember(iter, (f"image{iter}_{info.rank}.jpg",))
    return {}


def late_bad_loss(info):
    """As on an accelerator: the bad rank goes on, all ranks keep their weights, check() tells."""
    guard = FiniteGuard(CPU)
    check, guard.check = guard.check, lambda: None
    net = small_net(0)
    precision = Precision(net, AmpConfig("O2", "bfloat16"), CPU)
    optimizer = torch.optim.SGD(precision.optimizer_params(), lr=0.1)
    wrapped = distributed.wrap_ddp(net, CPU, is_averaged=True)
    images, _ = small_batch(slice(0, 2))
    states = []
    for iter in range(3):
        factor = float("nan") if (iter, info.rank) == (1, 1) else 1.0
        precision.zero_grad()
        loss = wrapped(precision.cast_input(images)).float().mean() * factor
        precision.backward(guard.watch({"loss_cls": loss}), guard.seed)
        guard.remember(iter)
        precision.step(optimizer)
        states.append(precision.model_state_dict())
    try:
        check()
    except Exception as error:
        return {"message": str(error), "states": states}


def dead_rank(info):
    if info.rank == 1:
        raise RuntimeError("out of memory, say")
    distributed.mean_across_ranks(torch.zeros(2))  # rank 0 waits for a rank that is gone
    return {}


def collectives(info):
    distributed.barrier()
    mean = distributed.mean_across_ranks(torch.tensor([2.0 * info.rank, 6.0], requires_grad=True))
    return {
        "mean": mean.tolist(),
        "requires_grad": mean.requires_grad,
        "gathered": distributed.gather_objects({"rank": info.rank}),
        "all": distributed.all_gather_objects(info.rank),
        "any": [distributed.any_across_ranks(info.rank == 1), distributed.any_across_ranks(False)],
        "main": distributed.is_main(),
    }


TASKS = {
    "small": small,
    "small_O1": lambda info: small(info, "O1", "bfloat16"),
    "small_O2": lambda info: small(info, "O2", "bfloat16"),
    "small_O2_fp16": lambda info: small(info, "O2", "float16"),
    "scrfd": scrfd,
    "scrfd_no_face": scrfd_no_face,
    "bad_loss": bad_loss,
    "late_bad_loss": late_bad_loss,
    "dead_rank": dead_rank,
    "collectives": collectives,
}


@distributed.record_errors
def main():
    task, out_dir = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    info = distributed.read_launch("pytorch")
    distributed.init_distributed(info, CPU)
    result = TASKS[task](info)
    torch.save(result, out_dir / f"rank{info.rank}.pth")


if __name__ == "__main__":
    run_cli(main)
