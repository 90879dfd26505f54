from dataclasses import replace
from types import SimpleNamespace

import pytest

from mmdet.engine.options import (
    TrainOptions,
    choose_log_interval,
    choose_lr,
    choose_power,
    choose_seed,
    choose_work_dir,
    count_iters,
    read_config,
)
from mmdet.errors import ConfigError

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"


@pytest.fixture(autouse=True)
def in_repo(repo, monkeypatch):
    monkeypatch.chdir(repo)


def test_work_dir_command_line_then_config_then_name():
    assert read_config(TrainOptions(config=CONFIG, work_dir="a")).work_dir == "a"
    assert read_config(TrainOptions(config=CONFIG, cfg_options=["work_dir=b"])).work_dir == "b"
    assert read_config(TrainOptions(config=CONFIG)).work_dir == "work_dirs/scrfd_500m_bnkps"


def test_command_line_wins():
    cfg = read_config(
        TrainOptions(config=CONFIG, amp="O2", seed=5, cfg_options=["amp.loss_scale=dynamic", "seed=3"])
    )
    assert (cfg.amp.level, cfg.amp.loss_scale, cfg.seed) == ("O2", "dynamic", 5)


@pytest.mark.parametrize(
    ("wanted", "resumed", "seed"), [(None, None, 0), (7, None, 7), (None, 4, 4), (7, 4, 7), (0, 4, 0)]
)
def test_seed(wanted, resumed, seed):
    content = None if resumed is None else {"position": {"seed": resumed}}
    assert choose_seed(wanted, content) == seed


def test_iterations():
    options = TrainOptions(config=CONFIG)
    assert count_iters(options, 10, 7) == 70
    assert count_iters(replace(options, max_iters=20), 10, 7) == 20
    assert count_iters(replace(options, epochs=2.5), 3, 7) == 18  # 17.5
    assert count_iters(replace(options, max_iters=100), 10, 7) == 70
    assert count_iters(replace(options, perf=True), 10, 7) == 21
    assert count_iters(replace(options, perf=True, max_iters=100), 10, 7) == 100


def lr_config(base):
    return SimpleNamespace(base_batch_size=base, optimizer={"type": "SGD", "lr": 0.01})


def test_learning_rate_is_scaled_only_on_request(caplog):
    caplog.set_level("INFO")
    assert choose_lr(lr_config(32), 32, is_auto=False)["lr"] == 0.01 and not caplog.records
    assert choose_lr(lr_config(32), 256, is_auto=False)["lr"] == 0.01
    assert "meant for 32 images per step, this run has 256: --auto-scale-lr makes it 0.08" in caplog.text
    assert choose_lr(lr_config(32), 256, is_auto=True)["lr"] == pytest.approx(0.08)
    with pytest.raises(ConfigError, match="base_batch_size"):
        choose_lr(lr_config(None), 8, is_auto=True)


def test_work_dir_must_be_a_folder_that_can_be_written(tmp_path):
    good = tmp_path / "new/deep"
    assert choose_work_dir(SimpleNamespace(work_dir=str(good))) == good and not good.exists()
    (tmp_path / "file").touch()
    for bad in ("file", "file/below"):
        with pytest.raises(ConfigError, match="is a file; choose another --work-dir"):
            choose_work_dir(SimpleNamespace(work_dir=str(tmp_path / bad)))


def test_work_dir_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(ConfigError, match="is not writable; choose another --work-dir"):
        choose_work_dir(SimpleNamespace(work_dir=str(tmp_path / "a")))


def test_an_automatic_rate_follows_the_batch_size():
    adam, sgd = lr_config(16), lr_config(16)
    adam.optimizer = {"type": "AdamW", "lr": 0.002}
    assert (choose_power(adam), choose_power(sgd)) == (0.5, 1.0)
    assert choose_lr(adam, 64, is_auto=True, power=0.5)["lr"] == pytest.approx(0.004)
    assert choose_lr(sgd, 64, is_auto=True)["lr"] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("policy", "given", "total_iters", "interval"),
    [("step", None, 336, 50), ("step", 7, 336, 7), ("auto", 7, 336, 7), ("auto", None, 336, 3)]
    + [("auto", None, 50, 1), ("auto", None, 10**5, 50)],
)
def test_log_interval(policy, given, total_iters, interval):
    cfg = SimpleNamespace(lr=SimpleNamespace(policy=policy), log_interval=given)
    assert choose_log_interval(cfg, total_iters) == interval


def test_loading_what_fits_needs_weights():
    with pytest.raises(ConfigError, match="--load-fitting: give the weights with --load-from FILE"):
        read_config(TrainOptions(config=CONFIG, load_fitting=True))
    by_flag = read_config(TrainOptions(config=CONFIG, load_fitting=True, load_from="a.pth"))
    by_config = read_config(TrainOptions(config=CONFIG, cfg_options=["load_from=a.pth", "load_fitting=True"]))
    assert by_flag.load_fitting and by_config.load_fitting
    assert not read_config(TrainOptions(config=CONFIG, load_from="a.pth")).load_fitting
