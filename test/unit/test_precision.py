"""O0, O1 and O2 against plain fp32 training, skips, resume, and the checkpoint's contents."""

import contextlib
import copy
import io
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdet.config.types import AmpConfig
from mmdet.engine.optim import build_optimizer
from mmdet.errors import CheckpointError, ConfigError
from mmdet.precision import Precision
from mmdet.precision.flat import ALIGN, FlatWeights
from mmdet.precision.grads import clip_by_norm, step_and_put_back

CPU = torch.device("cpu")
HALF = ["float16", "bfloat16"]


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return x * self.scale


class Net(nn.Module):
    """conv + BN + GN + scalar Scale, an unused frozen layer's twin, and a constant buffer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gn = nn.GroupNorm(4, 8)
        self.head = nn.Conv2d(8, 5, 1)
        self.scale = Scale()
        self.register_buffer("project", torch.tensor([0.1, 0.2, 0.3, 0.4, 0.7]))

    def forward(self, x):
        x = torch.relu(self.bn(self.conv1(x)))
        x = torch.relu(self.gn(self.conv2(x)))
        return self.scale(self.head(x)) * self.project.view(1, -1, 1, 1)


def make_net():
    torch.manual_seed(0)
    return Net()


def images(step, batch=4):
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(100 + step))


def make_run(level, dtype="float16", loss_scale=128.0, lr=0.05, **sgd):
    net = make_net()
    precision = Precision(net, AmpConfig(level, dtype, loss_scale), CPU)
    options = {"momentum": 0.9, "weight_decay": 5e-4, **sgd}
    optimizer = torch.optim.SGD(precision.optimizer_params(), lr=lr, **options)
    return net, precision, optimizer


def train_step(net, precision, optimizer, step, factor=1.0, grad_clip=None):
    precision.zero_grad()
    with precision.autocast():
        out = net(precision.cast_input(images(step)))
    loss = (out.float() - 1).pow(2).mean() * factor
    precision.backward(loss)
    precision.step(optimizer, grad_clip)
    return loss.item()


def train(run, steps, first=0, **options):
    return [train_step(*run, step, **options) for step in range(first, first + steps)]


def plain_fp32(steps, lr=0.05, grad_clip=None):
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = (net(images(step)) - 1).pow(2).mean()
        loss.backward()
        if grad_clip:
            nn.utils.clip_grad_norm_(net.parameters(), grad_clip["max_norm"])
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def weights_of(run):
    return run[1].model_state_dict()


def assert_equal_states(a, b):
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_o0_is_plain_training():
    expected, losses = plain_fp32(5)
    run = make_run("O0")
    assert train(run, 5) == losses
    assert_equal_states(weights_of(run), expected.state_dict())


@pytest.mark.parametrize("dtype,tolerance", [("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("grad_clip", [None, {"max_norm": 0.5, "norm_type": 2}])
def test_half_precision_follows_fp32(level, dtype, tolerance, grad_clip):
    expected, losses = plain_fp32(10, grad_clip=grad_clip)
    run = make_run(level, dtype)
    assert train(run, 10, grad_clip=grad_clip) == pytest.approx(losses, rel=tolerance)
    for name, value in weights_of(run).items():
        assert value.dtype == expected.state_dict()[name].dtype
        assert torch.allclose(value, expected.state_dict()[name], atol=3 * tolerance), name


def test_o2_grads_equal_unfused_grads():
    """The flat buffer holds exactly what autograd gives a plain half-precision copy of the model."""
    net, precision, optimizer = make_run("O2", "bfloat16")
    twin = copy.deepcopy(net)
    for parameter in twin.parameters():
        parameter.data, parameter.grad = parameter.data.clone(), None
    x = images(0).bfloat16()
    (twin(x).float() - 1).pow(2).mean().backward()
    precision.zero_grad()
    precision.backward((net(x).float() - 1).pow(2).mean())
    precision.weights.gather_grads()
    for mine, plain in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine.grad, plain.grad)
    for group in precision.weights.groups:
        for parameter, offset in zip(group.params, group.offsets, strict=True):
            flat = group.master.grad[offset : offset + parameter.numel()]
            assert torch.equal(flat, parameter.grad.float().flatten())


@pytest.mark.parametrize("dtype", HALF)
def test_o2_layers_have_the_right_dtype(dtype):
    half = getattr(torch, dtype)
    net, precision, _ = make_run("O2", dtype)
    seen = {}
    for name in ("bn", "gn", "scale", "head"):
        getattr(net, name).register_forward_pre_hook(lambda m, x, n=name: seen.update({n: x[0].dtype}))
    out = net(precision.cast_input(images(0)))
    assert out.dtype == half and seen["head"] == half and seen["bn"] == half
    assert seen["gn"] == torch.float32 and seen["scale"] == torch.float32
    fp32 = {name for name, value in net.named_parameters() if value.dtype == torch.float32}
    assert fp32 == {"bn.weight", "bn.bias", "gn.weight", "gn.bias", "scale.scale"}
    assert net.bn.running_mean.dtype == torch.float32 and net.project.dtype == half


def test_o2_has_one_buffer_per_dtype_and_views_survive_a_step():
    net, precision, optimizer = make_run("O2")
    half, fp32 = precision.weights.groups
    assert len(precision.optimizer_params()) == 2
    assert half.offsets[:2] == [0, 2 * ALIGN]  # conv1: 8*3*3*3 = 216 elements
    train_step(net, precision, optimizer, 0)
    for group in (half, fp32):
        for parameter, offset in zip(group.params, group.offsets, strict=True):
            assert parameter.data_ptr() == group.storage[offset].data_ptr()
            assert parameter.grad.data_ptr() == group.grad[offset].data_ptr()
    net.zero_grad(set_to_none=True)  # somebody else's habit
    train_step(net, precision, optimizer, 1)
    assert net.conv1.weight.grad.data_ptr() == half.grad.data_ptr()
    assert fp32.storage.data_ptr() == fp32.master.data_ptr()


@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("loss_scale,after", [(128.0, 128.0), ("dynamic", 2.0**15)])
def test_overflow_skips_the_step(level, loss_scale, after):
    run = make_run(level, loss_scale=loss_scale)
    before = weights_of(run)
    train_step(*run, 0, factor=1e30)
    weights = weights_of(run)
    trained = [name for name, _ in run[0].named_parameters()]
    assert_equal_states({n: weights[n] for n in trained}, {n: before[n] for n in trained})
    assert run[1].scale == after and run[1].skipped_steps() == (1, 1)
    assert all(torch.isfinite(parameter).all() for parameter in run[0].parameters())
    train_step(*run, 1, factor=1e-3)
    assert run[1].skipped_steps() == (1, 0)
    assert not torch.equal(weights_of(run)["conv1.weight"], before["conv1.weight"])


@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("sync_free", [False, True])
def test_a_static_scale_trains_as_torchs_scaler_would(level, sync_free):
    """Oracle: a GradScaler whose scale is put back after each step; the third step overflows."""
    ours, theirs = make_run(level), make_run(level)
    ours[1].sync_free = sync_free
    precision = theirs[1]
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    for step, factor in enumerate((1.0, 1.0, 1e30, 1.0)):
        assert train_step(*ours, step, factor) == train_step(*theirs, step, factor)
        assert_equal_states(weights_of(ours), weights_of(theirs))
    assert ours[1].skipped_steps() == precision.skipped_steps() == (1, 0)
    saved, other = ours[1].state_dict(), precision.state_dict()
    assert saved["scaler"] == other["scaler"] and saved["scaler"]["scale"] == 128.0


def test_a_run_with_a_static_scale_goes_on_with_a_dynamic_one():
    before, after = make_run("O2"), make_run("O2", loss_scale="dynamic")
    train(before, 1)
    after[1].load_state_dict(before[1].state_dict())
    assert after[1].scale == 128.0
    train_step(*after, 1, factor=1e30)
    assert after[1].scale == 64.0


def test_dynamic_scale_grows_and_backs_off():
    run = make_run("O2", loss_scale="dynamic")
    precision = run[1]
    train_step(*run, 0, factor=1e-3)
    precision.scaler.set_growth_interval(3)
    start = precision.scale
    train(run, 2, first=1, factor=1e-4)  # the third good step
    assert precision.scale == 2 * start
    train_step(*run, 3, factor=1e30)
    assert precision.scale == start


@pytest.mark.parametrize("level,dtype", [("O0", "float16"), ("O1", "bfloat16"), ("O2", "bfloat16")])
def test_without_scale_a_nonfinite_gradient_changes_nothing(level, dtype):
    run = make_run(level, dtype)
    train_step(*run, 0)
    before = weights_of(run)
    train_step(*run, 1, factor=float("nan"))
    assert torch.equal(weights_of(run)["conv1.weight"], before["conv1.weight"])
    assert run[1].skipped_steps() == (1, 1) and run[1].scale == 1.0


@pytest.mark.parametrize(
    "make", [lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, 0.1)]
)
def test_a_refused_step_puts_everything_back(make):
    """The path of an accelerator without a fused optimizer."""
    param = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = make([param])
    param.grad = torch.tensor([0.5, -1.0])
    step_and_put_back(optimizer, torch.tensor(True))
    plain = nn.Parameter(torch.tensor([1.0, 2.0]))
    plain.grad = param.grad.clone()
    other = make([plain])
    other.step()
    assert torch.equal(param, plain)
    param.grad = torch.full((2,), torch.nan)
    step_and_put_back(optimizer, torch.tensor(False))
    assert torch.equal(param, plain)
    for name, value in optimizer.state[param].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state[plain][name])), name


def test_clip_measures_and_clips():
    params = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([3.0]), torch.tensor([0.0, 4.0])
    assert clip_by_norm(params, None).item() == 5.0
    assert (
        clip_by_norm(params, {"max_norm": 10, "norm_type": 2}).item() == 5.0 and params[0].grad.item() == 3.0
    )
    assert clip_by_norm(params, {"max_norm": 1.0, "norm_type": 2}).item() == 5.0
    assert params[1].grad[1].item() == pytest.approx(0.8) and params[0].grad.item() == pytest.approx(0.6)
    assert clip_by_norm(params, {"max_norm": 9, "norm_type": float("inf")}).item() == pytest.approx(0.8)


@pytest.mark.parametrize("scale", [128.0, "dynamic"])
@pytest.mark.parametrize(
    "level,dtype", [("O0", "float16"), ("O1", "float16"), ("O2", "float16"), ("O2", "bfloat16")]
)
def test_resume_is_bit_identical(level, dtype, scale):
    straight = make_run(level, dtype, scale)
    losses = train(straight, 6)

    first = make_run(level, dtype, scale)
    train(first, 3)
    file = io.BytesIO()
    parts = (first[1].model_state_dict(), first[1].state_dict(), first[2].state_dict())
    torch.save(parts, file)
    file.seek(0)
    model, state, optimizer = torch.load(file, weights_only=True)
    second = make_run(level, dtype, scale)
    second[1].load_model_state(model)
    second[1].load_state_dict(state)
    second[2].load_state_dict(optimizer)
    assert train(second, 3, first=3) == losses[3:]
    assert_equal_states(weights_of(second), weights_of(straight))
    assert second[1].scale == straight[1].scale


def test_model_state_has_the_plain_models_keys_and_fp32_values():
    plain = make_net().state_dict()
    run = make_run("O2")
    assert_equal_states(weights_of(run), plain)  # also `project`, which fp16 cannot hold exactly
    weights_of(run)["conv1.weight"].zero_()  # a copy
    assert_equal_states(weights_of(run), plain)
    live = run[1].named_masters()
    train_step(*run, 0)
    assert_equal_states(live, weights_of(run))


def test_load_model_state_reaches_masters_and_model():
    run = make_run("O2")
    state = {
        name: value + 0.0001 if value.is_floating_point() else value
        for name, value in weights_of(run).items()
    }
    run[1].load_model_state(state)
    assert_equal_states(weights_of(run), state)
    assert torch.equal(run[0].conv1.weight, state["conv1.weight"].half())
    with pytest.raises(CheckpointError, match="1 weights .*: gn.bias"):
        run[1].load_model_state({name: value for name, value in state.items() if name != "gn.bias"})


def test_load_refuses_another_kind_of_run():
    o2 = make_run("O2")[1]
    state = o2.state_dict()
    with pytest.raises(CheckpointError, match="amp.level = 'O2', this run has 'O0'.*--load-from"):
        make_run("O0")[1].load_state_dict(state)
    with pytest.raises(CheckpointError, match="amp.dtype = 'float16', this run has 'bfloat16'"):
        make_run("O2", "bfloat16")[1].load_state_dict(state)
    state["layout"][0]["shapes"][0] = [8, 3, 5, 5]
    with pytest.raises(
        CheckpointError, match=r"conv1.weight is \[8, 3, 5, 5\] there and \[8, 3, 3, 3\] here"
    ):
        o2.load_state_dict(state)


def test_frozen_layers_keep_their_exact_values():
    net = make_net()
    net.conv1.weight.requires_grad_(False)
    exact = net.conv1.weight.detach().clone()
    precision = Precision(net, AmpConfig("O2"), CPU)
    optimizer = torch.optim.SGD(precision.optimizer_params(), 0.1, weight_decay=0.1)
    train_step(net, precision, optimizer, 0)
    assert net.conv1.weight.dtype == torch.float16
    assert torch.equal(precision.model_state_dict()["conv1.weight"], exact)
    assert isinstance(precision.weights, FlatWeights) and len(precision.weights.constants) == 2


@pytest.mark.parametrize(
    "change,match",
    [
        ({"level": "O3"}, "amp.level = 'O3' is unknown"),
        ({"dtype": "float15"}, "did you mean 'float16'"),
        ({"loss_scale": -1}, "amp.loss_scale = -1 must be"),
        ({"loss_scale": "fast"}, "amp.loss_scale = 'fast' must be"),
        ({"backend": "apx"}, "did you mean 'apex'"),
        ({"level": "O2", "backend": "apex"}, "apex cannot be used .*Install Ascend's apex"),
    ],
)
def test_wrong_settings_are_named(change, match):
    with pytest.raises(ConfigError, match=match):
        Precision(make_net(), AmpConfig(**change), CPU)


class RecordingApex:
    """Stands for apex.amp: records the calls, trains in fp32."""

    def __init__(self):
        self.calls = []

    def initialize(self, model, optimizer, **options):
        self.calls.append(("initialize", options))
        return model, optimizer

    def scale_loss(self, loss, optimizer):
        self.calls.append(("scale_loss", None))
        return contextlib.nullcontext(loss)

    def master_params(self, optimizer):
        return (parameter for group in optimizer.param_groups for parameter in group["params"])

    def state_dict(self):
        return {"loss_scaler0": {"loss_scale": 128.0}}

    def load_state_dict(self, state):
        self.calls.append(("load_state_dict", state))


def test_apex_is_called_as_the_ascend_folder_calls_it():
    net, apex = make_net(), RecordingApex()
    precision = Precision(net, AmpConfig("O2", "float16", 128.0, "apex"), CPU, apex_amp=apex)
    optimizer = torch.optim.SGD(precision.optimizer_params(), 0.05, momentum=0.9, weight_decay=5e-4)
    optimizer = precision.prepare(optimizer)
    options = {"opt_level": "O2", "loss_scale": 128.0, "combine_grad": True}
    assert apex.calls == [("initialize", options)]
    precision.zero_grad()
    precision.backward((net(images(0)) - 1).pow(2).mean())
    precision.step(optimizer)
    assert apex.calls[1:] == [("scale_loss", None)]
    expected, _ = plain_fp32(1)
    assert_equal_states(precision.model_state_dict(), expected.state_dict())
    state = precision.state_dict()
    precision.load_state_dict(state)
    assert apex.calls[2] == ("load_state_dict", {"loss_scaler0": {"loss_scale": 128.0}})


class RecordingFusedSGD(torch.optim.SGD):
    """Stands for apex.optimizers.NpuFusedSGD: the same formula, and it counts its steps."""

    num_steps = 0

    def step(self, closure=None):
        self.num_steps += 1
        return super().step(closure)


@pytest.mark.parametrize(
    ("apex_is_there", "backend", "is_fused"),
    [(True, "apex", True), (True, "native", False), (False, "native", False)],
)
def test_npu_fused_sgd_updates_the_weights_where_apex_is_asked_for(
    apex_is_there, backend, is_fused, monkeypatch
):
    amp = RecordingApex()
    fused = SimpleNamespace(NpuFusedSGD=RecordingFusedSGD)
    for name, stand_in in {"apex": SimpleNamespace(), "apex.amp": amp, "apex.optimizers": fused}.items():
        monkeypatch.setitem(sys.modules, name, stand_in if apex_is_there else None)  # None: import fails
    net = make_net()
    precision = Precision(net, AmpConfig("O2", "float16", 128.0, backend), CPU)
    arguments = dict(type="NpuFusedSGD", lr=0.05, momentum=0.9, weight_decay=5e-4)
    optimizer = precision.prepare(build_optimizer(precision.optimizer_params(), arguments, backend))
    assert type(optimizer) is (RecordingFusedSGD if is_fused else torch.optim.SGD)
    before = [parameter.detach().clone() for parameter in precision.optimizer_params()]
    precision.zero_grad()
    inputs = images(0) if is_fused else precision.cast_input(images(0))  # the stand-in leaves the net in fp32
    precision.backward((net(inputs).float() - 1).pow(2).mean())
    precision.step(optimizer)
    changed = [
        not torch.equal(old, new) for old, new in zip(before, precision.optimizer_params(), strict=True)
    ]
    assert any(changed)
    assert getattr(optimizer, "num_steps", 1) == 1
    assert bool(amp.calls) == is_fused
    if is_fused:  # one update of the very weights that plain SGD gives
        assert_equal_states(precision.model_state_dict(), plain_fp32(1)[0].state_dict())
