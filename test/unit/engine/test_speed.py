"""Speed options: what is refused, what is chosen, and that the losses stay."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdet.config import AmpConfig, SpeedConfig, load_config
from mmdet.device import Backends
from mmdet.device_graph import GraphRecorder
from mmdet.engine import speed
from mmdet.engine.speed import check_speed, choose_memory_format, fuse_optimizer, start_momentum
from mmdet.errors import ConfigError, DeviceError
from mmdet.precision.grads import step_if
from mmdet.testing.audit_step import draw_batch

REPO = Path(__file__).resolve().parents[3]
NPU = SimpleNamespace(type="npu")  # torch.device knows the word only once torch_npu is imported
CPU, CARD, META = torch.device("cpu"), torch.device("cuda", 0), torch.device("meta")
GRAPH = SpeedConfig(graph=True)


def config(**changes):
    return replace(load_config(REPO / "configs/scrfd/scrfd_500m.py"), **changes)


def losses_of_steps(trainer, num=3, size=96):
    values = []
    for iter in range(num):
        trainer.iter = iter
        losses = trainer.train_step(draw_batch(2, size, 5, 8, seed=iter))
        values += [loss.item() for loss in losses.values()]
    return values


def test_by_default_nothing_is_switched_on_but_channels_last_where_it_works():
    cfg = config()
    assert cfg.speed == SpeedConfig(channels_last=None, compile=False, fused_optimizer=False, graph=False)
    assert choose_memory_format(cfg.speed, CPU) == torch.channels_last
    assert choose_memory_format(cfg.speed, CARD) == torch.channels_last
    assert choose_memory_format(cfg.speed, NPU) == torch.contiguous_format
    assert choose_memory_format(SpeedConfig(channels_last=False), CPU) == torch.contiguous_format
    assert choose_memory_format(SpeedConfig(channels_last=True), CARD) == torch.channels_last
    assert fuse_optimizer({"type": "SGD", "lr": 1}, cfg.speed, CPU) == {"type": "SGD", "lr": 1}


def test_options_are_read_from_the_file_and_unknown_ones_refused():
    path = REPO / "configs/scrfd/scrfd_500m.py"
    cfg = load_config(path, ["speed.channels_last=False", "speed.compile=True", "speed.graph=True"])
    assert cfg.speed == SpeedConfig(False, True, False, True)
    with pytest.raises(ConfigError, match=r"speed.*grahp.*graph"):
        load_config(path, ["speed.grahp=True"])
    with pytest.raises(ConfigError, match="speed.compile"):
        load_config(path, ["speed.compile=3"])


@pytest.mark.parametrize("device", [CPU, META], ids=str)
def test_a_device_without_graphs_refuses_them_in_one_line(device):
    message = rf"^speed.graph: device {device.type} cannot record a step; set it .* --device cuda or npu.$"
    with pytest.raises(DeviceError, match=message):
        check_speed(config(speed=GRAPH), device)
    with pytest.raises(DeviceError, match=message):
        GraphRecorder(device)


@pytest.mark.parametrize(
    ("changes", "world_size", "word"),
    [
        ({}, 2, "amp.level O0 and O1 average gradients between 2 ranks"),
        (
            {"amp": AmpConfig("O2", "bfloat16"), "sync_bn": True},
            2,
            "sync_bn exchanges .* 2 ranks",
        ),
        ({"amp": AmpConfig("O2", "float16", 128.0, "apex")}, 1, "apex"),
        ({"amp": AmpConfig("O1", "float16", "dynamic")}, 1, r"item\(\) \(torch/amp/grad_scaler.py:\d+\)"),
        ({"optimizer": {"type": "RMSprop", "lr": 0.1}}, 1, "'RMSprop' must be SGD or Adam or AdamW"),
        ({"optimizer": {"type": "SGD", "lr": 0.1, "dampening": 0.5}}, 1, "dampening must be 0"),
        ({"model": {"backbone": {"with_cp": True}}}, 1, "with_cp"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(changes, world_size, word):
    with pytest.raises(ConfigError, match=word):
        check_speed(config(speed=GRAPH, **changes), CARD, world_size)
    check_speed(config(**changes), CARD, world_size)
    check_speed(config(speed=GRAPH), CARD)
    check_speed(config(speed=GRAPH, amp=AmpConfig("O1", "bfloat16", "dynamic")), CARD)
    check_speed(config(speed=GRAPH, amp=AmpConfig("O2", "float16", 128.0)), CARD, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"speed": SpeedConfig(fused_optimizer=True)},
            "speed.fused_optimizer does not work on device npu; set it to",
        ),
        (
            {"optimizer": {"type": "Adagrad", "lr": 0.1, "fused": True}},
            "optimizer.fused=True does not work on .* remove",
        ),
        (
            {"speed": SpeedConfig(channels_last=True)},
            "speed.channels_last=True does not work on device npu; set it",
        ),
    ],
)
def test_an_npu_refuses_what_torch_npu_cannot_do(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
        check_speed(config(**changes), NPU)
    for device in (CPU, CARD):
        check_speed(config(**changes), device)
    check_speed(config(), NPU)
    check_speed(config(speed=SpeedConfig(channels_last=False)), NPU)
    assert choose_memory_format(SpeedConfig(), NPU) == torch.contiguous_format


@pytest.mark.parametrize(
    ("options", "file"),
    [({"type": "SGD", "nesterov": True}, "sgd.py, _to_scalar"), ({"type": "AdamW"}, "adam.py, _get_value")],
)
def test_a_graph_on_an_npu_says_what_would_ask_the_host(options, file):
    message = rf"^speed.graph on device npu: .* fused=True reads .* \(torch/optim/{file}\); use plain SGD"
    with pytest.raises(ConfigError, match=message):
        check_speed(config(speed=GRAPH, optimizer={"lr": 0.1, **options}), NPU)


def test_a_graph_on_an_npu_takes_plain_sgd_and_a_static_scale_on_a_chip_that_shows_overflows(monkeypatch):
    assert fuse_optimizer({"type": "SGD"}, GRAPH, NPU) == {"type": "SGD"}
    check_speed(config(speed=GRAPH), NPU)
    asked = config(speed=GRAPH, amp=AmpConfig("O2", "float16", 128.0))
    monkeypatch.setattr(speed, "shows_overflow", lambda device: True)
    check_speed(asked, NPU, 8)
    monkeypatch.setattr(speed, "shows_overflow", lambda device: False)
    monkeypatch.setattr(speed, "find_scaler_question", lambda device: "grad_scaler.py:331")
    message = r"^speed.graph: this chip saturates, .*item\(\) \(grad_scaler.py:331\); set speed.graph=False$"
    with pytest.raises(ConfigError, match=message):
        check_speed(asked, NPU)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_foreach_never_meets_a_fused_optimizer(kind, tmp_path):
    """Torch refuses both at once; reading the file refuses foreach for all that can be fused."""
    file = tmp_path / "config.py"
    base = REPO / "configs/scrfd/scrfd_500m.py"
    file.write_text(
        f"_base_ = '{base}'\noptimizer = dict(_delete_=True, type='{kind}', lr=0.1, foreach=True)\n"
    )
    with pytest.raises(ConfigError, match="key of optimizer = 'foreach' is unknown"):
        load_config(file)


def test_compiling_on_a_cpu_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"speed.compile on a cpu needs a C\+\+ compiler"):
        check_speed(config(speed=SpeedConfig(compile=True)), CPU)
    check_speed(config(), CPU)


def test_the_optimizer_of_a_graph_is_fused_and_adam_capturable():
    assert fuse_optimizer({"type": "SGD"}, GRAPH, CPU) == {"type": "SGD", "fused": True}
    assert fuse_optimizer({"type": "AdamW"}, GRAPH, CPU) == {
        "type": "AdamW",
        "fused": True,
        "capturable": True,
    }
    assert fuse_optimizer({"type": "Adam"}, SpeedConfig(fused_optimizer=True), CPU) == {
        "type": "Adam",
        "fused": True,
    }


def test_a_fused_sgd_that_refuses_its_first_step_has_sane_momentum():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
    start_momentum(optimizer)
    weight.grad = torch.tensor([torch.inf, 1.0])
    step_if(optimizer, torch.tensor(False), sync_free=False)
    assert weight.tolist() == [1.0, 2.0]
    weight.grad = torch.tensor([1.0, 2.0])
    step_if(optimizer, torch.tensor(True), sync_free=False)
    step_if(optimizer, torch.tensor(True), sync_free=False)
    # momentum 1, 2 and then 1.9, 3.8: w - 0.1 * (1 + 1.9) and w - 0.1 * (2 + 3.8)
    assert weight.tolist() == pytest.approx([0.71, 1.42])


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_channels_last_changes_no_loss(level, make_trainer):
    amp = AmpConfig(level, "bfloat16")
    rows = [
        losses_of_steps(make_trainer(amp=amp, speed=SpeedConfig(channels_last=is_last)))
        for is_last in (False, True)
    ]
    first = 3 if level == "O0" else 0  # the losses of the first step; later ones add up rounding
    assert rows[1][:first] == pytest.approx(rows[0][:first], rel=1e-4)
    assert rows[1] == pytest.approx(rows[0], rel=1e-3 if level == "O0" else 2e-2, abs=1e-4)


def test_channels_last_reaches_the_head(make_trainer):
    trainer = make_trainer(speed=SpeedConfig(channels_last=True))
    orders = []
    trainer.step.net.bbox_head.cls_stride_convs["(8, 8)"].register_forward_hook(
        lambda layer, inputs, output: orders.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    losses_of_steps(trainer, num=1)
    assert orders == [True]


def test_a_fused_optimizer_changes_no_loss(make_trainer):
    rows = [
        losses_of_steps(make_trainer(speed=SpeedConfig(fused_optimizer=is_fused)))
        for is_fused in (False, True)
    ]
    assert rows[1] == pytest.approx(rows[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
def test_a_compiled_network_changes_no_loss(make_trainer):
    tiny = {
        "model.backbone.block_cfg.stage_blocks": [1, 1, 1, 1],
        "model.bbox_head.stacked_convs": 1,
        "model.bbox_head.strides_share": True,
    }
    plain, trainer = (make_trainer(speed=SpeedConfig(compile=is_on), options=tiny) for is_on in (False, True))
    names = set(trainer.step.precision.model_state_dict())
    rows = [losses_of_steps(plain), losses_of_steps(trainer)]
    assert rows[1][:3] == pytest.approx(rows[0][:3], rel=1e-4)
    assert rows[1] == pytest.approx(rows[0], rel=1e-3, abs=1e-4)
    assert names == set(plain.step.precision.model_state_dict())


class StandInCuda:
    """The part of torch.cuda that GraphRecorder uses; writes down the order of calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*args, **options):
            self.calls.append((name, options))
            return StandInObject(self, name)

        return call


class StandInObject:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.calls.append((f"{self.name} waits for {other.name}", {}))

    def replay(self):
        self.cuda.calls.append(("replay", {}))

    def __enter__(self):
        self.cuda.calls.append((f"enter {self.name}", {}))

    def __exit__(self, *error):
        self.cuda.calls.append((f"leave {self.name}", {}))


@pytest.mark.parametrize(("kind", "graph"), [("cuda", "CUDAGraph"), ("npu", "NPUGraph")])
def test_warm_up_and_recording_follow_torchs_rules(kind, graph):
    cuda = StandInCuda()
    backends = Backends(cuda=lambda: cuda, torch_npu=lambda: SimpleNamespace(npu=cuda))
    recorder = GraphRecorder(SimpleNamespace(type=kind), backends)
    cuda.calls.clear()
    assert recorder.warm_up(lambda: cuda.calls.append(("work", {})) or 5) == 5
    assert [name for name, _ in cuda.calls] == [
        "current_stream",
        "Stream waits for current_stream",
        "stream",
        "enter stream",
        "work",
        "leave stream",
        "current_stream waits for Stream",
    ]
    cuda.calls.clear()
    repeat, result = recorder.record(lambda outside: cuda.calls.append(("work", {})) or 6)
    assert result == 6
    assert [name for name, _ in cuda.calls] == [graph, "graph", "enter graph", "work", "leave graph"]
    options = dict(cuda.calls)["graph"]
    assert options["capture_error_mode"] == "thread_local"
    assert (options["stream"].name, options["pool"].name) == ("Stream", "graph_pool_handle")
    repeat()
    assert cuda.calls[-1] == ("replay", {})


def test_what_stays_outside_of_a_recording_is_called_between_its_parts():
    cuda = StandInCuda()
    recorder = GraphRecorder(SimpleNamespace(type="cuda"), Backends(cuda=lambda: cuda))
    cuda.calls.clear()

    def work(outside):
        cuda.calls.append(("first", {}))
        outside(lambda: cuda.calls.append(("exchange", {})))
        cuda.calls.append(("second", {}))

    repeat, _ = recorder.record(work)
    one_part = ["CUDAGraph", "graph", "enter graph", "{}", "leave graph"]
    assert [name for name, _ in cuda.calls] == [n.format(w) for w in ("first", "second") for n in one_part]
    assert len({id(options["pool"]) for name, options in cuda.calls if name == "graph"}) == 1
    cuda.calls.clear()
    repeat()
    assert [name for name, _ in cuda.calls] == ["replay", "exchange", "replay"]
