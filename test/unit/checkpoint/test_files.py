import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mmdet import files
from mmdet.checkpoint.files import load, save
from mmdet.errors import CheckpointError


class Harm:
    """Its pickle creates a folder when loaded without care."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_what_is_saved_is_loaded(tmp_path):
    content = {
        "meta": {"epoch": 3, "CLASSES": ("face",), "time": None, "lr": [0.1, {"a": 1.5}], "done": True},
        "state_dict": OrderedDict(w=torch.arange(3.0), h=torch.ones(2, dtype=torch.half)),
        "rng": torch.get_rng_state(),
    }
    save(tmp_path / "a.pth", content)
    back = load(tmp_path / "a.pth")
    assert back["meta"] == content["meta"]
    assert torch.equal(back["state_dict"]["w"], content["state_dict"]["w"])
    assert back["state_dict"]["h"].dtype == torch.half
    assert os.listdir(tmp_path) == ["a.pth"]


def test_numpy_numbers_in_meta_are_data(tmp_path):
    if not hasattr(torch.serialization, "safe_globals"):
        pytest.skip("torch < 2.5 cannot allow them")
    save(
        tmp_path / "a.pth",
        {"best": np.float64(0.5), "n": np.int64(3), "ok": np.bool_(True), "f": np.float32(1)},
    )
    assert load(tmp_path / "a.pth") == {"best": 0.5, "n": 3, "ok": True, "f": 1.0}


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("writer", [torch.save, write_pickle])
def test_pickled_code_is_refused_and_not_run(tmp_path, writer):
    writer({"state_dict": {}, "meta": Harm(tmp_path / "harm")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil.pth is refused: it holds pickled code \(posix.mkdir\)"):
        load(tmp_path / "evil.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_newer_pickles_are_refused_and_not_run(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"meta": Harm(tmp_path / "harm")}, protocol=4))
    with pytest.raises(CheckpointError, match="evil.pth .*Unsupported operand") as caught:
        load(tmp_path / "evil.pth")
    assert "weights_only" not in str(caught.value)  # torch's advice to load it unsafely
    assert not (tmp_path / "harm").exists()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing.pth: no such file"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is text", b"PK\x03\x04 cut short", b"\x80\x02}q\x00(X"]
)
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="bad.pth"):
        load(tmp_path / "bad.pth")


def test_half_a_file_is_named(tmp_path):
    save(tmp_path / "a.pth", {"w": torch.zeros(1000)})
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="a.pth is damaged or not a checkpoint"):
        load(tmp_path / "a.pth")


def test_a_tensor_is_not_a_checkpoint(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "t.pth")
    with pytest.raises(CheckpointError, match="holds a Tensor, not a dict"):
        load(tmp_path / "t.pth")


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    save(tmp_path / "a.pth", {"epoch": 1})

    def refuse(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", refuse)
    with pytest.raises(CheckpointError, match="a.pth cannot be written: No space left on device.*untouched"):
        save(tmp_path / "a.pth", {"epoch": 2})
    assert load(tmp_path / "a.pth") == {"epoch": 1}
    assert os.listdir(tmp_path) == ["a.pth"]


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no/a.pth cannot be written: No such file or directory"):
        save(tmp_path / "no" / "a.pth", {})


def test_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(CheckpointError, match="a.pth cannot be written: Is a directory"):
        save(tmp_path / "a.pth", {})
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        save(tmp_path / "a.pth", {})


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    """Nothing but the last rename touches the old file."""
    save(tmp_path / "a.pth", {"epoch": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a.pth", {"epoch": 2})
    assert load(tmp_path / "a.pth") == {"epoch": 1}
    monkeypatch.undo()
    save(tmp_path / "a.pth", {"epoch": 3})  # the leftover of the kill is in nobody's way
    assert load(tmp_path / "a.pth") == {"epoch": 3} and os.listdir(tmp_path) == ["a.pth"]


def test_an_onnx_file_is_named_as_one(tmp_path):
    (tmp_path / "a.ONNX").write_bytes(b"onnx")
    with pytest.raises(CheckpointError, match=r"a\.ONNX is an ONNX file, not a checkpoint; tools"):
        load(tmp_path / "a.ONNX")
