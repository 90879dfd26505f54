"""RecordedStep: the recorded step trains exactly as the plain one, on every batch shape."""

import contextlib
import gc
import json
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmdet import distributed
from mmdet.checkpoint import files as checkpoint
from mmdet.config import AmpConfig, SpeedConfig
from mmdet.core.anchors import AnchorGenerator
from mmdet.device import pick_device
from mmdet.device_graph import Outside
from mmdet.engine.eval_hook import EvalHook
from mmdet.engine.graphs import WARM_UP_STEPS, RecordedStep
from mmdet.engine.log_hook import LogHook
from mmdet.engine.scalar_writers import JsonWriter
from mmdet.engine.state import make_checkpoint, restore
from mmdet.errors import ConfigError, TrainError
from mmdet.testing.audit_step import draw_batch

FUSED = SpeedConfig(fused_optimizer=True)  # as speed.graph has it
CPU = torch.device("cpu")
SLOTS = (8, 8, 8, 16, 8, 8, 16, 16, 16, 8, 16, 8)  # by iteration


aten = torch.ops.aten
FORBIDDEN = {  # they wait for the device
    *(aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select),
    *(aten._unique, aten._unique2, aten.unique_dim, aten.unique_consecutive),
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


def _has_mask(indices: list[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


class _Tape(TorchDispatchMode):
    """A stand-in for CUDA graphs on the CPU: it records operators and repeats them on the same memory.

    Most of what a graph forbids or forgets fails here, too: asking the device for a value (`item`, `bool`),
    shapes that depend on values (a mask as index, `unique`), host numbers copied into the step, a Python
    number that was read once, state that moves to another tensor instead of changing in place. It cannot see
    `tolist`, `numpy` and `cpu`, which on a CPU call no operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, Any]] = []
        self.on_host: set[int] = (
            set()
        )  # tensors made of Python numbers, and what was computed from them alone

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        inputs = {
            id(leaf) in self.on_host for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        }
        is_mask = func.overloadpacket in INDEXING and _has_mask(args[1])
        if func.overloadpacket in FORBIDDEN or is_mask or len(inputs) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is aten.lift_fresh or inputs == {True}:
            self.on_host |= {id(leaf) for leaf in tree_leaves(result)}
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def repeat(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self.calls:
                if func.is_view:
                    continue  # the same memory as when it was recorded
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)


class TapeRecorder:
    """As `mmdet.device.GraphRecorder`; `state` lists the tensors that recording must leave as they were."""

    def __init__(self, state: Callable[[], list[Tensor]]) -> None:
        self.state = state
        self.num_warm_ups = self.num_recordings = self.num_repeats = 0

    def warm_up(self, work: Callable[[], Any]) -> Any:
        self.num_warm_ups += 1
        return work()

    def record(self, work: Callable[[Outside], Any]) -> tuple[Callable[[], None], Any]:
        self.num_recordings += 1
        before = [(tensor, tensor.detach().clone()) for tensor in self.state()]
        parts: list[Callable[[], object]] = []
        with contextlib.ExitStack() as recording:

            def begin() -> None:
                parts.append(recording.enter_context(_Tape()).repeat)

            def outside(call: Callable[[], object]) -> None:
                recording.close()
                parts.append(call)
                begin()

            begin()
            result = work(outside)
        with torch.no_grad():
            for tensor, old in before:  # a graph does not run while it is recorded
                tensor.detach().copy_(old)

        def repeat() -> None:
            self.num_repeats += 1
            for part in parts:
                part()

        return repeat, result


def lasting_tensors(trainer):
    optimizer_state = [v for values in trainer.step.optimizer.state.values() for v in values.values()]
    scaler = trainer.step.precision.scaler
    return [
        *trainer.step.net.parameters(),
        *trainer.step.net.buffers(),
        *trainer.step.precision.optimizer_params(),
        *optimizer_state,
        *([scaler._scale] if scaler else []),
        trainer.step.precision._skips,
        trainer.step.precision.grad_norm,
        trainer.step.guard.seed,
        trainer.step.guard._count,
        trainer.step.guard._values,
    ]


def train(trainer, slots=SLOTS):
    losses = []
    for iter, num_slots in enumerate(slots):
        trainer.iter = iter
        losses.append(trainer.train_step(draw_batch(2, 64, 5, num_slots, seed=iter).to(trainer.step.device)))
    trainer.log.close()
    return losses


@pytest.fixture
def make_recorded(make_trainer):
    """A function like make_trainer, for a trainer whose step is recorded; its recorder is the step's."""

    def make(**options):
        recorder = TapeRecorder(lambda: lasting_tensors(trainer))
        trainer = make_trainer(speed=FUSED, recorder=recorder, **options)
        return trainer

    return make


@pytest.mark.cuda
@pytest.mark.parametrize(
    "amp", [AmpConfig(), AmpConfig("O2", "bfloat16"), AmpConfig("O2", "float16")], ids=str
)
def test_recorded_steps_train_as_plain_ones_on_a_card(amp, make_trainer):
    device = pick_device("cuda")
    speeds = FUSED, SpeedConfig(graph=True)
    plain, recorded = (make_trainer(amp=amp, speed=speed, device=device) for speed in speeds)
    tolerance = 1e-3 if amp.level == "O0" else 0.05  # atomic additions come in any order, and errors grow
    for one, two in zip(train(plain), train(recorded), strict=True):
        for key in one:
            assert two[key].item() == pytest.approx(one[key].item(), rel=tolerance), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("amp", "optimizer"),
    [
        (AmpConfig(), "SGD"),
        (AmpConfig("O1", "bfloat16"), "SGD"),
        (AmpConfig("O2", "bfloat16"), "SGD"),
        (AmpConfig("O2", "float16", 128.0), "SGD"),
        (AmpConfig(), "AdamW"),
    ],
    ids=["O0", "O1-bf16", "O2-bf16", "O2-fp16", "AdamW"],
)
def test_recorded_steps_train_as_plain_ones(amp, optimizer, make_trainer, make_recorded):
    plain = make_trainer(amp=amp, speed=FUSED, optimizer=optimizer)
    recorded = make_recorded(amp=amp, optimizer=optimizer)
    for group in plain.step.optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])  # rounded to fp32, as in a recorded step
    for iter, (one, two) in enumerate(zip(train(plain), train(recorded), strict=True)):
        assert one.keys() == two.keys()
        for key in one:
            assert two[key].item() == pytest.approx(one[key].item(), rel=1e-5, abs=1e-7), (iter, key)
    for one, two in zip(lasting_tensors(plain), lasting_tensors(recorded), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-6)
    recorder = recorded.step.recorder
    assert (recorder.num_warm_ups, recorder.num_recordings) == (2 * WARM_UP_STEPS, 2)
    assert recorder.num_repeats == len(SLOTS) - 2 * WARM_UP_STEPS


@pytest.mark.slow
@pytest.mark.parametrize("amp", [AmpConfig(), AmpConfig("O2", "float16", 128.0)], ids=["O0", "O2-fp16"])
def test_without_a_fused_optimizer_the_bits_are_the_same(amp, make_trainer):
    """As on an NPU: SGD is computed in precision/sgd.py."""
    plain, recorded = make_trainer(amp=amp), make_trainer(amp=amp)
    recorder = TapeRecorder(lambda: lasting_tensors(recorded))
    recorded.step = replace(recorded.step, recorder=recorder)
    for trainer in (plain, recorded):
        trainer.step.precision.sync_free = trainer.step.guard.sync_free = True
    (group,) = plain.step.optimizer.param_groups
    group["lr"] = torch.tensor(group["lr"])  # rounded to fp32, as in a recorded step
    slots = (8,) * (WARM_UP_STEPS + 4)
    for one, two in zip(train(plain, slots), train(recorded, slots), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
    for one, two in zip(lasting_tensors(plain), lasting_tensors(recorded), strict=True):
        assert torch.equal(one, two)
    assert recorder.num_repeats == 4


class TwoAlike:
    """Stands for torch.distributed on two ranks that compute the same: a sum is twice the value."""

    def __init__(self):
        self.num_sums = 0
        self.ReduceOp = torch.distributed.ReduceOp

    is_available = is_initialized = staticmethod(lambda: True)
    get_world_size, get_rank = staticmethod(lambda: 2), staticmethod(lambda: 0)
    broadcast = staticmethod(lambda tensor, src: None)

    def all_reduce(self, tensor, op=None, group=None):
        if op is None:
            self.num_sums += 1
            tensor.mul_(2)


@pytest.mark.slow
def test_recorded_steps_of_several_ranks_leave_the_exchanges_outside(make_trainer, monkeypatch):
    amp, slots = AmpConfig("O2", "float16", 128.0), (8,) * (WARM_UP_STEPS + 3)
    alone = train(make_trainer(amp=amp), slots)
    ranks = TwoAlike()
    monkeypatch.setattr(distributed, "dist", ranks)
    recorded = make_trainer(amp=amp)
    recorder = TapeRecorder(lambda: lasting_tensors(recorded))
    recorded.step = replace(recorded.step, recorder=recorder)
    recorded.step.precision.sync_free = True
    losses = train(recorded, slots)
    assert recorder.num_repeats == 3
    assert ranks.num_sums == 3 * len(slots)  # normalisers and two buffers; none while recording
    for one, two in zip(alone, losses, strict=True):
        assert all(two[key].item() == pytest.approx(one[key].item(), rel=1e-5) for key in one)


def test_losses_of_a_step_survive_the_next_and_hold_no_graph(make_recorded):
    trainer = make_recorded()
    losses = train(trainer, (8,) * (WARM_UP_STEPS + 3))
    values = [loss["loss_cls"].item() for loss in losses]
    assert len(set(values)) == len(values)
    assert not any(loss.requires_grad for step in losses for loss in step.values())


def test_the_learning_rate_of_a_recording_changes(make_recorded):
    trainer = make_recorded()
    train(trainer, (8,) * (WARM_UP_STEPS + 2))
    (group,) = trainer.step.optimizer.param_groups
    assert isinstance(group["lr"], torch.Tensor)
    assert group["lr"].item() == pytest.approx(trainer.schedule.lr_at(WARM_UP_STEPS + 1))
    assert trainer.schedule.lr_at(WARM_UP_STEPS + 1) != trainer.schedule.lr_at(WARM_UP_STEPS)


def test_recorded_steps_reach_the_log_and_the_evaluations_figures(make_recorded, tmp_path):
    trainer = make_recorded()
    trainer.log.set_writers([JsonWriter()])
    trainer.log.open(tmp_path, "run")
    log = LogHook(interval=1)
    for trainer.iter in range(WARM_UP_STEPS + 1):
        trainer.iter_start_s = time.perf_counter()
        losses = trainer.train_step(draw_batch(2, 64, 5, 8, seed=trainer.iter))
        trainer.iter += 1
        log.after_iter(trainer, losses)
    evaluation = EvalHook.__new__(EvalHook)  # without data: only what it writes
    evaluation.data = SimpleNamespace(dataset=["an image"])
    evaluation._report(trainer, {"mAP": 0.5})
    records = [json.loads(line) for line in (tmp_path / "run.log.json").read_text().splitlines()]
    assert [record["mode"] for record in records] == ["train"] * (WARM_UP_STEPS + 1) + ["val"]
    lr = trainer.schedule.lr_at(WARM_UP_STEPS)
    assert [record["lr"] for record in records[-2:]] == pytest.approx([lr, lr])


def test_a_bad_loss_in_a_recorded_step_names_its_iteration_and_changes_no_weight(make_recorded):
    trainer = make_recorded()
    train(trainer, (8,) * (WARM_UP_STEPS + 1))
    before = [parameter.detach().clone() for parameter in trainer.step.net.parameters()]
    batch = draw_batch(2, 64, 5, 8)
    batch.images[0] = torch.nan
    batch = replace(batch, names=("a.jpg", "b.jpg"))
    for trainer.iter in (41, 42):  # the second repetition must know of the first
        with pytest.raises(TrainError, match=r"nan at iter 41, rank 0 \(images: a.jpg, b.jpg\)"):
            trainer.train_step(batch)
    assert trainer.step.precision.skipped_steps() == (2, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.step.net.parameters(), strict=True))


def put_by_mask(x):
    x = x.clone()
    x[x > 0] = x[x > 0]
    return x.sum()


PLANTS = {
    "float": lambda x: x * float(x.sum()),
    "bool": lambda x: x if x.sum() > 0 else -x,
    "nonzero": lambda x: x.nonzero().sum(),
    "mask": lambda x: x[x > 0],
    "put by mask": put_by_mask,
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "new tensor": lambda x: x + torch.tensor([1.0]),
    "equal": lambda x: torch.full((), float(torch.equal(x, x))),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_step_that_a_card_cannot_record_is_refused_in_one_line(plant):
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, fused=True)

    def update(batch):
        return {"loss": plant(batch.images).float().sum()}

    step = RecordedStep(update, optimizer, CPU, TapeRecorder(list))
    for _ in range(WARM_UP_STEPS):
        step(draw_batch(1, 8, 1, 2))
    message = r"^speed.graph: this step cannot be recorded \(.*capturing.*test_graphs.py:\d+\); .*False$"
    with pytest.raises(ConfigError, match=message):
        step(draw_batch(1, 8, 1, 2))


class OutOfMemoryError(RuntimeError):
    """Stands for torch's."""


class _FailingRecorder(TapeRecorder):
    """Fails as torch.cuda.graph does: ending the recording raises an error of its own over the real one."""

    def __init__(self, cause):
        super().__init__(list)
        self.cause = cause

    def record(self, work):
        try:
            raise self.cause
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture\n...")


@pytest.mark.parametrize(
    ("cause", "expected", "message"),
    [
        (
            RuntimeError("cannot read\nmore"),
            ConfigError,
            r"^speed.graph: .* recorded \(cannot read, unit/engine/test_graphs.py:\d+\); set .*False$",
        ),
        (OutOfMemoryError("no 2 GiB left"), OutOfMemoryError, "^no 2 GiB left$"),
    ],
    ids=["error", "memory"],
)
def test_the_first_error_of_a_failed_recording_is_told(cause, expected, message):
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1, fused=True)
    step = RecordedStep(lambda batch: {}, optimizer, CPU, _FailingRecorder(cause))
    for _ in range(WARM_UP_STEPS):
        step(draw_batch(1, 8, 1, 2))
    with pytest.raises(expected, match=message):
        step(draw_batch(1, 8, 1, 2))


@pytest.mark.parametrize("is_to_recorded", [False, True], ids=["to plain", "to graph"])
def test_a_run_resumes_with_the_other_kind_of_step(is_to_recorded, make_trainer, make_recorded, tmp_path):
    makes = (make_trainer, make_recorded) if is_to_recorded else (make_recorded, make_trainer)
    before, after = (make() for make in makes)
    train(before, (8,) * (WARM_UP_STEPS + 1))
    checkpoint.save(tmp_path / "a.pth", make_checkpoint(before))
    restore(after, checkpoint.load(tmp_path / "a.pth"))
    (group,) = after.step.optimizer.param_groups
    assert type(group["lr"]) is float and bool(group["fused"]) == is_to_recorded
    batch = draw_batch(2, 64, 5, 8, seed=99)
    for _ in range(WARM_UP_STEPS + 2):
        before.iter = after.iter = before.iter + 1
        one, two = before.train_step(batch), after.train_step(batch)
        assert two["loss_bbox"].item() == pytest.approx(one["loss_bbox"].item(), rel=1e-4)


def test_the_anchors_of_a_recorded_step_stay_where_they_are():
    """Evaluating images of many sizes empties the generator's cache; the recording still reads the memory."""
    generator = AnchorGenerator(strides=[8], ratios=[1.0], scales=[1])
    sizes = [(7, 11)]

    def update(batch):
        grid = generator.grid(sizes)
        return {"loss": grid.bboxes.sum() * batch.images.sum()}

    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1, fused=True)
    step = RecordedStep(update, optimizer, CPU, TapeRecorder(list))
    for _ in range(WARM_UP_STEPS):
        step(draw_batch(1, 8, 1, 2))
    want = step(draw_batch(1, 8, 1, 2))["loss"]
    recorded, unrecorded = (weakref.ref(generator.grid(s)) for s in (sizes, [(5, 5)]))
    for side in range(1, 40):
        generator.grid([(side, 100)])
    gc.collect()
    assert recorded() is not None and unrecorded() is None
    assert step(draw_batch(1, 8, 1, 2))["loss"] == want
