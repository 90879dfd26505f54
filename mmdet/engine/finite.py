"""Stop at the first loss that is not finite, without asking the device at every step.

`watch` keeps the first bad iteration and its losses in tensors on the device, and makes the total loss
NaN from then on. NaN gradients reach all ranks through the gradient average, and `Precision.step` skips
such a step, so no rank's weights change after the bad loss. `check`, called where the host waits for
the device anyway (log lines, before a checkpoint or an evaluation), then ends every rank with one
message that names the rank which started it. On a CPU `remember`, after every step, checks at once.
"""

import logging
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from mmdet.distributed import all_gather_objects, any_across_ranks, rank, world_size
from mmdet.errors import TrainError
from mmdet.precision import Precision
from mmdet.precision.grads import is_finite

logger = logging.getLogger(__name__)

MAX_SKIPS_IN_A_ROW = 50  # a dynamic scale halves at each: by then 2**16 has become 2**-34
MAX_NAMES = 8


class FiniteGuard:
    """Watches the losses of one rank.

    Args:
        device: where the losses are.
        precision: asked for the loss scale and for skipped steps; None in tests.
        describe: returns what the message should end with, such as the last good checkpoint.
        sync_free: `remember` does not look at the losses; None: except on a CPU, where it costs nothing.
    """

    def __init__(
        self,
        device: torch.device,
        precision: Precision | None = None,
        describe: Callable[[], str] = lambda: "",
        *,
        sync_free: bool | None = None,
    ) -> None:
        self.sync_free = device.type != "cpu" if sync_free is None else sync_free
        self.device = device
        self.precision = precision
        self.describe = describe
        self._bad_iter = torch.full((), -1, dtype=torch.int64, device=device)
        self._bad_values = torch.zeros(0, device=device)
        self._one, self._nan = torch.ones((), device=device), torch.full((), torch.nan, device=device)
        self._keys: tuple[str, ...] = ()
        self._names: dict[int, tuple[str, ...]] = {}

    def watch(self, iter: int | Tensor, losses: dict[str, Tensor]) -> Tensor:
        """Note the losses; return their sum, to be passed to `Precision.backward`.

        All state changes in place, so that a recorded step can repeat it.

        Args:
            iter: number of this iteration; an int64 scalar on the device in a recorded step.
            losses: fp32 scalars on the device.

        Returns:
            Scalar on the device; NaN, with NaN gradients, from the first bad loss on.
        """
        values = torch.stack([value.detach().float() for value in losses.values()])
        if not self._keys:
            self._keys = tuple(losses)
            self._bad_values = torch.zeros_like(values)
        is_first = (self._bad_iter < 0) & ~is_finite(values).all()
        self._bad_iter.copy_(torch.where(is_first, iter, self._bad_iter))
        torch.where(is_first, values, self._bad_values, out=self._bad_values)
        poison = torch.where(self._bad_iter < 0, self._one, self._nan)
        return reduce(torch.add, losses.values()) * poison

    def remember(self, iter: int, names: Sequence[str] = ()) -> None:
        """Keep the names of this rank's images, for the message; `check` at once unless `sync_free`.

        Raises:
            TrainError: on every rank, unless `sync_free`.
        """
        self._names[iter] = tuple(names)
        if not self.sync_free:
            self.check()

    def check(self) -> None:
        """Raise TrainError on all ranks if any rank met a bad loss; waits for the device.

        All ranks must call it at the same iteration.
        """
        bad_iter = int(self._bad_iter)
        if any_across_ranks(bad_iter >= 0):
            record = (bad_iter, self._bad_values.tolist(), self._names.get(bad_iter, ()))
            raise TrainError(self._message(all_gather_objects(record)))
        self._names.clear()
        self._check_skips()

    def _message(self, records: list[tuple[int, list[float], tuple[str, ...]]]) -> str:
        first = min(bad_iter for bad_iter, _, _ in records if bad_iter >= 0)
        parts = []
        for number, (bad_iter, values, names) in enumerate(records):
            if bad_iter != first:
                continue
            losses = dict(zip(self._keys, values, strict=True))
            bad = [f"{key} is {value}" for key, value in losses.items() if not abs(value) < float("inf")]
            shown = ", ".join(names[:MAX_NAMES]) + (
                f" and {len(names) - MAX_NAMES} more" * (len(names) > MAX_NAMES)
            )
            parts.append(
                f"{', '.join(bad)} at iter {first}, rank {number}" + (f" (images: {shown})" if names else "")
            )
            if number == rank():
                logger.error(
                    "iter %d, rank %d: losses %s, images %s", first, number, losses, ", ".join(names)
                )
        scale = f", loss_scale {self.precision.scale:g}" if self.precision is not None else ""
        return f"{'; '.join(parts)}{scale}. {self.describe()}".rstrip()

    def _check_skips(self) -> None:
        if self.precision is None:
            return
        total, in_a_row = self.precision.skipped_steps()
        if self.precision.scaler is None and self.precision.apex is None and total:
            raise TrainError(
                f"gradients were not finite in {total} steps, although every loss was (world size "
                f"{world_size()}). {self.describe()}".rstrip()
            )
        if in_a_row >= MAX_SKIPS_IN_A_ROW:
            scale = f"loss_scale {self.precision.scale:g}"
            raise TrainError(
                f"the last {in_a_row} steps overflowed and were skipped ({scale}). Set amp.loss_scale lower, "
                f"or to 'dynamic'. {self.describe()}".rstrip()
            )
