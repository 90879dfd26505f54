"""--epochs N and --schedule auto: what becomes of a file's milestones and intervals, typed by hand."""

import pytest

from mmdet.config import load_config
from mmdet.config.fit import automatic_interval
from mmdet.errors import ConfigError

PUBLISHED = "configs/scrfd/scrfd_500m_bnkps.py"  # 640 epochs, milestones 440 and 544, AP every 80
NEW = """
model = dict(type="SCRFD", backbone=dict(type="MobileNetV1"), bbox_head=dict(type="SCRFDHead"))
data = dict(samples_per_gpu=8, train=dict(type="D"))
optimizer = dict(type="SGD", lr=0.01)
total_epochs = 45
"""


@pytest.fixture
def new(tmp_path):
    """Return a function that loads NEW plus some lines."""

    def load(extra="", **others):
        path = tmp_path / "new.py"
        path.write_text(NEW + extra)
        return load_config(path, **others)

    return load


def numbers(cfg):
    return (
        cfg.total_epochs,
        cfg.lr.step,
        cfg.evaluation.interval,
        cfg.checkpoint.interval,
        cfg.lr.warmup_iters,
    )


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (None, (640, (440, 544), 80, 10, 1500)),
        (640, (640, (440, 544), 80, 10, 1500)),
        (80, (80, (55, 68), 10, 1, 1500)),
        (20, (20, (14, 17), 2, 1, 1500)),
        (1280, (1280, (880, 1088), 160, 20, 1500)),
        (1, (1, (1,), 1, 1, 1500)),
        (79.5, (80, (55, 68), 10, 1, 1500)),
    ],
)
def test_a_recipe_is_scaled(epochs, expected, repo):
    assert numbers(load_config(repo / PUBLISHED, epochs=epochs)) == expected


def test_what_the_user_sets_is_not_scaled(repo):
    options = {"lr_config.step": [30, 40], "evaluation": {"interval": 3}}
    assert numbers(load_config(repo / PUBLISHED, options, epochs=80)) == (80, (30, 40), 3, 1, 1500)


def test_a_scaled_config_is_saved_as_it_is_used(repo, tmp_path):
    cfg = load_config(repo / PUBLISHED, epochs=80)
    (tmp_path / "again.py").write_text(cfg.text)
    assert numbers(load_config(tmp_path / "again.py")) == numbers(cfg)


def test_periods_start_and_max_epochs_are_scaled(new):
    restarts = "lr_config = dict(policy='CosineRestarts', T_0=9, T_mult=2)\n"
    cfg = new(restarts + "evaluation = dict(interval=15, start=30)\n", epochs=15)
    assert (cfg.lr.T_0, cfg.lr.T_mult, cfg.evaluation.interval, cfg.evaluation.start) == (3, 2, 5, 10)
    cfg = new("runner = dict(type='EpochBasedRunner', max_epochs=45)\n", epochs=15)
    assert cfg.total_epochs == 15


def test_iters_between_checkpoints_are_not_epochs(new):
    cfg = new("checkpoint_config = dict(interval=500, by_epoch=False)\n", epochs=15)
    assert cfg.checkpoint.interval_iters == 500


def test_two_lengths_contradict(repo):
    with pytest.raises(ConfigError, match=r"--epochs 20 contradicts --cfg-options total_epochs=30"):
        load_config(repo / PUBLISHED, ["total_epochs=30"], epochs=20)


@pytest.mark.parametrize(("epochs", "interval"), [(1, 1), (7, 1), (20, 1), (21, 2), (45, 3), (640, 32)])
def test_an_automatic_interval_gives_about_twenty_evaluations(epochs, interval):
    assert automatic_interval(epochs) == interval


def test_a_file_without_lr_config_is_automatic(new):
    cfg = new("evaluation = dict()\n")
    assert (cfg.lr.policy, cfg.evaluation.interval, cfg.checkpoint.interval) == ("auto", 3, 3)
    assert new().evaluation is None
    assert new("evaluation = dict(interval=5)\n").evaluation.interval == 5
    assert new("lr_config = dict(policy='step', step=[30])\n").checkpoint.interval == 1


def test_an_automatic_schedule_replaces_a_recipe(repo):
    cfg = load_config(repo / PUBLISHED, ["evaluation.interval=4"], epochs=60, schedule="auto")
    assert (cfg.lr.policy, cfg.lr.warmup, cfg.lr.step, cfg.log_interval) == ("auto", None, (), None)
    assert (cfg.evaluation.interval, cfg.checkpoint.interval, cfg.total_epochs) == (4, 3, 60)


def test_what_an_automatic_schedule_chooses_is_refused(new):
    with pytest.raises(ConfigError, match="'auto' chooses step, warmup itself"):
        new("lr_config = dict(policy='auto', step=[3], warmup='linear')\n")
