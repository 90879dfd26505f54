"""Processes that train together: which rank this is, how the ranks find each other, what they exchange.

Read `read_launch` and `init_distributed`, then the collectives. Every collective is the identity with one
process, so callers never ask how many there are. Tensors go over the device's backend (hccl,
nccl, gloo); Python objects, flags and barriers over a gloo group on the host, where waiting for a slow
rank neither needs the device nor meets its notify timeout. This module may read the environment.
"""

import contextlib
import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmdet.device import DIST_BACKEND, binds_process_group
from mmdet.errors import ConfigError, DeviceError, Interrupted, MMDetError, TrainError

T = TypeVar("T")
DEFAULT_TIMEOUT_S = 1800
MAIN_TELLS_S = 15.0  # from a mistake to the message of another rank than 0, which may come later
_host_group: Any = None
_collective_runner: Callable[[Callable[[], object]], object] | None = None


@dataclass(frozen=True)
class DistInfo:
    """This process among all: rank of world_size, local_rank on its machine.

    Attributes:
        init_method: where the ranks meet; "env://" under torchrun.
        first_npu: card of local rank 0 on an NPU machine.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    init_method: str = "env://"
    first_npu: int = 0


def read_launch(
    launcher: str = "none",
    *,
    local_rank: int | None = None,
    world_size: int | None = None,
    master_addr: str | None = None,
    master_port: int | str | None = None,
    npuid: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> DistInfo:
    """Return which of the processes this one is, from the command line and the environment.

    launcher is "pytorch" (torchrun's RANK, LOCAL_RANK, WORLD_SIZE) or "none". The other arguments are
    the Ascend folder's, for processes of one machine started without torchrun; a world_size above 1
    counts as launched. npuid is the card of local rank 0; without it, ASCEND_DEVICE_ID is the card of a
    single process, unless ASCEND_RT_VISIBLE_DEVICES already hides the others.
    """
    first_npu = _first_npu(npuid, environ)
    if "RANK" in environ and launcher == "pytorch":
        info = DistInfo(
            rank=_int_from(environ, "RANK"),
            local_rank=_int_from(environ, "LOCAL_RANK"),
            world_size=_int_from(environ, "WORLD_SIZE"),
        )
        first_npu = npuid or 0  # torchrun counts the cards itself
    elif world_size is not None and world_size > 1:
        address = master_addr or environ.get("MASTER_ADDR", "127.0.0.1")
        port = master_port or environ.get("MASTER_PORT", "29500")
        if local_rank is None:
            raise ConfigError(f"--world_size {world_size} needs --local_rank (0 to {world_size - 1})")
        info = DistInfo(local_rank, local_rank, world_size, f"tcp://{address}:{port}")
        first_npu = npuid or 0
    elif launcher == "pytorch":
        raise ConfigError(
            "--launcher pytorch needs RANK, LOCAL_RANK and WORLD_SIZE in the environment. "
            "Start with: bash tools/dist_train.sh CONFIG NPROC"
        )
    elif "RANK" in environ and _int_from(environ, "WORLD_SIZE", "1") > 1:
        raise ConfigError(
            f"torchrun started {environ['WORLD_SIZE']} processes, but --launcher is none: each would train "
            "alone. Add --launcher pytorch."
        )
    else:
        info = DistInfo()
    if not 0 <= info.rank < info.world_size:
        raise ConfigError(f"rank {info.rank} is outside 0..{info.world_size - 1}: check WORLD_SIZE")
    return DistInfo(info.rank, info.local_rank, info.world_size, info.init_method, first_npu)


def read_torchrun(environ: Mapping[str, str] = os.environ) -> DistInfo:
    """Return who this process is under torchrun; the only one without. For work that needs no group."""
    return read_launch("pytorch" if "RANK" in environ else "none", environ=environ)


def _int_from(environ: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environ.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(f"environment variable {name} = {text!r} is not a whole number") from None


def _first_npu(npuid: int | None, environ: Mapping[str, str]) -> int:
    if npuid is not None:
        return npuid
    if "ASCEND_RT_VISIBLE_DEVICES" in environ:
        return 0
    return _int_from(environ, "ASCEND_DEVICE_ID", "0")


def init_distributed(info: DistInfo, device: torch.device, environ: Mapping[str, str] = os.environ) -> None:
    """Join the process group; nothing to do with one process. Call after pick_device."""
    global _host_group
    if info.world_size == 1:
        return
    arguments = process_group_arguments(info, device, environ)
    dist.init_process_group(**arguments)
    _host_group = dist.group.WORLD
    if arguments["backend"] != "gloo":
        # Gloo for both device types: with device_id set, torch asks every new group for the card's backend.
        both = f"cpu:gloo,{device.type}:gloo"
        _host_group = dist.new_group(backend=both, timeout=arguments["timeout"])


def process_group_arguments(
    info: DistInfo, device: torch.device, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return the arguments of init_process_group for this device.

    The timeout is the longest of 1800 s, DIST_TIMEOUT_S, HCCL_CONNECT_TIMEOUT and HCCL_EXEC_TIMEOUT:
    ours must not fire before the collective library's own, whose message says more.
    """
    names = ("DIST_TIMEOUT_S", "HCCL_CONNECT_TIMEOUT", "HCCL_EXEC_TIMEOUT")
    seconds = [_int_from(environ, name) for name in names if name in environ]
    arguments: dict[str, Any] = {
        "backend": DIST_BACKEND[device.type],
        "init_method": info.init_method,
        "rank": info.rank,
        "world_size": info.world_size,
        "timeout": timedelta(seconds=max([DEFAULT_TIMEOUT_S, *seconds])),
    }
    if binds_process_group(device):
        arguments["device_id"] = device
    return arguments


def shutdown() -> None:
    """Leave the process group, if there is one."""
    global _host_group
    _host_group = None
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 with one process."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Say whether this is rank 0, the one that writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks, on the host."""
    if world_size() > 1:
        dist.barrier(group=_host_group)


def mean_across_ranks(tensor: Tensor) -> Tensor:
    """Return the mean of `tensor` over ranks, on its device and without gradient; one collective."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    _sum_across_ranks(total)
    return total / world_size()


def average_across_ranks(tensor: Tensor) -> None:
    """Make `tensor` its mean over ranks, in place: divided first, then summed, as DDP does it."""
    if world_size() > 1:
        tensor.mul_(1 / world_size())
        _sum_across_ranks(tensor)


@contextlib.contextmanager
def collectives_through(run: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """Hand the collectives of a step to `run` inside `with`: a recording leaves them out and repeats them."""
    global _collective_runner
    before, _collective_runner = _collective_runner, run
    try:
        yield
    finally:
        _collective_runner = before


def _sum_across_ranks(tensor: Tensor) -> None:
    if _collective_runner is None:
        dist.all_reduce(tensor)
    else:
        _collective_runner(lambda: dist.all_reduce(tensor))


def broadcast_from_main(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors with rank 0's, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def any_across_ranks(is_true: bool) -> bool:
    """Say whether any rank passed True (a signal reached one of them, a loss is not finite)."""
    if world_size() == 1:
        return is_true
    flag = torch.tensor(int(is_true))
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=_host_group)
    return bool(flag)


def gather_objects(obj: T) -> list[T] | None:
    """Return all ranks' objects, in rank order, on rank 0; None on the others."""
    if world_size() == 1:
        return [obj]
    everyone: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(obj, everyone, dst=0, group=_host_group)
    return everyone


def all_gather_objects(obj: T) -> list[T]:
    """Return all ranks' objects, in rank order, on every rank. For small things."""
    if world_size() == 1:
        return [obj]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, obj, group=_host_group)
    return everyone


def broadcast_object(obj: T) -> T:
    """Return rank 0's object on every rank; what the others pass does not matter."""
    if world_size() == 1:
        return obj
    box = [obj if is_main() else None]
    dist.broadcast_object_list(box, src=0, group=_host_group)
    return box[0]  # type: ignore[return-value]


def wrap_ddp(
    model: nn.Module,
    device: torch.device,
    sync_bn: bool = False,
    *,
    find_unused: bool = False,
    is_averaged: bool = False,
) -> nn.Module:
    """Return the model that averages gradients over ranks; the model itself with one process.

    BatchNorm's running statistics start from rank 0's and then stay each rank's own, as in the reference;
    with sync_bn the layers normalise by the statistics of all ranks' images.

    Args:
        model: on its device.
        device: the model's.
        sync_bn: see above.
        find_unused: of DistributedDataParallel.
        is_averaged: somebody else averages the gradients (`Precision` under O2) and has shared the weights.
    """
    if world_size() == 1:
        return model
    if sync_bn and device.type == "cpu":
        raise DeviceError("sync_bn: torch has no SyncBatchNorm on the CPU. Use norm type BN, or a card.")
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if is_averaged:
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        broadcast_from_main([*frozen, *model.buffers()])
        return model
    return nn.parallel.DistributedDataParallel(
        model,
        device_ids=None if device.type == "cpu" else [device.index],
        find_unused_parameters=find_unused,
        gradient_as_bucket_view=False,
        **_local_buffers(),
    )


def _local_buffers() -> dict[str, Any]:
    """Return DDP's argument that leaves buffers alone in each step; torch 2.13 has another name for it."""
    names = inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False}


def record_errors(main: Callable[..., T]) -> Callable[..., T]:
    """Wrap a tool's main so that a failing rank names itself and ends the job on all ranks.

    The traceback goes to stderr and into torchrun's summary (its "root cause" is the first rank that
    failed); torchrun then ends the others. Use as `run_cli(record_errors(main))`.
    """
    from torch.distributed.elastic.multiprocessing.errors import record

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> T:
        try:
            result = main(*args, **kwargs)
        except Interrupted:
            shutdown()  # all ranks stop at the same step
            raise
        except Exception as error:
            # No shutdown here: the other ranks may wait inside a collective, and leaving the group can
            # wait for them. The end of this process frees them.
            raise_with_rank(error)
        shutdown()
        return result

    return record(run)  # type: ignore[return-value]


def raise_with_rank(error: Exception) -> None:
    """Raise `error` again, naming the rank if there are several processes.

    A TrainError comes from all ranks together and already names the one that caused it. A mistake that all
    ranks find, in a config for example, is told by rank 0: the launcher ends the others while they wait.
    """
    this = os.environ.get("RANK") if world_size() == 1 else str(rank())
    if this not in (None, "0") and isinstance(error, MMDetError):
        time.sleep(MAIN_TELLS_S)
    if this is None or isinstance(error, TrainError):
        raise error
    if isinstance(error, MMDetError):
        raise type(error)(f"rank {this}: {error}") from error
    print(f"rank {this} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    raise error
