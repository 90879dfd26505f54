"""The operator audit: every config passes, a planted sync is found, and shapes do not depend on faces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet.config import load_config
from mmdet.testing import ascend_ops
from mmdet.testing.ascend_ops import COMPOSITE, DYNAMIC, FALLBACK, NATIVE, SYNC, operators, read_table
from mmdet.testing.audit import Recorder
from mmdet.testing.audit_step import build_audited_step, draw_batch, record_test, record_training, with_amp

REPO = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SMALL = "configs/scrfd/scrfd_500m_bnkps.py"
CONFIGS = sorted(str(p.relative_to(REPO)) for p in (REPO / "configs/scrfd").glob("*.py"))
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


@pytest.mark.parametrize("level", ["O0", "O1", "O2"])
def test_a_training_step_has_nothing_a_card_dislikes(level):
    (recorder,) = record_training(load(SMALL, level), CPU, [draw_batch(2, 64, 3, 8)])
    assert [(c.name, c.verdict, c.place) for c in recorder.offenders()] == []
    assert len(recorder.calls) > 500  # forward, targets, losses, backward and optimizer were seen


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
def test_every_config_passes(config):
    (recorder,) = record_training(load(config), CPU, [draw_batch(2, 64, 3, 8)])
    assert [(c.name, c.verdict, c.place) for c in recorder.offenders()] == []


def test_the_sequence_of_operators_and_shapes_does_not_depend_on_faces():
    batches = [draw_batch(2, 64, num_faces, slots=512, seed=num_faces) for num_faces in (0, 1, 40, 300)]
    signatures = [r.signature() for r in record_training(load(SMALL, "O2"), CPU, batches)]
    assert len(signatures[0]) > 500
    assert signatures[1:] == signatures[:1] * 3


def test_the_test_forward_has_nothing_a_card_dislikes():
    assert record_test(load(SMALL), CPU, draw_batch(1, 64, 0, 8)).offenders() == []


def read_bool(loss):
    return bool(loss > 0)


PLANTS = {
    "nonzero": (lambda loss: loss.reshape(1).nonzero(), DYNAMIC),
    "item": (lambda loss: loss.item(), SYNC),
    "bool": (read_bool, SYNC),
    "cpu": (lambda loss: loss.detach().cpu(), SYNC),
    "to_cpu": (lambda loss: loss.to("cpu"), SYNC),
    "tolist": (lambda loss: loss.tolist(), SYNC),
    "mask": (lambda loss: loss.reshape(1)[loss.reshape(1) > 0], DYNAMIC),
    "lgamma": (lambda loss: loss.lgamma(), FALLBACK),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_offence_is_found_and_placed(plant):
    offend, verdict = PLANTS[plant]
    step = build_audited_step(load(SMALL, "O2"), CPU)
    criterion, batch = step.criterion, draw_batch(1, 64, 2, 8)
    step.criterion = lambda *args: _after(criterion(*args), offend)
    on_card = [batch.images, *step.net.parameters()]
    with Recorder(operators(), CPU, on_card) as recorder:
        step.update(0, batch)
    found = recorder.offenders()
    assert {c.verdict for c in found} == {verdict}
    assert {c.place.partition(":")[0] for c in found} == {"test_audit.py"}


def _after(losses, offend):
    offend(losses["loss_cls"])
    return losses


def test_a_host_tensor_may_be_read():
    card = torch.ones(3)
    with Recorder(operators(), CPU, [card]) as recorder:
        number = torch.tensor([2.0]).item()
        card * number
    assert recorder.offenders() == []


# ---- the tool -------------------------------------------------------------------------------


def audit(*args: str, config: str = SMALL, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools/npu_audit.py", config, "--batch-size", "1", "--size", "64", *args]
    environ = {**os.environ, **env}
    return subprocess.run(command, cwd=REPO, env=environ, capture_output=True, text=True)


def test_the_tool_prints_a_table_and_writes_json(tmp_path):
    done = audit("--device", "cpu", "--json", str(tmp_path / "audit.json"))
    assert done.returncode == 0, done.stderr
    assert "0 unsuited to an NPU" in done.stdout
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["num_offending"] == 0
    convolution = next(row for row in report["operators"] if row["name"] == "aten::convolution")
    assert convolution["verdict"] == "native" and convolution["count"] > 50


def test_the_tool_fails_on_a_planted_nonzero_and_item(tmp_path):
    (tmp_path / "planted.py").write_text(
        "from mmdet.models.build import LOSSES\n"
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
    done = audit("--device", "cpu", config=str(config), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "2 unsuited to an NPU" in done.stdout
    table = [" ".join(line.split()[:5]) for line in done.stdout.splitlines()]
    for line in ("dynamic shape 1 1 aten::nonzero", "at planted.py:4", "at planted.py:5"):
        assert line in table
    assert "host sync 1 1 aten::_local_scalar_dense" in table


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
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "installed" in json.loads(report.read_text())["source"]
    assert "fall back to run on the CPU" not in done.stderr


def test_the_shipped_table_is_the_installed_wheels(simulator):
    code = (
        "import torch_npu; from importlib.metadata import version; from mmdet.testing.ascend_ops import *;"
        "table = TABLES / f'torch_npu-{version(\"torch-npu\")}.txt';"
        "print(table.exists() and table.read_text() == format_table(operators()))"
    )
    done = simulator.run(simulator.python, "-c", code)
    assert done.stdout.strip().endswith("True"), done.stdout + done.stderr[-1000:]
