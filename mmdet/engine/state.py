"""What a checkpoint holds, and how a run continues from one exactly.

    meta        epoch, iter, seed, CLASSES, config text, versions, commit
    state_dict  fp32 weights under the reference's keys, for any mmdet user code; with EMA, the average
    optimizer   its state; the learning rate follows from `iter`
    precision   fp32 master weights (O2), loss scale
    ema         number of updates, and the weights that were trained (the average is state_dict)
    rng         state of the random generators, per rank
    position    iter, iters_per_epoch, batch size of all ranks, seed: where the data stream continues
    hooks       best figure so far, ...
    identity    config, labels and classes, to tell a resumed run what has changed

Only tensors and plain values, because checkpoints are read with weights_only=True.
"""

import logging
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmdet import __version__, device
from mmdet.checkpoint.keys import fits
from mmdet.distributed import gather_objects, is_main, rank
from mmdet.engine.resume import check_optimizer, tell_changes
from mmdet.errors import CheckpointError

if TYPE_CHECKING:
    from mmdet.engine.trainer import Trainer

logger = logging.getLogger("mmdet")

PER_WEIGHT = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")  # state of a weight's shape
# What torch and our own code raise for a state that has other parts than they expect.
UNFIT = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError)


def make_checkpoint(trainer: "Trainer") -> dict[str, Any] | None:
    """Return the checkpoint of this moment on rank 0, None elsewhere; all ranks must call it."""
    rng = gather_objects(device.rng_state(trainer.step.device))
    if not is_main():
        return None
    weights = trainer.step.precision.model_state_dict()
    content = {
        "meta": _meta(trainer),
        "state_dict": to_host(weights if trainer.ema is None else trainer.ema.average),
        "optimizer": to_host(trainer.step.optimizer.state_dict()),
        "precision": to_host(trainer.step.precision.state_dict()),
        "ema": None,
        "rng": rng,
        "position": _position(trainer),
        "identity": dict(trainer.facts.identity),
        "hooks": {hook.name: state for hook in trainer.hooks if (state := hook.state_dict())},
    }
    if trainer.ema is not None:
        content["ema"] = {**trainer.ema.state_dict(), "weights": to_host(weights)}
    return content


def _meta(trainer: "Trainer") -> dict[str, Any]:
    return {
        "epoch": trainer.epoch,
        "iter": trainer.iter,
        "seed": trainer.facts.seed,
        "CLASSES": tuple(trainer.facts.classes),
        "config": trainer.facts.cfg.text,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "scrfd_trainer_version": __version__,
        "torch_version": str(torch.__version__),
        "commit": trainer.facts.commit,
    }


def _position(trainer: "Trainer") -> dict[str, int]:
    """Return where the data stream stands, and what it depends on."""
    return {
        "iter": trainer.iter,
        "iters_per_epoch": trainer.facts.iters_per_epoch,
        "batch_size": trainer.facts.batch_size_total,
        "seed": trainer.facts.seed,
    }


def to_host(value: Any) -> Any:
    """Return a copy of nested dicts and lists with all tensors copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_host(item) for key, item in value.items()}
    return type(value)(to_host(item) for item in value) if isinstance(value, list | tuple) else value


def restore(trainer: "Trainer", content: dict[str, Any]) -> None:
    """Bring a trainer that has not started yet to the moment of the checkpoint.

    Raises:
        CheckpointError: it is of another model, optimizer or precision, or of other classes.
    """
    try:
        _restore(trainer, content)
    except UNFIT as error:  # it may come from anywhere
        reason = " ".join(str(error).splitlines()[:1]) + f" ({type(error).__name__})"
        raise CheckpointError(
            f"the checkpoint's training state does not fit: {reason}; --load-from takes its weights"
        ) from error


def _restore(trainer: "Trainer", content: dict[str, Any]) -> None:
    tell_changes(content.get("identity"), trainer.facts.identity)
    check_optimizer(trainer.step.optimizer, content["optimizer"])
    ema = content.get("ema")
    if (ema is None) != (trainer.ema is None):
        raise CheckpointError(
            f"the checkpoint was made {'without' if ema is None else 'with'} ema; resume so"
        )
    trainer.step.precision.load_model_state(content["state_dict"] if ema is None else ema["weights"])
    trainer.step.precision.load_state_dict(content["precision"])
    _load_optimizer(trainer.step.optimizer, content["optimizer"])
    if trainer.ema is not None and ema is not None:
        trainer.ema.load_state_dict(ema, content["state_dict"])
    for hook in trainer.hooks:
        hook.load_state_dict(content.get("hooks", {}).get(hook.name, {}))
    rng = content.get("rng") or []
    if rank() < len(rng):
        device.set_rng_state(trainer.step.device, rng[rank()])
    else:
        logger.warning("resume: the checkpoint holds no random state of rank %d; not exactly", rank())
    trainer.iter = _continue_at(_position(trainer), content["position"])


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the state, but keep this run's settings (momentum, betas, fused, ...) and weights' memory order.

    The settings are those of the config, as is the rate. They are set first, because torch puts the number of
    steps on the device that they imply. State of a weight's shape gets the weight's strides: fused CPU
    kernels read both in storage order.

    Raises:
        ValueError: the groups or an average of gradients are of another model.
    """
    pairs = zip(optimizer.param_groups, saved["param_groups"], strict=True)
    groups = [
        {**own, "params": group["params"], "lr": float(group["lr"])}  # a tensor where steps were recorded
        for own, group in pairs
    ]
    optimizer.load_state_dict({**saved, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if key in PER_WEIGHT and value is not None and not fits(parameter, value):
                raise ValueError(f"{key} is not of its weights' shape {tuple(parameter.shape)}")
            if not isinstance(value, Tensor) or value.shape != parameter.shape:
                continue
            if value.stride() != parameter.stride():
                values[key] = torch.empty_like(parameter, dtype=value.dtype).detach().copy_(value)


def _continue_at(mine: dict[str, int], saved: dict[str, int]) -> int:
    """Return the iteration to continue at: the saved one, or its epoch's first if batches differ now."""
    changed = [key for key in mine if key != "iter" and mine[key] != saved[key]]
    if not changed:
        return saved["iter"]
    epoch = saved["iter"] // saved["iters_per_epoch"]
    differences = ", ".join(f"{key} {saved[key]} -> {mine[key]}" for key in changed)
    logger.warning("resume: %s; continuing at the start of epoch %d, not exactly", differences, epoch + 1)
    return epoch * mine["iters_per_epoch"]
