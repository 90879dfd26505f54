"""load_config: bases, --cfg-options, old and new spellings, and what it says when something is wrong."""

import dataclasses
import os
import subprocess
import sys

import pytest

from mmdet.config import AmpConfig, EmaConfig, dump, load_config
from mmdet.errors import ConfigError

SMALL = """
data_root = "data/faces/"
model = dict(type="SCRFD", backbone=dict(type="MobileNetV1"), bbox_head=dict(type="SCRFDHead"))
train_cfg = dict(assigner=dict(type="ATSSAssigner", topk=9))
test_cfg = dict(score_thr=0.02)
data = dict(
    samples_per_gpu=8,
    train=dict(type="D", ann_file="data/faces/train/l.txt", img_prefix="data/faces/train/images/",
               pipeline=[dict(type="A"), dict(type="B", scale=(640, 640))]),
    val=dict(type="D", ann_file="data/faces//val/l.txt", img_prefix="data/faces/val/images"),
)
optimizer = dict(type="SGD", lr=0.01)
lr_config = dict(policy="step", step=[2, 3])
total_epochs = 4
evaluation = dict(interval=2)
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file below tmp_path and returns its path."""

    def write_file(text, name="small.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def load(write):
    """Return a function that loads SMALL plus some lines, with options."""
    return lambda extra="", options=(): load_config(write(SMALL + extra), options)


def refused(load, *args):
    """Return the message of the ConfigError, which must be a single line."""
    with pytest.raises(ConfigError) as caught:
        load(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --cfg-options: where values go


def test_option_reaches_dicts_and_list_entries(load):
    options = ["model.backbone.depth=18", "data.train.pipeline.1.scale=(320,320)", "lr_config.step=1,2"]
    config = load("", options)
    assert config.model["backbone"] == {"type": "MobileNetV1", "depth": 18}
    assert config.data.train["pipeline"] == [{"type": "A"}, {"type": "B", "scale": (320, 320)}]
    assert config.lr.step == (1, 2)


def test_options_may_be_a_dict_whose_values_merge(load):
    config = load("", {"model.backbone": {"depth": 3}, "model.neck": {"type": "PAFPN"}})
    assert config.model["backbone"] == {"type": "MobileNetV1", "depth": 3}
    assert config.model["neck"] == {"type": "PAFPN"}


def test_delete_empties_a_dict_first_whatever_the_order(load):
    config = load("", ["model.backbone.type=X", "model.backbone._delete_=True"])
    assert config.model["backbone"] == {"type": "X"}
    config = load("", {"model.backbone": {"_delete_": True, "depth": 1}})
    assert config.model["backbone"] == {"depth": 1}


def test_option_through_none_makes_a_dict(load):
    config = load("optimizer_config = dict(grad_clip=None)\n", ["optimizer_config.grad_clip.max_norm=35"])
    assert config.grad_clip == {"max_norm": 35.0, "norm_type": 2.0}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("optimzer.lr=1", ["'optimzer'", "did you mean 'optimizer'?"]),
        ("optimizer.lrr=1", ["key of optimizer", "'lrr'", "did you mean 'lr'?"]),
        ("optimizer.lr=-1", ["optimizer.lr = -1", "above 0"]),
        ("optimizer.lr=fast", ["optimizer.lr = 'fast'", "float"]),
        ("lr_config.stepp=1", ["key of lr_config", "did you mean 'step'?"]),
        ("lr_config.step=[3,2]", ["lr_config.step", "ascending"]),
        ("lr_config.warmup=linear", ["warmup_iters > 0"]),
        ("data.sample_per_gpu=1", ["key of data", "did you mean 'samples_per_gpu'?"]),
        ("data.samples_per_gpu=0", ["data.samples_per_gpu = 0", "at least 1"]),
        ("data.gt_slots=[128,32]", ["data.gt_slots", "ascending"]),
        ("data.train.pipeline.7.scale=1", ["'7'", "list of 2"]),
        ("evaluation.intervall=1", ["key of evaluation", "did you mean 'interval'?"]),
        ("evaluation.metric=wider", ["evaluation.metric", "did you mean 'widerface'?"]),
        ("checkpoint_config.intervl=1", ["key of checkpoint_config", "did you mean 'interval'?"]),
        ("amp.level=O3", ["amp.level = 'O3'", "O0, O1, O2"]),
        ("amp.loss_scale=big", ["amp.loss_scale = 'big'", "'dynamic'"]),
        ("train_cfg.asigner=1", ["key of train_cfg", "did you mean 'assigner'?"]),
        ("test_cfg.score_thrs=1", ["key of test_cfg", "did you mean 'score_thr'?"]),
        ("total_epochs.x=1", ["total_epochs = 4 has no keys"]),
        ("momentum_config.policy=cyclic", ["momentum_config is not supported"]),
        ("workflow=[(val,1)]", ["workflow", "[('train', 1)]"]),
        ("workflow=3", ["workflow", "[('train', 1)]"]),
        ("workflow=[1]", ["workflow", "[('train', 1)]"]),
        ("train_pipeline=[]", ["train_pipeline", "no effect"]),
    ],
)
def test_unknown_or_wrong_option_is_refused(load, option, words):
    message = refused(load, "", [option])
    assert all(word in message for word in words), message


# data_root


def test_data_root_moves_the_paths_below_it(load):
    extra = 'evaluation = dict(gt_dir="data/faces/val/gt")\n'
    config = load(extra, ["data_root=/big disk/wider", "data.val.img_prefix=data/faces/elsewhere"])
    assert config.data.train["ann_file"] == "/big disk/wider/train/l.txt"
    assert config.data.train["img_prefix"] == "/big disk/wider/train/images/"
    assert config.data.val["ann_file"] == "/big disk/wider/val/l.txt"
    assert config.data.val["img_prefix"] == "data/faces/elsewhere"  # given explicitly
    assert config.evaluation.gt_dir == "/big disk/wider/val/gt"
    assert "data_root = '/big disk/wider'" in dump(config)


def test_data_root_leaves_other_folders_alone(load):
    config = load('data["val"]["ann_file"] = "data/faces_b/l.txt"\n', ["data_root=/x"])
    assert config.data.val["ann_file"] == "data/faces_b/l.txt"


def test_data_root_that_moves_nothing_is_an_error(load):
    assert "no path of `data`" in refused(load, 'data_root = "other/"\n', ["data_root=/x"])
    assert "no data_root to replace" in refused(load, "del data_root\n", ["data_root=/x"])


# spellings


def test_defaults(load):
    config = load()
    assert config.data.gt_slots == (32, 64, 128, 256, 512, 1024, 2048)
    assert (config.data.workers_per_gpu, config.data.val_samples_per_gpu, config.data.test) == (2, 1, None)
    assert config.amp == AmpConfig("O0", "float16", 128.0, "native")
    assert config.ema is None and config.grad_clip is None and config.base_batch_size is None
    assert (config.evaluation.metric, config.evaluation.save_best) == (("widerface",), "AP_hard")
    assert (config.log_level, config.log_hooks, config.unused) == ("INFO", (), ())


def test_old_and_new_data_spellings(load):
    assert load("data.update(imgs_per_gpu=3)\n").data.samples_per_gpu == 3
    config = load('data["val"]["samples_per_gpu"] = 5\n')
    assert config.data.val_samples_per_gpu == 5
    assert "samples_per_gpu" not in config.data.val


@pytest.mark.parametrize(
    ("line", "amp"),
    [
        ("fp16 = None", AmpConfig()),
        ("fp16 = dict()", AmpConfig("O1", "float16", 512.0)),
        ("fp16 = dict(loss_scale=512.)", AmpConfig("O1", "float16", 512.0)),
        ("fp16 = dict(loss_scale='dynamic')", AmpConfig("O1", "float16", "dynamic")),
        ("fp16 = dict(loss_scale=dict(init_scale=512.0))", AmpConfig("O1", "float16", "dynamic")),
        ("amp = dict(opt_level='O2', loss_scale=64)", AmpConfig("O2", "float16", 64.0)),
        ("amp = dict(level='O1', dtype='bf16')", AmpConfig("O1", "bfloat16", 128.0)),
        ("amp = dict(level='O2', backend='apex')", AmpConfig("O2", "float16", 128.0, "apex")),
    ],
)
def test_mixed_precision_spellings(load, line, amp):
    assert load(line + "\n").amp == amp


def test_fp16_and_amp_together_are_refused(load):
    assert "both" in refused(load, "fp16 = dict(loss_scale=1.0)\namp = dict(level='O1')\n")


def test_schedule_spellings(load):
    assert load("lr_config = dict(policy='step', step=2)\ntotal_epochs = 7\n").lr.step == (2, 4, 6)
    assert load("lr_config = dict(policy='fixed')\n").lr.step == ()
    cosine = load("lr_config = dict(policy='CosineAnnealing', min_lr_ratio=0.1, by_epoch=False)\n").lr
    assert (cosine.policy, cosine.min_lr, cosine.by_epoch) == ("cosine", pytest.approx(0.001), False)
    config = load("del total_epochs\nrunner = dict(type='EpochBasedRunner', max_epochs=9)\n")
    assert config.total_epochs == 9
    assert "contradicts" in refused(load, "runner = dict(max_epochs=9)\n")


def test_log_writers_and_restarts(load):
    config = load(
        "log_config = dict(hooks=[dict(type='TextLoggerHook', by_epoch=False),\n"
        "    dict(type='WandbLoggerHook', interval=9, init_kwargs=dict(mode='offline'))])\n"
        "lr_config = dict(policy='CosineRestarts', T_0=10, T_mult=2, eta_min=0.001)\n"
    )
    assert config.log_hooks == (
        {"type": "TextLoggerHook"},
        {"type": "WandbLoggerHook", "init_kwargs": {"mode": "offline"}},
    )
    assert config.unused == ("log_config.hooks.0.by_epoch", "log_config.hooks.1.interval")
    lr = config.lr
    assert (lr.policy, lr.T_0, lr.T_mult, lr.min_lr) == ("CosineRestarts", 10, 2, 0.001)
    for wrong in ("log_config = dict(hooks=[3])\n", "log_config = dict(hooks=5)\n"):
        assert "log_config.hooks" in refused(load, wrong)


def test_runtime_spellings(load):
    config = load(
        "checkpoint_config = dict(interval=500, by_epoch=False, max_keep_ckpts=2)\n"
        "log_config = dict(interval=7, hooks=[dict(type='TensorboardLoggerHook')])\n"
        "evaluation = dict(metric=['mAP'], save_best='auto')\n"
        "custom_hooks = [dict(type='EMAHook', momentum=0.001, priority=49)]\n"
        "auto_scale_lr = dict(base_batch_size=32)\n"
        "optimizer = dict(type='NpuFusedSGD', lr=1, momentum=0.9)\n"
    )
    checkpoint = config.checkpoint
    assert (checkpoint.interval_iters, checkpoint.interval, checkpoint.max_keep) == (500, 4, 2)
    assert (config.log_interval, config.log_hooks) == (7, ({"type": "TensorboardLoggerHook"},))
    assert (config.evaluation.metric, config.evaluation.save_best) == (("mAP",), "mAP")
    assert config.ema == EmaConfig(momentum=0.001, warm_up=100)
    assert config.base_batch_size == 32
    assert config.optimizer == {"type": "NpuFusedSGD", "lr": 1, "momentum": 0.9}


def test_ema_set_twice_is_refused(load):
    assert "twice" in refused(load, "ema = dict(momentum=0.1)\ncustom_hooks = [dict(type='EMAHook')]\n")
    assert "custom_hooks.0.type" in refused(load, "custom_hooks = [dict(type='MyHook')]\n")


def test_train_cfg_at_the_top_wins_over_the_one_inside_model(load):
    extra = "model['train_cfg'] = dict(assigner=dict(type='Inner'))\n"
    config = load(extra)
    assert config.train_cfg == {"assigner": {"type": "ATSSAssigner", "topk": 9}}
    assert config.unused == ("model.train_cfg",)
    config = load(extra + "del train_cfg\n")
    assert config.train_cfg == {"assigner": {"type": "Inner"}}
    assert "train_cfg" not in config.model


def test_a_file_for_inference_needs_no_training_keys(write):
    config = load_config(write("model = dict(type='SCRFD')\ndata = dict(test=dict(type='D'))\n"))
    assert config.data.test == {"type": "D"}
    assert (config.data.train, config.optimizer, config.total_epochs) == ({}, {}, 0)
    assert config.evaluation is None


@pytest.mark.parametrize("key", ["optimizer", "total_epochs", "model"])
def test_missing_key_is_named(load, key):
    assert refused(load, f"del {key}\n") == f"{key} is missing"


def test_unread_keys_are_reported_once_in_one_line(load, caplog):
    config = load("epoch_multi = 1\ndist_params = dict(backend='nccl')\ntrain_cfg['debug'] = False\n")
    assert set(config.unused) == {"epoch_multi", "dist_params", "train_cfg.debug"}
    assert len(caplog.records) == 1
    assert all(name in caplog.text for name in config.unused)


# files


def test_bases_merge_and_names_may_hold_dots(write):
    write(SMALL, "_base_/a.py")
    path = write("_base_ = '../_base_/a.py'\ntotal_epochs = 9\noptimizer = dict(lr=0.5)\n", "b/scrfd_2.5g.py")
    config = load_config(str(path))
    assert config.total_epochs == 9
    assert config.optimizer == {"type": "SGD", "lr": 0.5}


def test_the_references_own_base_files_are_found(repo, write, tmp_path):
    (tmp_path / "_base_").symlink_to(repo / "configs" / "_base_")
    text = "_base_ = ['../_base_/schedules/schedule_retinaface_sgd.py', '../_base_/default_runtime.py']\n"
    text += SMALL.replace("total_epochs = 4\n", "")
    config = load_config(write(text, "scrfd/base_34g.py"))
    assert config.total_epochs == 80
    assert config.lr.warmup == "linear"


def test_names_with_an_underscore_are_the_files_own(load):
    config = load("_size = 640\nimport math\n")
    assert "_size" not in dump(config)
    assert config.unused == ()


@pytest.mark.parametrize(
    "text",
    ["workflow = [('train', 1), ('val', 1)]\n", "albu_train_transforms = [dict(type='ToGray', p=0.2)]\n"],
)
def test_what_real_files_hold_and_nobody_reads_is_told(write, text, caplog):
    """B31 and B32 of the shared cases: a validation stage, and a helper variable."""
    config = load_config(write(SMALL + text, "a.py"))
    assert config.unused == (text.split(" ")[0],)
    assert "accepted, but read by nobody" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALL + "x = (1\n", ["bad.py:", "never closed"]),
        (SMALL + "total_epochs = 4 * undefined\n", ["bad.py:16", "NameError", "undefined"]),
        ("_base_ = 'nowhere.py'\n", ["bad.py", "base file", "nowhere.py", "does not exist"]),
        ("_base_ = ['a.py', 'b.py']\n", ["Duplicate keys", "total_epochs"]),
        ("_base_ = 'a.py'\ntotal_epochs = dict(a=1)\n", ["total_epochs", "_delete_"]),
        (SMALL + "optimiser = 3\n", ["top-level key = 'optimiser' is unknown; did you mean 'optimizer'"]),
        (SMALL + "model = 3\n", ["model = 3", "dict"]),
        (SMALL + "seed = {1}\n", ["seed is of type set"]),
        (SMALL + "evaluation = dict(interval='often')\n", ["evaluation.interval = 'often'", "int"]),
        (SMALL + "text = 1\n", ["text"]),
        ("_base_ = 'bad.py'\n", ["base of itself"]),
    ],
)
def test_a_bad_file_gives_one_line_that_says_where(write, text, words):
    write("total_epochs = 1\n", "a.py")
    write("total_epochs = 2\n", "b.py")
    path = write(text, "bad.py")
    message = refused(load_config, path)
    assert all(word in message for word in words), message


def test_a_missing_file_gets_the_nearest_name(repo):
    message = refused(load_config, repo / "configs" / "scrfd" / "scrfd_2.5.py")
    assert "does not exist" in message and "scrfd_2.5g.py?" in message


# custom_imports


def test_custom_imports_are_imported(load, write, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    write("loaded = True\n", "my_parts_for_test.py")
    load("", ["custom_imports.imports=[my_parts_for_test]"])
    assert sys.modules.pop("my_parts_for_test").loaded


def test_custom_import_that_fails(load, caplog):
    message = refused(load, "", ["custom_imports.imports=[no_such_module]"])
    assert "no_such_module" in message and "PYTHONPATH" in message
    config = load("custom_imports = dict(imports='no_such_module', allow_failed_imports=True)\n")
    assert "no_such_module" in caplog.text
    assert config.custom_imports == {"imports": ("no_such_module",), "allow_failed_imports": True}


# text


def test_dump_reads_back_as_an_equal_config(load, write):
    extra = "model['odd'] = {'a-b': (1,), 'class': [], 'x': float('inf'), 'n': {}, 's': 'it\\'s'}\n"
    config = load(extra, ["optimizer.lr=0.5"])
    again = load_config(write(dump(config), "again.py"))
    assert dataclasses.replace(again, filename=config.filename) == config


def test_loading_does_not_import_torch_and_tool_prints_the_file(repo, tmp_path):
    config = str(repo / "configs" / "scrfd" / "scrfd_2.5g.py")
    env = {**os.environ, "PYTHONPATH": str(repo)}
    tool = [sys.executable, str(repo / "tools" / "print_config.py")]

    def run(*command):
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)

    done = run(*tool, config, "--cfg-options", "optimizer.lr=0.5", "data.samples_per_gpu=2")
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "printed.py").write_text(done.stdout)
    assert load_config(tmp_path / "printed.py").optimizer["lr"] == 0.5

    failed = run(*tool, config, "--cfg-options", "optimizer.lrr=0.5")
    assert failed.returncode == 2
    assert (
        failed.stderr.startswith("ConfigError: key of optimizer = 'lrr'") and failed.stderr.count("\n") == 1
    )

    code = f"import sys, mmdet.config as c; c.load_config({config!r}); sys.exit('torch' in sys.modules)"
    assert run(sys.executable, "-c", code).returncode == 0


# files from strangers


LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", '!!python/object/apply:os.system ["touch PWNED"]', ["a.yaml", "could not determine"]),
        ("a.yaml", "a: [!!python/object/new:os.mkdir [PWNED]]", ["a.yaml", "could not determine"]),
        ("a.yml", "a: [1, 2", ["a.yml", "expected"]),
        ("a.yml", "3: 4\n", ["a.yml", "the key 3 must be a string"]),
        ("a.yml", "true: 4\n", ["a.yml", "the key True must be a string"]),
        ("a.yaml", LAUGHS, ["more than"]),
        ("a.json", '{"a": ', ["a.json", "Expecting value"]),
        ("a.json", "[" * 100_000, ["a.json", "recursion"]),
        ("a.py", "_base_ = None\n", ["a.py", "_base_ = None"]),
        ("a.py", "_base_ = [" + "'b.py', " * 1000 + "]\n", ["a.py", "_base_"]),
        ("a.py", "x = " + "-" * 100_000 + "1\n", ["a.py: nested too deep"]),
        ("a.py", "raise SystemExit(0)\n", ["a.py:1", "SystemExit"]),
        ("a.py", "x = 1\0\n", ["a.py:"]),
        ("a.py", "a = {}\na['a'] = a\n", ["a.py"]),
        ("a.py", "seed = 10 ** 30\n", ["seed is an int of more than 64 bits"]),
        ("a.py", "#" * 2_000_000, ["at most 1048576 bytes"]),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_one_line(write, tmp_path, monkeypatch, name, text, words):
    monkeypatch.chdir(tmp_path)
    message = refused(load_config, write(text, name))
    assert all(word in message for word in words), message
    assert not (tmp_path / "PWNED").exists()
