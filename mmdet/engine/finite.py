"""Stop at the first loss that is not finite, without asking the device at every step.

`watch` counts the steps up to the first bad one and keeps that one's losses, in tensors on the device;
`seed`, with which the backward pass starts, is NaN from then on. NaN gradients reach all ranks through the
gradient average, and `Precision.step` skips such a step, so no rank's weights change after the bad loss.
`check`, called where the host waits for the device anyway (log lines, before a checkpoint or an evaluation),
then ends every rank with one message that names the rank which started it. On a CPU `remember`, after every
step, checks at once.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from mmdet.distributed import all_gather_objects, any_across_ranks, rank, world_size
from mmdet.errors import TrainError
from mmdet.precision import Precision

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
        self.seed = torch.ones((), device=device)  # 1; NaN from the first bad loss on
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._values = torch.zeros(0, device=device)
        self._keys: tuple[str, ...] = ()
        self._names: dict[int, tuple[str, ...]] = {}  # of the iterations since the last check
        self._num_checked = 0  # steps before those

    def watch(self, losses: dict[str, Tensor]) -> Tensor:
        """Note the losses of the next iteration; return their sum, to be passed to `Precision.backward`.

        All state changes in place, so that a recorded step can repeat it.

        Args:
            losses: fp32 scalars on the device.

        Returns:
            Scalar on the device. `seed` is its gradient by itself, without a loss scale.
        """
        values = torch.stack([value.detach().float() for value in losses.values()])
        if not self._keys:
            self._keys = tuple(losses)
            self._values = torch.zeros_like(values)
        is_good = self.seed == self.seed  # as long as no earlier loss was bad: NaN equals nothing
        torch.where(is_good, values, self._values, out=self._values)
        self._count += is_good
        total = reduce(torch.add, losses.values())
        self.seed += total.detach() * 0
        return total

    def remember(self, iter: int, names: Sequence[str] = ()) -> None:
        """Keep the number of the iteration whose losses were noted last, and the names of its images.

        Call it once for every `watch`. `check` follows at once unless `sync_free`.

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
        is_bad = math.isnan(float(self.seed))
        if any_across_ranks(is_bad):
            iter = list(self._names)[int(self._count) - self._num_checked - 1] if is_bad else -1
            record = (iter, self._values.tolist(), self._names.get(iter, ()))
            raise TrainError(self._message(all_gather_objects(record)))
        self._num_checked += len(self._names)
        self._names.clear()
        self._check_skips()

    def _message(self, records: list[tuple[int, list[float], tuple[str, ...]]]) -> str:
        first = min(bad_iter for bad_iter, _, _ in records if bad_iter >= 0)
        parts = []
        for number, (bad_iter, values, names) in enumerate(records):
            if bad_iter != first:
                continue
            losses = dict(zip(self._keys, values, strict=True))
            bad = [f"{key} is {value}" for key, value in losses.items() if not math.isfinite(value)]
            bad = bad or ["the sum of losses is inf"]
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
        if not self.precision.is_scaled and total:
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
