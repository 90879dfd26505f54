"""Foreign checkpoints and ONNX files in, ours out; real published weights where they are at hand."""

import collections
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mmdet.apis import init_detector
from mmdet.checkpoint import files as checkpoint
from mmdet.checkpoint.foreign import plain_values, read_foreign
from mmdet.checkpoint.keys import find_weights
from mmdet.deploy.export.convert import convert
from mmdet.errors import CheckpointError, ConfigError, WriteError

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
WEIGHTS = {"backbone.conv.weight": torch.arange(6.0).reshape(2, 3), "backbone.conv.bias": torch.ones(2)}


def make_class(monkeypatch, name, base=object, **members):
    """Return a class that can be pickled now and not be imported later: its module goes with monkeypatch."""
    module_name, _, class_name = name.rpartition(".")
    module = sys.modules.get(module_name) or types.ModuleType(module_name)
    made = type(class_name, (base,), {**members, "__module__": module_name})
    setattr(module, class_name, made)
    parts = module_name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    monkeypatch.setitem(sys.modules, module_name, module)
    return made


def same(found, wanted=WEIGHTS):
    assert list(found) == list(wanted)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    return True


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("content", "prefix", "others"),
    [
        (WEIGHTS, "", ()),
        (
            {"meta": {"epoch": 3}, "state_dict": WEIGHTS, "optimizer": {"state": {}}},
            "",
            ("meta", "optimizer"),
        ),
        ({"state_dict": collections.OrderedDict(WEIGHTS)}, "", ()),
        ({"state_dict": {f"module.{k}": v for k, v in WEIGHTS.items()}}, "module.", ()),
        (
            {"model": {f"module.model.{k}": v for k, v in WEIGHTS.items()}, "epoch": 1},
            "module.model.",
            ("epoch",),
        ),
        ({f"_orig_mod.{k}": v for k, v in WEIGHTS.items()}, "_orig_mod.", ()),
        ({"state_dict": {f"ema_{k}": v for k, v in WEIGHTS.items()}}, "ema_", ()),
    ],
)
def test_all_layouts_give_plain_keys(tmp_path, is_zip, content, prefix, others):
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    found = find_weights(read_foreign(tmp_path / "a.pth"), "a.pth")
    assert same(found.tensors)
    assert (found.prefix, found.num_averages, found.others) == (prefix, 0, others)


def test_a_prefix_of_some_keys_only_stays():
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(find_weights(mixed, "x").tensors) == ["module.a", "b"]


def test_averaged_copies_are_left_out():
    both = {
        **WEIGHTS,
        "ema_backbone_conv_weight": torch.zeros(2, 3),
        "ema_backbone_conv_bias": torch.zeros(2),
    }
    found = find_weights({"state_dict": both}, "x")
    assert same(found.tensors) and found.num_averages == 2


def test_no_weights_is_said():
    with pytest.raises(CheckpointError, match=r"x.pth holds no weights \(its keys: meta, epoch\)"):
        find_weights({"meta": {}, "epoch": 3}, "x.pth")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_objects_of_foreign_classes_are_left_out(tmp_path, monkeypatch, is_zip):
    """What mmcv 1 and mmengine put into meta, message_hub and optimizer."""
    with monkeypatch.context() as patch:
        config_dict = make_class(patch, "mmcv_old.utils.config.ConfigDict", dict)
        history = make_class(patch, "mmengine_old.logging.HistoryBuffer")()
        history.__dict__.update(max_length=3, _log_history=np.arange(3.0))
        slots = make_class(patch, "other.Slots", __slots__=("a",))()
        slots.a = 1
        names = make_class(patch, "other.Names", list)(["x", "y"])
        marked = make_class(patch, "other.Marked", dict)(b=2)
        marked.mark = True
        content = {
            "state_dict": WEIGHTS,
            "meta": {"cfg": config_dict(lr=0.1, steps=[1, 2]), "epoch": 7, "names": names, "marked": marked},
            "message_hub": {
                "loss": history,
                "slots": slots,
                "queue": collections.deque([1, 2], 4),
                "range": range(3),
            },
        }
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match="is refused"):
        checkpoint.load(tmp_path / "a.pth")
    back = read_foreign(tmp_path / "a.pth")
    assert same(back["state_dict"])
    meta = plain_values(back["meta"])
    want = {"cfg": {"lr": 0.1, "steps": [1, 2]}, "epoch": 7, "names": ["x", "y"], "marked": {"b": 2}}
    assert meta == want
    assert not {"mmcv_old", "mmengine_old", "other"} & set(sys.modules)  # nothing was imported


class Harm:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    torch.save({"state_dict": WEIGHTS, "meta": Harm(tmp_path / "harm")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="evil.pth is refused: it would call posix.mkdir") as caught:
        read_foreign(tmp_path / "evil.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


class Helpless(Harm):
    def __reduce__(self):
        return np.save, (str(self.folder / "harm"), 1)


def test_a_function_becomes_a_placeholder_too(tmp_path):
    """The reader blocks os and its like for good; other functions are replaced, so nothing is called."""
    torch.save({"state_dict": WEIGHTS, "meta": Helpless(tmp_path)}, tmp_path / "evil.pth")
    assert same(read_foreign(tmp_path / "evil.pth")["state_dict"])
    assert os.listdir(tmp_path) == ["evil.pth"]


@pytest.mark.parametrize("damage", ["empty", "half", "text", "list", "protocol4"])
def test_damaged_files_are_one_line(tmp_path, damage):
    path = tmp_path / "a.pth"
    torch.save([1] if damage == "list" else {"state_dict": WEIGHTS}, path)
    data = path.read_bytes()
    replaced = {"empty": b"", "half": data[: len(data) // 2], "text": b"<html>", "list": data}
    path.write_bytes(replaced.get(damage) if damage in replaced else pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(CheckpointError, match=r"a\.pth") as caught:
        read_foreign(path)
    assert "\n" not in str(caught.value)


def test_checkpoint_to_ours(tmp_path):
    torch.manual_seed(0)
    model = init_detector(CONFIG, device="cpu")
    state = model.state_dict()
    content = {"meta": {"CLASSES": ("face",)}, "state_dict": {f"module.{k}": v for k, v in state.items()},
               "optimizer": {"param_groups": []}}  # fmt: skip
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    lines = convert(tmp_path / "old.pth", tmp_path / "out" / "new.pth", CONFIG)
    assert lines == [
        f"285 weights in {tmp_path}/old.pth, prefix 'module.' dropped",
        "left out: optimizer",
        f"285 of 285 keys of {CONFIG} matched by name, none is left over",
        f"wrote {tmp_path}/out/new.pth",
    ]
    back = checkpoint.load(tmp_path / "out" / "new.pth")
    assert set(back) == {"meta", "state_dict"} and back["meta"] == {"CLASSES": ("face",)}
    assert same(back["state_dict"], state)
    init_detector(CONFIG, tmp_path / "out" / "new.pth", device="cpu")


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        (("a.pth", "b.txt"), ConfigError, r"a.pth -> b.txt: from .pth or .onnx"),
        (("a.onnx", "b.onnx", CONFIG), ConfigError, "from .pth or .onnx to .pth"),
        (("a.onnx", "b.pth"), ConfigError, "--config is missing"),
        (("a.pth", "b.onnx"), ConfigError, "--config is missing"),
        (("a.pth", "b.pth"), CheckpointError, "a.pth: no such file"),
        (("a.onnx", "b.pth", CONFIG), CheckpointError, "a.onnx: no such file"),
    ],
)
def test_wrong_arguments(args, error, text):
    with pytest.raises(error, match=text):
        convert(*args)


def test_another_model_is_refused_and_nothing_is_written(tmp_path):
    torch.save({"state_dict": WEIGHTS}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth is not of this model: 244 missing: .*2 unexpected"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth", CONFIG)
    assert os.listdir(tmp_path) == ["a.pth"]


def test_a_target_that_cannot_be_written_is_one_line(tmp_path):
    torch.save({"state_dict": WEIGHTS}, tmp_path / "a.pth")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/b.pth cannot be written: (Not a directory|File exists)"):
        convert(tmp_path / "a.pth", tmp_path / "file" / "b.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ConfigError, match="folder.pth is a folder"):
        convert(tmp_path / "a.pth", tmp_path / "folder.pth")
    with pytest.raises(ConfigError, match="a.pth would overwrite the input"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth", overwrite=True)
    (tmp_path / "file").rename(tmp_path / "old.pth")
    with pytest.raises(ConfigError, match="old.pth exists; .* --overwrite"):
        convert(tmp_path / "a.pth", tmp_path / "old.pth")
    assert (tmp_path / "old.pth").read_text() == ""
    (tmp_path / "old.pth").rename(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "file", "folder.pth"]


@pytest.mark.slow
def test_the_tool_ends_with_2_and_one_line(repo, tmp_path):
    (tmp_path / "a.pth").write_text("no checkpoint")
    command = [sys.executable, "tools/convert_weights.py", str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("CheckpointError: ") and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.fixture(scope="module")
def t1(shared):
    """Return the letterboxed photograph as a blob, and the raw outputs onnxruntime gave elsewhere."""
    with np.load(shared / "data" / "scrfd_onnx" / "ref_t1_640_scrfd_500m.npz") as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yukkki7__scrfd_500m.onnx", "ShiqiYu__scrfd_500m_bnkps.onnx"])
def test_published_onnx_file_to_ours_gives_its_outputs(shared, t1, tmp_path, name):
    source = shared / "data" / "scrfd_onnx" / name
    lines = convert(source, tmp_path / "ours.pth", CONFIG)
    assert lines[0] == "36 keys matched by name, 207 by the order of the layers"
    assert lines[1] == "0 keys not in the file"
    model = init_detector(CONFIG, tmp_path / "ours.pth", device="cpu")
    canvas = next(array for array in t1.values() if array.dtype == np.uint8).reshape(640, 640, 3)
    blob = ((canvas[..., ::-1].astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    want = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(blob)})
    with torch.no_grad():
        cls, bbox, kps = model.raw(torch.from_numpy(blob.copy()))
    maps = [m.sigmoid() for m in cls] + list(bbox) + list(kps)
    for found, wanted in zip(maps, want, strict=True):
        rows = found.permute(0, 2, 3, 1).reshape(-1, wanted.shape[-1])
        np.testing.assert_allclose(rows, wanted.reshape(rows.shape), rtol=0, atol=1e-4)
    assert max(float(score.max()) for score in want[:3]) > 0.6  # there are faces, so it is not all zeros


@pytest.mark.slow
def test_published_checkpoint_to_onnx_and_back(shared, tmp_path):
    """.pth -> ours -> .onnx -> ours; and the same network as the published ONNX file, layer by layer."""
    (source,) = (shared / "data" / "scrfd_pth").glob("*.pth")
    lines = convert(source, tmp_path / "ours.onnx", CONFIG)
    assert lines[1] == f"285 of 285 keys of {CONFIG} matched by name, none is left over"
    convert(tmp_path / "ours.onnx", tmp_path / "back.pth", CONFIG)
    convert(shared / "data" / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx", tmp_path / "onnx.pth", CONFIG)
    ours, theirs = (checkpoint.load(tmp_path / f"{n}.pth")["state_dict"] for n in ("back", "onnx"))
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-5, err_msg=key)
    assert Path(tmp_path / "ours.json").is_file()
