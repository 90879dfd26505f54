"""The operator audit: every config passes, a planted sync is found, and shapes do not depend on faces."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet.config import load_config
from mmdet.core.assigners import assign_ahead
from mmdet.testing import ascend_ops
from mmdet.testing.ascend_ops import (
    COMPOSITE,
    DYNAMIC,
    FALLBACK,
    NATIVE,
    SYNC,
    operators,
    read_table,
)
from mmdet.testing.audit import META, Recorder
from mmdet.testing.audit_report import Audit
from mmdet.testing.audit_step import build_audited_step, draw_batch, record_test, record_training, with_amp
from mmdet.testing.cost import ASSUMED
from mmdet.testing.placement import AI_CPU, CHIPS, HOST, ORDER_CHANGES, saturates

REPO = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SMALL = "configs/scrfd/scrfd_500m_bnkps.py"
EIGHT = "configs/scrfd/scrfd_10g_8p.py"
FAMILIES = ("scrfd", "damofd", "retinaface")
CONFIGS = sorted(
    str(p.relative_to(REPO)) for name in FAMILIES for p in (REPO / "configs" / name).glob("*.py")
)
aten = torch.ops.aten


@pytest.fixture(scope="module")
def table():
    return read_table(ascend_ops.TABLES / "torch_npu-2.13.0.txt")


def load(config: str, level: str | None = None):
    return with_amp(load_config(REPO / config), level, None)


# ---- verdicts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "args", "expected"),
    [
        (aten.add.Tensor, (), NATIVE),
        (aten.convolution.default, (), NATIVE),
        (aten.slice.Tensor, (), COMPOSITE),
        (aten.cumprod.default, (), COMPOSITE),  # cumprod.out is native
        (aten.lgamma.default, (), FALLBACK),
        (aten._linalg_eigh.default, (), FALLBACK),
        (aten._fused_adam_.default, (), FALLBACK),  # has a kernel, which calls the CPU
        (aten.nonzero.default, (), DYNAMIC),
        (aten.masked_select.default, (), DYNAMIC),
        (aten._unique2.default, (), DYNAMIC),
        (aten._local_scalar_dense.default, (), SYNC),
        (aten.equal.default, (), SYNC),
        (aten.index.Tensor, (torch.ones(3), [torch.tensor([0, 2])]), NATIVE),
        (aten.index.Tensor, (torch.ones(3), [None, torch.tensor([True, False, True])]), DYNAMIC),
        (aten.index_put_.default, (torch.ones(3), [torch.tensor([True] * 3)]), DYNAMIC),
    ],
    ids=lambda value: str(value) if isinstance(value, (torch._ops.OpOverload, str)) else "",
)
def test_what_a_card_does(table, operator, args, expected):
    assert table.verdict(operator, args) == expected


def test_a_table_survives_writing_and_reading(table, tmp_path):
    path = tmp_path / "torch_npu-2.13.0.txt"
    path.write_text(ascend_ops.format_table(table))
    assert read_table(path) == table


def test_without_torch_npu_the_newest_table_counts(monkeypatch, tmp_path):
    for version in ("2.9.0", "2.13.0", "2.10.1"):
        (tmp_path / f"torch_npu-{version}.txt").write_text("add: Tensor out\n")
    monkeypatch.setattr(ascend_ops, "TABLES", tmp_path)
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    monkeypatch.delitem(sys.modules, "torch_npu")
    assert operators().source == "torch_npu-2.13.0 (table)"
    assert operators().native == {"add.Tensor", "add.out"}


# ---- training steps -------------------------------------------------------------------------


def offences(recorder):
    return {chip: [(c.name, c.verdict, c.place) for c in recorder.offenders(chip)] for chip in CHIPS}


CLEAN = {chip: [] for chip in CHIPS}


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
@pytest.mark.parametrize("recipe", ["", "_aligned", "_stride4"])
def test_the_step_of_a_recipe_stays_on_the_ai_core(level, recipe):
    cfg = load(f"configs/recipes/scrfd_500m_bnkps{recipe}.py", level)  # AdamW
    (recorder,) = record_training(cfg, META, [draw_batch(3, 64, 3, 8)])
    assert offences(recorder) == CLEAN


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_a_training_step_stays_on_the_ai_core(level):
    # 310P adds at indices of three rows or more only.
    (recorder,) = record_training(load(SMALL, level), META, [draw_batch(3, 64, 3, 8)])
    assert offences(recorder) == CLEAN
    assert len(recorder.calls) > 500  # forward, targets, losses, backward and optimizer were seen


def test_the_recipe_for_eight_cards_starts_few_kernels():
    totals = []
    for colours_on_card in (False, True):
        cfg = load_config(REPO / EIGHT, [f"data.device_augment={colours_on_card}"])
        (recorder,) = record_training(cfg, META, [draw_batch(32, 640, 10, 32)])
        assert offences(recorder) == CLEAN
        totals.append(recorder.summary("910B"))
    without, total = totals
    assert without.launches <= 600 and without.int64 <= 15  # 1,036 and 152 at commit 8fecd90
    assert 50 < total.launches - without.launches < 90  # colours and normalisation


@pytest.mark.parametrize(
    ("chip", "amp", "num_syncs"),
    [
        ("910B", [], 0),  # Inf shows in the gradients: a static scale needs nobody's answer
        ("910A", [], 1),  # its overflow register does; the host decides
        ("910B", ["amp.loss_scale=dynamic"], 1),
        ("910B", ["amp.dtype=bfloat16"], 0),
    ],
    ids=str,
)
def test_who_waits_for_the_loss_scale(chip, amp, num_syncs):
    cfg = load_config(REPO / SMALL, ["amp.level=O2", *amp])
    (recorder,) = record_training(cfg, META, [draw_batch(2, 64, 3, 8)], saturates(chip))
    assert recorder.summary(chip).scaler_syncs == num_syncs
    assert recorder.summary(chip).offences == {}
    places = {(call.name, call.place.partition(":")[0]) for call in recorder.capture_offenders(chip)}
    asked = ("aten::_local_scalar_dense", "mmdet/precision/levels.py")
    assert places == ({asked} if num_syncs else set())


def number_from_host(x):
    return x * torch.tensor([2.0]).to(x.device)


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (lambda x: x * float(x.sum()), "aten::_local_scalar_dense"),
        (lambda x: x[x > 0], "aten::index.Tensor"),
        (number_from_host, "aten::_to_copy"),
        (lambda x: x * 2.0 + torch.zeros(3, device=x.device)[:1], None),
    ],
    ids=["item", "mask", "number", "nothing"],
)
def test_what_forbids_a_graph_is_named_with_its_line(plant, name):
    with Recorder(operators(), META) as recorder:
        plant(torch.ones(3, device=META))
    found = Audit("", "", "910B", recorder, draw_batch(1, 64, 1, 8), ASSUMED["910B"]).why_no_capture()
    assert found == "" if name is None else re.search(rf"forbidden by {name} at test_audit.py:\d+ \(", found)


def test_assigning_on_the_device_is_an_offence():
    cfg = load_config(REPO / SMALL, ["data.assign_ahead=False"])
    (recorder,) = record_training(cfg, META, [draw_batch(2, 64, 3, 8)])
    found = {chip: recorder.summary(chip).offences for chip in CHIPS}
    assert all(offence[HOST] == 1 and offence[AI_CPU] > 10 for offence in found.values())


@pytest.mark.parametrize(
    ("options", "is_last", "is_fused"),
    [
        ([], False, False),  # a card's choice on a CPU, too
        (["speed.graph=True", "speed.compile=True"], False, False),
        (["speed.channels_last=True"], True, False),
        (["speed.fused_optimizer=True"], False, True),
    ],
    ids=str,
)
def test_the_audited_step_is_carried_out_as_the_config_says(options, is_last, is_fused):
    step = build_audited_step(load_config(REPO / SMALL, options), CPU)
    order = torch.channels_last if is_last else torch.contiguous_format
    assert step.memory_format == order
    kernels = [p for p in step.net.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels and all(kernel.is_contiguous(memory_format=order) for kernel in kernels)
    (group,) = step.optimizer.param_groups
    assert (bool(group["fused"]), bool(group["foreach"])) == (is_fused, not is_fused)
    has_momentum = {"momentum_buffer" in step.optimizer.state[p] for p in group["params"]}
    assert has_momentum == {is_fused}  # zeros from the start
    step.update(0, draw_batch(1, 64, 2, 8))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_stays_on_the_ai_core(config):
    for level in ("O0", "O1", "O2"):
        (recorder,) = record_training(load(config, level), META, [draw_batch(4, 64, 3, 8)])
        assert offences(recorder) == CLEAN


def test_the_sequence_of_operators_and_shapes_does_not_depend_on_faces():
    batches = [draw_batch(2, 64, num_faces, slots=512, seed=num_faces) for num_faces in (0, 1, 40, 300)]
    signatures = [r.signature() for r in record_training(load(SMALL, "O2"), META, batches)]
    assert len(signatures[0]) > 500
    assert signatures[1:] == signatures[:1] * 3


def test_the_test_forward_stays_on_the_ai_core():
    assert offences(record_test(load(SMALL), META, draw_batch(1, 64, 0, 8))) == CLEAN


def test_a_step_on_shapes_calls_what_a_step_on_values_calls():
    batch, names = draw_batch(2, 64, 3, 8), []
    step = build_audited_step(load(SMALL, "O0"), CPU)
    assigned = assign_ahead(step.criterion)(batch)
    step.update(0, replace(batch, assigned=assigned))
    with _Names(names):
        step._work(replace(batch, assigned=assigned))
    (recorder,) = record_training(load(SMALL, "O0"), META, [batch])
    on_shapes, on_values = Counter(call.name for call in recorder.calls), Counter(names)
    assert on_shapes == {n: count for n, count in on_values.items() if not n.startswith("profiler")}


class _Names(TorchDispatchMode):
    def __init__(self, names):
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names.append(operator.name())
        return operator(*args, **(kwargs or {}))


# ---- planted offences -----------------------------------------------------------------------


def read_bool(loss):
    return bool(loss > 0)


def amax_int64(loss):
    where = torch.zeros(4, dtype=torch.int64, device=loss.device)
    return where.scatter_reduce(0, where, where, "amax")


PLANTS = {
    "nonzero": (lambda loss: loss.reshape(1).nonzero(), dict.fromkeys(CHIPS, DYNAMIC)),
    "item": (lambda loss: loss.item(), dict.fromkeys(CHIPS, SYNC)),
    "bool": (read_bool, dict.fromkeys(CHIPS, SYNC)),
    "numbers": (lambda loss: loss.new_tensor((1.0, 2.0)), dict.fromkeys(CHIPS, SYNC)),
    "blocking copy": (lambda loss: torch.ones(2).to(loss.device), dict.fromkeys(CHIPS, SYNC)),
    "waiting for none": (lambda loss: torch.ones(2).to(loss.device, non_blocking=True), {}),
    "cpu": (lambda loss: loss.detach().cpu(), dict.fromkeys(CHIPS, SYNC)),
    "to_cpu": (lambda loss: loss.to("cpu"), dict.fromkeys(CHIPS, SYNC)),
    "tolist": (lambda loss: loss.tolist(), dict.fromkeys(CHIPS, SYNC)),
    "mask": (lambda loss: loss.reshape(1)[loss.reshape(1) > 0], dict.fromkeys(CHIPS, DYNAMIC)),
    "lgamma": (lambda loss: loss.lgamma(), dict.fromkeys(CHIPS, HOST)),
    "int64 sort": (lambda loss: loss.expand(8).to(torch.int32).long().sort(), dict.fromkeys(CHIPS, AI_CPU)),
    "shift": (lambda loss: loss.to(torch.int32) << 1, dict.fromkeys(CHIPS, AI_CPU)),
    "scatter_reduce amax": (amax_int64, dict.fromkeys(CHIPS, HOST)),
    "fp32 sort": (lambda loss: loss.expand(8).sort(), {"910A": ORDER_CHANGES, "310P": ORDER_CHANGES}),
    "int64 cast": (lambda loss: loss.long(), {"910A": AI_CPU, "310P": AI_CPU}),
}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_offence_is_found_and_placed(plant, chip):
    offend, reasons = PLANTS[plant]
    loss = torch.ones((), device=META)
    with Recorder(operators(), META) as recorder:
        offend(loss * 1)
    assert set(recorder.summary(chip).offences) == ({reasons[chip]} if chip in reasons else set())
    places = {call.place.partition(":")[0] for call in recorder.offenders(chip)}
    assert places == ({"test_audit.py"} if chip in reasons else set())


def test_a_host_tensor_may_be_read():
    card = torch.ones(3, device=META)
    with Recorder(operators(), META) as recorder:
        number = torch.tensor([2.0]).item()
        card * number
    assert [call.name for call in recorder.calls] == ["aten::mul.Tensor"]


def test_the_step_goes_on_after_what_needs_values():
    with Recorder(operators(), META):
        image = torch.zeros(4, 5, device=META)
        assert image.sum().item() == 1
        assert image.nonzero().shape == (20, 2) and image[image > 0].shape == (20,)
        assert image.cpu().tolist() == [[1.0] * 5] * 4


# ---- the tool -------------------------------------------------------------------------------


def audit(*args: str, config: str | list[str] = SMALL, **env: str) -> subprocess.CompletedProcess:
    configs = [config] if isinstance(config, str) else config
    command = [sys.executable, "tools/npu_audit.py", *configs, "--batch-size", "1", "--size", "64", *args]
    environ = {**os.environ, **env}
    return subprocess.run(command, cwd=REPO, env=environ, capture_output=True, text=True)


def test_the_tool_prints_a_table_and_writes_json(tmp_path):
    done = audit("--eval", "--json", str(tmp_path / "audit.json"))
    assert done.returncode == 0, done.stderr
    assert "0 offences (clean)" in done.stdout
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["num_offending"] == 0 and report["chip"] == "910B"
    convolution = next(row for row in report["operators"] if row["name"] == "aten::convolution")
    assert convolution["unit"] == "AI Core" and convolution["count"] > 50


def test_the_tool_prints_a_line_for_each_of_several_steps(tmp_path):
    done = audit("--chip", "910A", "310P", "--json", str(tmp_path / "a.json"), config=[EIGHT, SMALL])
    assert done.returncode == 1, done.stderr  # a single image: a 310P scatters three or more on its AI Core
    lines = [line.split() for line in done.stdout.splitlines()[2:-1]]
    assert [line[:2] for line in lines] == [[c, chip] for c in (EIGHT, SMALL) for chip in ("910A", "310P")]
    assert [line[3:8] for line in lines if line[1] == "910A"] == [["0"] * 5] * 2
    assert len(json.loads((tmp_path / "a.json").read_text())) == 4
    assert done.stdout.splitlines()[-1].startswith("4 audits, 2 with offences")


def test_the_tool_fails_on_a_planted_nonzero_and_item(tmp_path):
    (tmp_path / "planted.py").write_text(
        "from mmdet.models.losses import LOSSES\n"
        "class Planted(LOSSES['QualityFocalLoss']):\n"
        "    def __call__(self, logits, quality):\n"
        "        (quality > 0).nonzero()\n"
        "        logits.max().item()\n"
        "        return super().__call__(logits, quality)\n"
        "LOSSES['Planted'] = Planted\n"
    )
    config = tmp_path / "config.py"
    config.write_text(
        f"_base_ = [{str(REPO / SMALL)!r}]\n"
        "custom_imports = dict(imports=['planted'])\n"
        "model = dict(bbox_head=dict(loss_cls=dict(type='Planted')))\n"
    )
    done = audit(config=str(config), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    table = [line.split() for line in done.stdout.splitlines()]
    for name in ("aten::nonzero", "aten::_local_scalar_dense"):
        (row,) = (line for line in table if name in line and line[0] != "graph")
        assert row[:4] == (
            ["dynamic", "shape", "1", "1"] if name == "aten::nonzero" else ["host", "sync", "1", "1"]
        )
    assert ["at", "planted.py:4"] in table and ["at", "planted.py:5"] in table
    assert "graph capture: forbidden by aten::_local_scalar_dense at planted.py:5 (host sync)" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--chip", "910C"), "ConfigError: chip = '910C' is unknown; did you mean '910B'?"),
        (("--assume", "memory_gb_s=fast"), "ConfigError: assumption memory_gb_s=fast: give a number above 0"),
        (
            ("--assume", "memory=1"),
            "ConfigError: assumption = 'memory' is unknown; did you mean 'memory_gb_s'?",
        ),
    ],
)
def test_the_tool_refuses_what_it_does_not_know(args, message):
    done = audit(*args)
    assert done.returncode == 2 and done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_the_tool_refuses_more_faces_than_slots():
    done = audit("--faces", "40", "--slots", "32")
    assert done.returncode == 2
    assert done.stderr.strip() == "ConfigError: --faces 40 must be between 0 and --slots 32"


# ---- on simulated cards ---------------------------------------------------------------------


def test_on_simulated_cards_nothing_falls_back_either(simulator, tmp_path):
    command = [simulator.python, "tools/npu_audit.py", SMALL, "--batch-size", "1", "--size", "64"]
    report = tmp_path / "npu.json"
    done = simulator.run(
        *command, "--device", "npu", "--amp", "O2", "--json", str(report), TORCH_NPU_FALLBACK_CPU_DISABLE="1"
    )
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(report.read_text())
    assert "installed" in found["source"]
    assert not {DYNAMIC, SYNC, FALLBACK} & set(found["summary"]["offences"])
    assert "fall back to run on the CPU" not in done.stderr


def test_the_shipped_table_is_the_installed_wheels(simulator):
    code = (
        "import torch_npu; from importlib.metadata import version; from mmdet.testing.ascend_ops import *;"
        "table = TABLES / f'torch_npu-{version(\"torch-npu\")}.txt';"
        "print(table.exists() and table.read_text() == format_table(operators()))"
    )
    done = simulator.run(simulator.python, "-c", code)
    assert done.stdout.strip().endswith("True"), done.stdout + done.stderr[-1000:]
