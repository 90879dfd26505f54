"""What is published: weights and plain facts, readable without running code, named after their hash."""

import hashlib
import os
import re
import subprocess
import sys

import pytest
import torch

from mmdet.checkpoint.publish import publish
from mmdet.errors import CheckpointError, ConfigError, WriteError


def make_checkpoint(path):
    torch.manual_seed(0)
    flat = torch.rand(1_000_000)  # as fused optimizers and O2 keep weights: parts of one buffer
    content = {
        "meta": {"epoch": 3, "CLASSES": ("face",), "config": "model = 1", "seed": 5, "hostname": "secret"},
        "state_dict": {"module.w": flat[:6].reshape(2, 3), "module.t": flat[6:12].reshape(3, 2).t()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.rand(500_000)}}, "param_groups": []},
        "rng": torch.get_rng_state(),
    }
    torch.save(content, path)
    return flat


def test_only_weights_and_facts_remain(tmp_path):
    flat = make_checkpoint(tmp_path / "in.pth")
    path = publish(tmp_path / "in.pth", tmp_path / "new" / "scrfd_2.5g.pth")
    back = torch.load(path, weights_only=True)
    assert set(back) == {"meta", "state_dict"}
    assert back["meta"] == {"epoch": 3, "CLASSES": ("face",), "config": "model = 1"}
    assert torch.equal(back["state_dict"]["w"], flat[:6].reshape(2, 3))
    assert torch.equal(back["state_dict"]["t"], flat[6:12].reshape(3, 2).t())
    assert path.stat().st_size < 5000 < (tmp_path / "in.pth").stat().st_size


def test_the_name_holds_the_hash_and_stays_the_same(tmp_path):
    make_checkpoint(tmp_path / "in.pth")
    path = publish(tmp_path / "in.pth", tmp_path / "a.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"a-{digest[:8]}.pth"
    assert publish(tmp_path / "in.pth", tmp_path / "a") == path
    assert publish(tmp_path / "in.pth", tmp_path / "a.pt") == path
    assert publish(path, tmp_path / "b").name == f"b-{digest[:8]}.pth"  # nothing left to strip
    assert sorted(os.listdir(tmp_path)) == sorted(["in.pth", path.name, f"b-{digest[:8]}.pth"])


def test_a_dot_in_the_name_is_no_suffix(tmp_path):
    make_checkpoint(tmp_path / "in.pth")
    assert re.fullmatch(
        r"scrfd_2\.5g-[0-9a-f]{8}\.pth", publish(tmp_path / "in.pth", tmp_path / "scrfd_2.5g").name
    )


def test_mistakes_are_one_line_and_leave_nothing(tmp_path, monkeypatch):
    make_checkpoint(tmp_path / "in.pth")
    (tmp_path / "file").write_text("")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "a.onnx").write_text("")
    before = sorted(os.listdir(tmp_path))
    for source, target, error, text in (
        ("no.pth", "a.pth", CheckpointError, "no.pth: no such file"),
        ("text.pth", "a.pth", CheckpointError, "text.pth is damaged or not a checkpoint"),
        (
            "a.onnx",
            "a.pth",
            CheckpointError,
            "a.onnx is an ONNX file, not a checkpoint; tools",
        ),
        ("in.pth", "file/a.pth", WriteError, "cannot be written: (Not a directory|File exists)"),
        ("in.pth", "", ConfigError, "is a folder; give the name of a file in it"),
    ):
        with pytest.raises(error, match=text) as caught:
            publish(tmp_path / source, tmp_path / target)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(
        "mmdet.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(WriteError, match="cannot be written: No space left"):
        publish(tmp_path / "in.pth", tmp_path / "a.pth")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.slow
def test_the_tool(repo, tmp_path):
    make_checkpoint(tmp_path / "in.pth")
    results = []
    for source in ("in.pth", "none.pth"):
        command = [sys.executable, "tools/publish_model.py", tmp_path / source, tmp_path / "a.pth"]
        results.append(subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120))
    good, bad = results
    assert good.returncode == 0 and re.fullmatch(r"wrote .*/a-[0-9a-f]{8}\.pth \(0\.00 MiB\)\n", good.stdout)
    assert bad.returncode == 2 and bad.stderr == f"CheckpointError: {tmp_path}/none.pth: no such file\n"


def test_published_checkpoint_stays_the_same_model(shared, tmp_path):
    (source,) = (shared / "data" / "scrfd_pth").glob("*.pth")
    path = publish(source, tmp_path / "scrfd_500m_bnkps.pth")
    before, after = (torch.load(p, weights_only=True) for p in (source, path))
    assert before["state_dict"].keys() == after["state_dict"].keys()
    assert all(
        torch.equal(before["state_dict"][key], after["state_dict"][key]) for key in after["state_dict"]
    )
    assert after["meta"]["epoch"] == 640
