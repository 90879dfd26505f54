"""The start-up benchmark: its drawn data set is one, and the stages add up to what a run does."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmark import startup
from mmdet.datasets.labels import read_labels
from mmdet.errors import ConfigError


def test_the_drawn_label_file_reads_back(tmp_path):
    folder = startup.draw_data(tmp_path / "data", num_images=30, num_files=4)
    records = read_labels(folder / "train/labelv2.txt", train=True)
    assert len(records) == 30
    assert 5 < np.mean([len(record.bboxes) for record in records]) < 25
    first = records[0]
    assert (folder / "train/images" / first.name).is_file() and first.size_hw[1] == 1024
    x0, y0, x1, y1 = first.bboxes[0]
    assert x1 - x0 == y1 - y0 >= 8
    assert first.kps[0, 0, 0] == pytest.approx(x0 + 0.3 * (x1 - x0))
    assert len({(folder / "train/images" / record.name).resolve() for record in records}) == 4


@pytest.mark.slow
def test_a_run_is_measured_stage_by_stage():
    config = str(startup.ROOT / "configs/toy/scrfd_500m_bnkps_toy.py")
    args = SimpleNamespace(config=config, data=None, images=24, device="cpu", rounds=1)
    figures = startup.run(args)
    assert figures["num_images"] == 24
    stages = figures["stages_s"]
    assert set(stages) >= {"import_torch", "config_labels_model", "first_batch", "first_step"}
    assert 0 < figures["help_s"] < sum(stages.values()) <= figures["to_first_step_s"]


@pytest.mark.slow
def test_a_failing_run_says_why(tmp_path):
    args = SimpleNamespace(config="absent.py", data=str(tmp_path), device="cpu", rounds=1)
    with pytest.raises(ConfigError, match="startup: exit code 2: .*absent.py"):
        startup.run(args)
