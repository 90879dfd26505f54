"""What tools/npu_audit.py prints and writes about one recorded step."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mmdet.core.structures import Batch
from mmdet.testing.audit import Recorder
from mmdet.testing.cost import Assumptions, forecast

MAX_PLACES = 5


@dataclass(frozen=True)
class Audit:
    """A recorded step and the chip it is judged for.

    Attributes:
        title: config, step, level.
        chip: one of placement.CHIPS.
        recorder: with the calls.
        batch: of the step.
        assumed: for the estimate.
    """

    title: str
    chip: str
    recorder: Recorder
    batch: Batch
    assumed: Assumptions

    def num_offences(self) -> int:
        """Return the calls that a training step must not contain."""
        return len(self.recorder.offenders(self.chip))

    def lines(self) -> Iterator[str]:
        """Yield the report: a table, offences first, and totals."""
        total = self.recorder.summary(self.chip)
        time = forecast(self.recorder.calls, self.chip, self.assumed)
        shape, source = tuple(self.batch.images.shape), self.recorder.npu.source
        yield f"{self.title}, batch {shape}, chip {self.chip}; {source}"
        yield from self._table()
        units = ", ".join(f"{unit} {count}" for unit, count in sorted(total.units.items()))
        yield f"{total.launches} launches ({units}); {total.num_bytes / 1e9:.1f} GB read and written"
        yield (
            f"int64 in {total.int64} launches, rows that are no multiple of 32 bytes in {total.unaligned}; "
            f"{batch_bytes(self.batch) / 1e6:.1f} MB of batch to the card"
        )
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in time.parts_ms.items() if ms >= 0.05)
        yield f"estimate: card {time.device_ms:.0f} ms ({parts}); launches {time.launch_ms:.0f} ms"
        reasons = ", ".join(f"{reason} {count}" for reason, count in total.offences.items()) or "clean"
        yield f"{self.num_offences()} offences ({reasons}); the loss scaler waits {total.scaler_syncs} times"

    def _table(self) -> Iterator[str]:
        yield f"{'unit':17}{'count':>6}{'shapes':>8}{'MB':>10}  operator and dtypes"
        for row in self.recorder.rows(self.chip):
            size = f"{row.num_bytes / 1e6:10.1f}"
            yield f"{row.unit:17}{row.count:6}{row.num_shapes:8}{size}  {row.name} ({', '.join(row.dtypes)})"
            for place in row.places[:MAX_PLACES]:
                yield f"{'':43}at {place}"

    def as_dict(self) -> dict:
        """Return the report for a JSON file."""
        return {
            "title": self.title,
            "chip": self.chip,
            "source": self.recorder.npu.source,
            "batch": list(self.batch.images.shape),
            "batch_bytes": batch_bytes(self.batch),
            "operators": [asdict(row) for row in self.recorder.rows(self.chip)],
            "summary": asdict(self.recorder.summary(self.chip)),
            "estimate": asdict(forecast(self.recorder.calls, self.chip, self.assumed)),
            "assumed": asdict(self.assumed),
            "num_offending": self.num_offences(),
        }


def batch_bytes(batch: Batch) -> int:
    """Return the bytes of all tensors of a batch, which travel to the card in every step."""
    tensors = [value for value in vars(batch).values() if hasattr(value, "element_size")]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
