"""The device file, with stand-ins for the accelerators: which calls, in which order, and which errors."""

import logging
import random
import subprocess
import types
from typing import NamedTuple

import numpy as np
import pytest
import torch

from mmdet import device as device_module
from mmdet import device_npu
from mmdet.device import (
    BACKENDS,
    Backends,
    autocast,
    binds_process_group,
    check_chip,
    device_summary,
    make_grad_scaler,
    make_profiler,
    npu_chip,
    peak_memory_mib,
    pick_device,
    pin_options,
    rng_state,
    seed_all,
    set_deterministic,
    set_npu_options,
    set_rng_state,
    shows_overflow,
    supports_bf16,
    supports_channels_last,
    supports_fused_optimizer,
    synchronize,
)
from mmdet.errors import ConfigError, DeviceError

CPU = torch.device("cpu")


class RecordingApi:
    """Stands for torch_npu.npu or torch.cuda."""

    def __init__(self, cards):
        self.cards = cards
        self.calls = []
        self.config = types.SimpleNamespace(allow_internal_format="the vendor's")
        self.conv = types.SimpleNamespace(allow_hf32=True)
        self.matmul = types.SimpleNamespace(allow_hf32=False)
        self.amp = types.SimpleNamespace(GradScaler=self._scaler)
        self.utils = types.SimpleNamespace(is_support_inf_nan=lambda: self.has_inf)
        self.has_inf = True

    def _scaler(self, **options):
        return ("torch_npu scaler", options)

    def is_available(self):
        return self.cards > 0

    def device_count(self):
        return self.cards

    def set_device(self, device):
        self.calls.append(("set_device", str(device)))

    def set_compile_mode(self, jit_compile):
        self.calls.append(("set_compile_mode", jit_compile))

    def synchronize(self, device):
        self.calls.append(("synchronize", str(device)))

    def max_memory_allocated(self, device):
        return 3 * 2**20

    def is_bf16_supported(self):
        return False

    def get_device_name(self, device):
        return "Ascend910B1"

    def get_rng_state(self, device):
        return torch.tensor([1, 2, 3], dtype=torch.uint8)

    def set_rng_state(self, state, device):
        self.calls.append(("set_rng_state", state.tolist()))


class FakeDevice(NamedTuple):
    """Stands for torch.device, which knows the type npu only once torch_npu is imported."""

    type: str
    index: int

    def __str__(self):
        return f"{self.type}:{self.index}"


def backends(npus=0, cudas=0):
    npu = RecordingApi(npus)
    cuda = RecordingApi(cudas)
    torch_npu = types.SimpleNamespace(npu=npu, __version__="2.13.0")
    return Backends(lambda: torch_npu, lambda: cuda, FakeDevice)


def test_npu_is_prepared_after_it_became_current():
    stand_in = backends(npus=8)
    assert str(pick_device("npu", local_rank=3, backends=stand_in)) == "npu:3"
    api = stand_in.api("npu")
    assert api.calls == [("set_device", "npu:3")]
    assert (api.conv.allow_hf32, api.matmul.allow_hf32) == (False, False)  # fp32 means fp32
    assert api.config.allow_internal_format == "the vendor's"


def test_npu_options_are_set_where_asked_for():
    stand_in = backends(npus=1)
    device, api = FakeDevice("npu", 0), stand_in.api("npu")
    set_npu_options(device, hf32=True, internal_format=True, jit_compile=False, backends=stand_in)
    assert (api.conv.allow_hf32, api.matmul.allow_hf32) == (True, True)
    assert api.config.allow_internal_format is True and api.calls == [("set_compile_mode", False)]
    set_npu_options(CPU, hf32=True, backends=None)


@pytest.mark.parametrize(
    ("torch_version", "npu", "cuda"), [("2.2.2", 0, 0), ("2.3.1+cpu", 0, 1), ("2.6.0", 0, 1), ("2.7.0", 1, 1)]
)
def test_a_process_group_is_bound_to_a_card_where_torch_accepts_it(torch_version, npu, cuda, monkeypatch):
    monkeypatch.setattr(torch, "__version__", torch_version)
    bound = [binds_process_group(FakeDevice(kind, 0)) for kind in ("npu", "cuda")]
    assert bound == [bool(npu), bool(cuda)] and not binds_process_group(CPU)


def test_pinned_memory_names_the_npu_up_to_torch_2_6(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    assert pin_options(FakeDevice("npu", 0)) == {"pin_memory": True, "pin_memory_device": "npu"}
    assert pin_options(FakeDevice("cuda", 0)) == {"pin_memory": True}
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    assert pin_options(FakeDevice("npu", 0)) == {"pin_memory": True}
    assert pin_options(CPU) == {}


def test_cuda_needs_no_preparation():
    stand_in = backends(cudas=2)
    assert str(pick_device("cuda", local_rank=1, backends=stand_in)) == "cuda:1"
    assert stand_in.api("cuda").calls == [("set_device", "cuda:1")]


@pytest.mark.parametrize(
    "npus,cudas,expected", [(8, 2, "npu:0"), (0, 2, "cuda:0"), (8, 0, "npu:0"), (0, 0, "cpu")]
)
def test_auto_takes_the_first_present(npus, cudas, expected):
    assert str(pick_device("auto", backends=backends(npus, cudas))) == expected


def test_first_npu_moves_npus_only():
    assert str(pick_device("npu", 1, first_npu=4, backends=backends(npus=8))) == "npu:5"
    assert str(pick_device("cuda", 0, first_npu=4, backends=backends(cudas=1))) == "cuda:0"


def test_an_explicit_index_wins_over_the_rank():
    assert str(pick_device("cuda:1", local_rank=0, backends=backends(cudas=2))) == "cuda:1"


def test_more_processes_than_cards_gives_both_numbers():
    with pytest.raises(DeviceError, match=r"npu:8 \(local rank 8\) does not exist: 8 visible"):
        pick_device("npu", local_rank=8, backends=backends(npus=8))
    with pytest.raises(DeviceError, match="at most 2 processes per machine"):
        pick_device("auto", local_rank=2, backends=backends(cudas=2))


def test_an_absent_device_says_why_and_never_becomes_the_cpu():
    with pytest.raises(
        DeviceError, match="torch_npu finds no NPU. .*ASCEND_RT_VISIBLE_DEVICES.*--device cpu"
    ):
        pick_device("npu", backends=backends())
    with pytest.raises(DeviceError, match="device cuda: .*Or pass --device cpu"):
        pick_device("cuda", backends=backends())


def test_a_card_is_profiled_by_torch_npu(tmp_path):
    profiler = types.SimpleNamespace(
        tensorboard_trace_handler=lambda folder, worker_name: ("handler", folder, worker_name),
        schedule=lambda **options: ("schedule", options),
        profile=lambda **options: options,
        ProfilerLevel=types.SimpleNamespace(Level1="level 1"),
        AiCMetrics=types.SimpleNamespace(PipeUtilization="pipes"),
        _ExperimentalConfig=lambda **options: options,
    )
    stand_in = Backends(lambda: types.SimpleNamespace(profiler=profiler), None, FakeDevice)
    handler = ("handler", str(tmp_path), "rank0")
    schedule = ("schedule", {"skip_first": 8, "wait": 0, "warmup": 1, "active": 6, "repeat": 1})
    made = make_profiler(FakeDevice("npu", 0), tmp_path, 10, 15, stand_in)
    config = {"profiler_level": "level 1", "aic_metrics": "pipes"}
    assert made.pop("experimental_config") == config
    assert made == {"schedule": schedule, "on_trace_ready": handler, "record_shapes": True}


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "tpu:0", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(ConfigError, match="device = .* is unknown.*Known: auto, cpu, cuda, npu"):
        pick_device(name, backends=backends(8, 8))


def fail_with(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(device_npu.importlib, "import_module", fail)


def test_broken_torch_npu_keeps_its_reason(monkeypatch, caplog):
    monkeypatch.setattr(device_npu, "_wrong_pair", lambda: "")
    text = "libhccl.so: cannot open shared object file: No such file or directory\nand more lines"
    fail_with(monkeypatch, ImportError(text))
    expected = (
        r"^device npu: torch_npu failed to import \(libhccl.so: not found\). "
        r"Source CANN's set_env.sh, or pass --device cpu.$"
    )
    with pytest.raises(DeviceError, match=expected):
        pick_device("npu")
    with caplog.at_level(logging.WARNING):  # auto may go on, and says why
        assert pick_device("auto", backends=Backends(cuda=lambda: RecordingApi(0))) == CPU
    assert "libhccl.so: not found" in caplog.text


@pytest.mark.parametrize(
    ("torch_version", "npu_version", "hint"),
    [
        (
            "2.9.0+cpu",
            "2.7.1.post2",
            "torch 2.9.0+cpu and torch-npu 2.7.1.post2 do not fit: install torch==2.7.1.",
        ),
        ("2.7.1", "2.7.1.post2", "Source CANN's set_env.sh, or pass --device cpu."),
    ],
)
def test_a_wrong_pair_of_releases_names_both(torch_version, npu_version, hint, monkeypatch):
    fail_with(monkeypatch, ImportError("undefined symbol: _ZN3c10"))
    monkeypatch.setattr(device_npu.torch, "__version__", torch_version)
    monkeypatch.setattr(device_npu.importlib.metadata, "version", lambda name: npu_version)
    with pytest.raises(DeviceError) as caught:
        pick_device("npu")
    assert str(caught.value) == f"device npu: torch_npu failed to import (undefined symbol: _ZN3c10). {hint}"


@pytest.mark.parametrize(("code", "is_refused"), [(-6, True), (0, False), (1, False)])
def test_a_cuda_build_in_which_torch_npu_aborts_is_refused(code, is_refused, monkeypatch):
    asked = []
    monkeypatch.delitem(device_npu.sys.modules, "torch_npu", raising=False)
    monkeypatch.setattr(device_npu.torch, "__version__", "2.13.0+cu130")
    monkeypatch.setattr(device_npu.torch.version, "cuda", "13.0")
    monkeypatch.setattr(device_npu.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(device_npu.importlib, "import_module", lambda name: "torch_npu itself")

    def run(command, env, **options):
        asked.append((command[1:], env["TORCH_DEVICE_BACKEND_AUTOLOAD"]))
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(device_npu.subprocess, "run", run)
    expected = (
        "device npu: torch_npu aborts, because torch 2.13.0+cu130 is a CUDA build. Install the CPU build: "
        "pip install torch==2.13.0+cpu from PyTorch's CPU index."
    )
    if is_refused:
        with pytest.raises(DeviceError) as caught:
            device_npu.import_torch_npu()
        assert str(caught.value) == expected
    else:  # a Python error is reported by the import itself
        assert device_npu.import_torch_npu() == "torch_npu itself"
    assert asked == [(["-c", "import torch_npu"], "0")]


def test_missing_torch_npu_is_quiet_in_auto_only(monkeypatch, caplog):
    fail_with(monkeypatch, ModuleNotFoundError("No module named 'torch_npu'", name="torch_npu"))
    with pytest.raises(DeviceError, match="torch_npu is not installed. pip install torch-npu"):
        pick_device("npu")
    assert pick_device("auto", backends=Backends(cuda=lambda: RecordingApi(0))) == CPU
    assert caplog.text == ""


def test_a_module_missing_inside_torch_npu_is_another_error(monkeypatch):
    fail_with(monkeypatch, ModuleNotFoundError("No module named 'yaml'", name="yaml"))
    with pytest.raises(DeviceError, match="failed to import .*yaml"):
        pick_device("npu")


def test_cpu_asks_no_accelerator():
    def never():
        raise AssertionError("imported")

    none = Backends(torch_npu=never, cuda=never)
    assert pick_device("cpu", local_rank=7, backends=none) == CPU
    synchronize(CPU, none)
    assert peak_memory_mib(CPU, none) > 10
    assert supports_bf16(CPU, none)
    assert device_summary(CPU, none).startswith("cpu (")


@pytest.mark.parametrize("supports", [supports_channels_last, supports_fused_optimizer])
def test_what_torch_npu_lacks(supports):
    assert [supports(FakeDevice(kind, 0)) for kind in ("npu", "cuda", "cpu")] == [False, True, True]


def test_questions_go_to_the_devices_module():
    stand_in, npu = backends(npus=2), FakeDevice("npu", 1)
    synchronize(npu, stand_in)
    assert stand_in.api("npu").calls == [("synchronize", "npu:1")]
    assert peak_memory_mib(npu, stand_in) == 3.0
    assert not supports_bf16(npu, stand_in)
    assert "npu:1 (Ascend910B1)" in device_summary(npu, stand_in)
    assert "torch_npu 2.13.0" in device_summary(npu, stand_in)


def test_only_a_saturating_npu_hides_an_overflow():
    assert shows_overflow(CPU) and shows_overflow(FakeDevice("cuda", 0), backends(npus=1))
    made = backends(npus=1)
    assert shows_overflow(FakeDevice("npu", 0), made)
    made.torch_npu().npu.has_inf = False
    assert not shows_overflow(FakeDevice("npu", 0), made)


def test_the_npu_scaler_is_torch_npus_and_always_checks():
    made = make_grad_scaler(FakeDevice("npu", 0), 128.0, backends(npus=1))
    assert made == ("torch_npu scaler", {"init_scale": 128.0, "dynamic": True})
    assert isinstance(make_grad_scaler(CPU, 128.0), torch.amp.GradScaler)
    assert make_grad_scaler(CPU, 128.0).get_scale() == 128.0


def test_rng_state_survives_a_checkpoint(tmp_path):
    seed_all(3)
    torch.save(rng_state(CPU), tmp_path / "rng.pth")
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    assert drawn != (random.random(), np.random.rand(), torch.rand(1).item())
    set_rng_state(CPU, torch.load(tmp_path / "rng.pth", weights_only=True))
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


def test_rng_state_holds_the_devices_generator():
    stand_in, npu = backends(npus=1), FakeDevice("npu", 0)
    state = rng_state(npu, stand_in)
    set_rng_state(npu, state, stand_in)
    assert stand_in.api("npu").calls == [("set_rng_state", [1, 2, 3])]
    set_rng_state(CPU, state)  # resumed elsewhere: the device's part has no use


def test_seed_all_repeats():
    seed_all(7)
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    seed_all(7)
    assert first == (random.random(), np.random.rand(), torch.rand(1).item())


def test_set_deterministic_goes_both_ways(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # the user's choice stays
    monkeypatch.setenv("HCCL_DETERMINISTIC", "true")
    set_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
    assert device_module.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_on_the_cpu(dtype):
    conv, x = torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)
    with autocast(CPU, dtype):
        assert conv(x).dtype == dtype
    with autocast(CPU, dtype, enabled=False):
        assert conv(x).dtype == torch.float32


@pytest.mark.cuda
def test_a_real_gpu_is_picked():
    device = pick_device("cuda")
    torch.zeros(1000, 1000, device=device)
    synchronize(device)
    assert peak_memory_mib(device) >= 3.8 and "CUDA" in device_summary(device)


@pytest.mark.npu
def test_a_real_npu_is_picked():
    device = pick_device("npu")
    torch.zeros(1000, 1000, device=device)
    synchronize(device)
    assert peak_memory_mib(device) >= 3.8 and BACKENDS.api("npu").conv.allow_hf32 is False


# ---- kinds of Ascend chip -------------------------------------------------------------------


def named(name):
    api = types.SimpleNamespace(get_device_name=lambda device: name)
    return Backends(torch_npu=lambda: types.SimpleNamespace(npu=api))


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("Ascend910A", "910A"),
        ("Ascend910ProA", "910A"),
        ("Ascend910PremiumA", "910A"),
        ("Ascend910", "910A"),
        ("Ascend910B1", "910B"),
        ("Ascend910B4", "910B"),
        ("Ascend910_9391", "910B"),
        ("Ascend310P3", "310P"),
        ("Ascend310B4", ""),
    ],
)
def test_the_kind_of_chip_is_read_from_its_name(name, chip):
    card = types.SimpleNamespace(type="npu")
    assert npu_chip(card, named(name)) == chip
    assert npu_chip(CPU, named(name)) == ""


def test_an_unknown_chip_or_another_than_the_cards_is_refused():
    card = types.SimpleNamespace(type="npu")
    with pytest.raises(ConfigError, match=r"chip = '910' is unknown; .* Known: 310P, 910A, 910B"):
        check_chip("910", CPU)
    with pytest.raises(ConfigError, match=r"chip 910A: the card here is a 910B \(Ascend910B3\)"):
        check_chip("910A", card, named("Ascend910B3"))
    check_chip("910B", card, named("Ascend910B3"))
    check_chip("910A", card, named("Ascend310B4"))
    check_chip("310P", CPU)
