"""What tools/npu_audit.py prints and writes: one recorded step in full, or a line for each of several."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from mmdet.core.structures import Batch
from mmdet.testing.ascend_ops import DYNAMIC, SYNC
from mmdet.testing.audit import Recorder
from mmdet.testing.cost import Assumptions, forecast
from mmdet.testing.placement import AI_CPU, HOST, ORDER_CHANGES

MAX_PLACES = 5
COLUMNS = (
    (HOST, "host"),
    (AI_CPU, "AI CPU"),
    (DYNAMIC, "dynamic"),
    (SYNC, "syncs"),
    (ORDER_CHANGES, "fp16 sorts"),
)


@dataclass(frozen=True)
class Audit:
    """A recorded step and the chip it is judged for.

    Attributes:
        config: its name.
        step: what was recorded, and its level.
        chip: one of placement.CHIPS.
        recorder: with the calls.
        batch: of the step.
        assumed: for the estimate.
    """

    config: str
    step: str
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
        yield f"{self.config}: {self.step}, batch {shape}, chip {self.chip}; {source}"
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
        yield f"graph capture: {self.why_no_capture() or 'nothing forbids it'}"

    def why_no_capture(self) -> str:
        """Return what forbids to record the step as a graph, operators with their lines; "" if nothing."""
        calls = self.recorder.capture_offenders(self.chip)
        found = sorted({f"{call.name} at {call.place} ({call.verdict or HOST})" for call in calls})
        return "forbidden by " + ", ".join(found) if found else ""

    def line(self) -> str:
        """Return the totals in the columns of `overview`."""
        total = self.recorder.summary(self.chip)
        time = forecast(self.recorder.calls, self.chip, self.assumed)
        offences = "".join(f"{total.offences.get(reason, 0):>{len(head) + 2}}" for reason, head in COLUMNS)
        return (
            f"{self.config:44}{self.chip:>6}{total.launches:>10}{offences}{total.int64:>7}"
            f"{total.num_bytes / 1e9:>7.1f}{time.device_ms:>9.0f}{time.launch_ms:>11.0f}"
        )

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
            "title": f"{self.config}: {self.step}",
            "chip": self.chip,
            "source": self.recorder.npu.source,
            "batch": list(self.batch.images.shape),
            "batch_bytes": batch_bytes(self.batch),
            "operators": [asdict(row) for row in self.recorder.rows(self.chip)],
            "summary": asdict(self.recorder.summary(self.chip)),
            "estimate": asdict(forecast(self.recorder.calls, self.chip, self.assumed)),
            "assumed": asdict(self.assumed),
            "num_offending": self.num_offences(),
            "capture": self.why_no_capture(),
        }


def overview(audits: Sequence[Audit]) -> Iterator[str]:
    """Yield one line per audit; milliseconds are estimates."""
    heads = "".join(f"  {head}" for _, head in COLUMNS)
    yield f"{audits[0].step}; {audits[0].recorder.npu.source}"
    yield f"{'config':44}{'chip':>6}{'launches':>10}{heads}  int64     GB  card ms  launch ms"
    yield from (audit.line() for audit in audits)
    num_bad = sum(audit.num_offences() > 0 for audit in audits)
    yield f"{len(audits)} audits, {num_bad} with offences; milliseconds are estimates"


def batch_bytes(batch: Batch) -> int:
    """Return the bytes of all tensors of a batch, which travel to the card in every step."""
    tensors = [value for value in vars(batch).values() if hasattr(value, "element_size")]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
