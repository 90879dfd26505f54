"""Runs on images as they come: no validation folder, a batch size that is not known, frozen parts."""

import pytest
import torch
from runs import make_options, train

from mmdet.checkpoint import files as checkpoint
from mmdet.config import load_config
from mmdet.datasets.build import build_dataset
from mmdet.datasets.check.problems import find_label_problems
from mmdet.datasets.labels import read_labels
from mmdet.datasets.labels.convert import convert


def test_a_validation_set_is_split_off(repo, faces, tmp_path, capsys):
    (tmp_path / "train").symlink_to(faces / "train")  # no val/
    split = "data.val_split=0.3"
    figures = train(make_options(repo, tmp_path, tmp_path / "w", split, "total_epochs=1"))
    assert figures["AP_hard"] is not None
    assert "easy, medium and hard are the faces of" in capsys.readouterr().out
    cfg = load_config(tmp_path / "w/scrfd_500m_bnkps.py")  # what the run wrote down splits alike
    sets = [build_dataset(one, test_mode=is_test) for one, is_test in
            ((cfg.data.train, False), (cfg.data.val, True), (cfg.data.test, True))]  # fmt: skip
    parts = [set(one.labels.names) for one in sets]
    assert parts[1] == parts[2] and not parts[0] & parts[1] and len(parts[0] | parts[1]) >= 8


def test_the_batch_size_is_chosen_and_stays_on_resuming(repo, faces, tmp_path, capsys):
    options = ["data.samples_per_gpu=-1", "total_epochs=2"]
    figures = train(make_options(repo, faces, tmp_path, *options, max_iters=9, validate=False))
    assert figures["batch_size"] == 1  # 9 images: an epoch keeps eight iterations
    assert "data.samples_per_gpu = -1 becomes 1 (the rule for a CPU" in capsys.readouterr().out
    train(make_options(repo, faces, tmp_path, *options, resume_from="auto", validate=False, max_iters=10))
    assert "continuing at the start" not in capsys.readouterr().out


def test_a_frozen_backbone_keeps_its_weights_through_a_run(repo, faces, tmp_path):
    train(make_options(repo, faces, tmp_path / "a", "total_epochs=1", max_iters=1, validate=False))
    frozen = dict(load_from=str(tmp_path / "a/latest.pth"), freeze=["backbone"], validate=False)
    train(make_options(repo, faces, tmp_path / "b", "total_epochs=1", max_iters=3, **frozen))
    one, two = (checkpoint.load(tmp_path / name / "latest.pth")["state_dict"] for name in "ab")
    same = {key for key in one if torch.equal(one[key], two[key])}
    assert {key for key in one if key.startswith("backbone.")} <= same
    assert any(key.startswith("neck.") for key in one.keys() - same)


@pytest.mark.parametrize("name", ["yolo", "voc"])
def test_another_format_goes_from_conversion_to_a_checkpoint(repo, faces, tmp_path, name):
    """The labels are read as they are, and once more after conversion back: both train alike."""
    folder = tmp_path / name / "labels"  # beside images/, which YOLO's sizes come from
    folder.parent.mkdir()
    (folder.parent / "images").symlink_to(faces / "train/images")
    convert(("labelv2", faces / "train/labelv2.txt"), (name, folder))
    convert((name, folder), ("labelv2", tmp_path / "back.txt"))
    assert not find_label_problems(read_labels(tmp_path / "back.txt", train=True), tmp_path / "back.txt")
    losses = []
    for ann_file, label_format in ((folder, name), (tmp_path / "back.txt", "labelv2")):
        changes = [f"data.train.ann_file={ann_file}", f"data.train.label_format={label_format}"]
        work_dir = tmp_path / f"w_{label_format}"
        losses.append(
            train(make_options(repo, faces, work_dir, *changes, max_iters=1, validate=False))["loss"]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
