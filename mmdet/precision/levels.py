"""`Precision`: one object between the training step and O0 / O1 / O2, fp16 / bf16, loss scale, apex.

    precision = Precision(model, cfg.amp, device)          # model on its device, not yet in DDP
    optimizer = build_optimizer(precision.optimizer_params(), cfg.optimizer)
    optimizer = precision.prepare(optimizer)               # apex takes over here; else nothing happens
    net = wrap_ddp(model, device, is_averaged=precision.averages_gradients)
    for batch in loader:
        precision.zero_grad()
        with precision.autocast():
            outputs = net(precision.cast_input(batch.images))
        losses = criterion(outputs.float(), batch)
        precision.backward(guard.watch(losses), guard.seed)      # NaN gradients from the first bad loss on
        precision.step(optimizer, cfg.grad_clip)
        guard.remember(iter, batch.names)

| level | model  | where casts happen        | what the optimizer updates | loss scale |
|-------|--------|---------------------------|----------------------------|------------|
| O0    | fp32   | nowhere                   | the model                  | none       |
| O1    | fp32   | per operator (autocast)   | the model                  | fp16 only  |
| O2    | half   | at the fp32 islands       | flat fp32 master weights   | fp16 only  |

A step whose gradients are not finite changes nothing. `step_if` sees to that on the device, also with a
static loss scale; with a dynamic one, and on a chip that saturates instead of giving Inf, the device's
GradScaler does.
"""

import contextlib
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.checkpoint.keys import fits
from mmdet.config.schema import read
from mmdet.config.types import AmpConfig
from mmdet.device import autocast, make_grad_scaler, shows_overflow, supports_bf16
from mmdet.errors import CheckpointError, DeviceError
from mmdet.precision import apex
from mmdet.precision.flat import FlatWeights, ModelWeights
from mmdet.precision.grads import clip_by_norm, step_if

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
INIT_DYNAMIC_SCALE = 2.0**16


class Precision:
    """Casts, master weights and loss scale of one model.

    Args:
        model: on its device, fp32, not wrapped in DDP. O2 changes it to half precision in place.
        cfg: level, dtype, loss_scale, backend.
        device: the model's device.
        sync_free: without a GradScaler, never read the device's values on the host in `step`; None: except
            on a CPU, where it costs nothing.
        apex_amp: stand-in for apex.amp, for tests.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: AmpConfig,
        device: torch.device,
        *,
        sync_free: bool | None = None,
        apex_amp: Any | None = None,
    ) -> None:
        _check(cfg, device)
        self.sync_free = device.type != "cpu" if sync_free is None else sync_free
        self.cfg = cfg
        self.device = device
        self.dtype = DTYPES[cfg.dtype] if cfg.level != "O0" else torch.float32
        self.static_scale = None if cfg.loss_scale == "dynamic" else float(cfg.loss_scale)
        self.scaler: Any | None = None  # None with a static scale, unless the chip saturates
        self.apex = None
        self.weights: ModelWeights
        if cfg.backend == "apex" and cfg.level != "O0":
            self.apex = apex_amp or apex.import_apex_amp()
            self.weights = apex.ApexWeights(model, self.apex)
        else:
            self.weights = FlatWeights(model, self.dtype) if cfg.level == "O2" else ModelWeights(model)
            if self.dtype == torch.float16 and (self.static_scale is None or not shows_overflow(device)):
                self.scaler = make_grad_scaler(device, self.static_scale or INIT_DYNAMIC_SCALE)
        self.grad_norm = torch.zeros((), device=device)  # of the last step, before clipping; for the log
        self._skips = torch.zeros(2, dtype=torch.int64, device=device)  # in all, in a row

    @property
    def averages_gradients(self) -> bool:
        """Whether `step` averages the gradients over ranks; else DistributedDataParallel has to."""
        return isinstance(self.weights, FlatWeights)

    @property
    def is_scaled(self) -> bool:
        """Whether the loss is scaled, so that gradients may overflow now and then."""
        return self.dtype == torch.float16 or self.apex is not None

    def optimizer_params(self) -> list[nn.Parameter]:
        """Return what the optimizer is built over: the model's parameters, or flat masters (O2)."""
        return self.weights.optimizer_params()

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return the optimizer to use; call once, before DDP. Only apex changes anything."""
        if self.apex is not None:
            assert isinstance(self.weights, apex.ApexWeights)
            optimizer = apex.initialize(self.apex, self.weights.model, optimizer, self.cfg)
            self.weights.optimizer = optimizer
        return optimizer

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context for the model's forward pass."""
        if self.cfg.level == "O1" and self.apex is None:
            return autocast(self.device, self.dtype)
        return contextlib.nullcontext()

    def cast_input(self, images: Tensor) -> Tensor:
        """Return the images in the dtype of the model's input."""
        return images.to(self.dtype) if self.cfg.level == "O2" else images

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self.weights.zero_grad()

    def backward(self, loss: Tensor, seed: Tensor | None = None) -> None:
        """Compute the gradients of a fp32 scalar, scaled if there is a loss scale.

        Args:
            loss: on the device.
            seed: gradient of the loss by itself, a fp32 scalar on the device; None: 1.
        """
        seed = torch.ones_like(loss) if seed is None else seed
        if self.apex is not None:
            with self.apex.scale_loss(loss * seed, self.weights.optimizer) as scaled:  # type: ignore[attr-defined]
                scaled.backward()
        else:  # the scale multiplies the gradient, not the loss: the same numbers, two kernels less
            loss.backward(self._scaled(seed))

    def _scaled(self, seed: Tensor) -> Tensor:
        if self.scaler is not None:
            return self.scaler.scale(seed)
        return seed * self.static_scale if self.is_scaled else seed  # type: ignore[operator]

    def _unscale(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        elif self.is_scaled and self.apex is None:
            grads = [parameter.grad for parameter in self.optimizer_params() if parameter.grad is not None]
            torch._foreach_mul_(grads, 1 / self.static_scale)  # type: ignore[operator]

    def step(self, optimizer: torch.optim.Optimizer, grad_clip: dict | None = None) -> None:
        """Unscale, clip, take the optimizer step unless a gradient is not finite, update the scale."""
        self.weights.gather_grads()
        self._unscale(optimizer)
        # In place, as all state of a step: a recorded step repeats its work on the same memory.
        self.grad_norm.copy_(clip_by_norm(self.optimizer_params(), grad_clip))
        is_finite = self.grad_norm < torch.inf  # not isfinite: see grads.py
        if self.apex is not None:
            optimizer.step()  # apex skips by itself, and copies its masters to the model
        elif self.scaler is not None:
            self.scaler.step(optimizer)
            # A static scale is put back instead of updated: no growth, no backoff.
            self.scaler.update(new_scale=self.static_scale)
            self.weights.push()
        else:
            step_if(optimizer, is_finite, self.sync_free)
            self.weights.push()
        is_skipped = ~is_finite
        self._skips += is_skipped  # both; the second starts again where no step was skipped
        self._skips[1].mul_(is_skipped)

    @property
    def scale(self) -> float:
        """The loss scale, for the log (waits for the device); 1.0 without one."""
        if self.scaler is not None:
            return float(self.scaler.get_scale())
        return float(self.static_scale or 0.0) if self.is_scaled else 1.0

    def skipped_steps(self) -> tuple[int, int]:
        """Return how many steps were skipped in all and in a row (waits for the device).

        Counted are gradients that are not finite. A 910A saturates: there only its scaler knows.
        """
        total, in_a_row = self._skips.tolist()
        return total, in_a_row

    def model_state_dict(self) -> dict[str, Tensor]:
        """Return the model's state_dict with the reference's keys and fp32 values (copies)."""
        return {name: value.clone() for name, value in self.weights.fp32_values().items()}

    def named_masters(self) -> dict[str, Tensor]:
        """Return the live fp32 values behind every entry of the model's state_dict (for EMA)."""
        return self.weights.fp32_values()

    def load_model_state(self, state: dict[str, Tensor]) -> None:
        """Load fp32 weights, exactly, into masters and model; CheckpointError if they do not fit."""
        values = self.weights.fp32_values()
        wrong = set(state) ^ set(values)
        wrong |= {name for name in set(state) & set(values) if not fits(values[name], state[name])}
        if wrong:
            names = ", ".join(sorted(map(str, wrong))[:5])
            raise CheckpointError(
                f"{len(wrong)} weights are missing, unexpected or of another shape or type: {names}"
            )
        with torch.no_grad():
            for name, value in values.items():
                value.copy_(state[name])
        self.weights.push()

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides model and optimizer: masters, their layout, the scaler."""
        return {
            "level": self.cfg.level,
            "dtype": self.cfg.dtype,
            "backend": self.cfg.backend,
            "layout": self.weights.layout(),
            "masters": [master.clone() for master in self.weights.masters()],
            "scaler": self._scaler_state(),
            "apex": None if self.apex is None else self.apex.state_dict(),
        }

    def _scaler_state(self) -> dict[str, Any] | None:
        if self.scaler is not None or not self.is_scaled or self.apex is not None:
            return None if self.scaler is None else self.scaler.state_dict()
        # As a scaler would write it: a run may be resumed with a dynamic scale, which then starts here.
        growth = {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 0}
        return {"scale": self.static_scale, **growth}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; CheckpointError if the run was of another kind."""
        mine = {"level": self.cfg.level, "dtype": self.cfg.dtype, "backend": self.cfg.backend}
        for key, value in mine.items():
            if state.get(key) != value and (key != "dtype" or self.cfg.level != "O0"):
                raise CheckpointError(
                    f"the checkpoint was trained with amp.{key} = {state.get(key)!r}, this run has {value!r}."
                    " Resume with the same, or start a new run from its weights with --load-from."
                )
        _check_layout(state["layout"], self.weights.layout())
        with torch.no_grad():
            for master, saved in zip(self.weights.masters(), state["masters"], strict=True):
                master.copy_(saved)
        self.weights.push()
        if self.scaler is not None and self.static_scale is None:
            # A checkpoint of another device kind may lack torch_npu's extra key.
            self.scaler.load_state_dict({"dynamic": True, **state["scaler"]})
        if self.apex is not None:
            self.apex.load_state_dict(state["apex"])


def _check(cfg: AmpConfig, device: torch.device) -> None:
    read(AmpConfig, asdict(cfg), "amp")
    if cfg.level != "O0" and cfg.dtype == "bfloat16" and not supports_bf16(device):
        raise DeviceError(f"amp.dtype = 'bfloat16': {device} does not compute in bfloat16. Use 'float16'.")


def _check_layout(saved: list[dict[str, Any]], mine: list[dict[str, Any]]) -> None:
    if saved == mine:
        return
    shapes = [dict(zip(g["names"], map(list, g["shapes"]), strict=True)) for g in saved]
    pairs = [
        (name, flat.get(name), shape)
        for flat, group in zip([*shapes, *[{}] * len(mine)], mine, strict=False)
        for name, shape in zip(group["names"], group["shapes"], strict=True)
        if flat.get(name) != shape
    ]
    where = (
        f": {pairs[0][0]} is {pairs[0][1]} there and {pairs[0][2]} here"
        if pairs
        else " (order of parameters)"
    )
    raise CheckpointError(f"the checkpoint's master weights are laid out for another model{where}")
