"""YAML configs of ternaus/retinaface: what each key becomes, and what is refused."""

from pathlib import Path

import pytest
import yaml

from mmdet.config import load_config
from mmdet.config.ternaus import PATH_VARIABLES
from mmdet.errors import ConfigError

NORMALIZE = {
    "__class_fullname__": "albumentations.augmentations.transforms.Normalize",
    "max_pixel_value": 255.0,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
    "p": 1,
}
RESIZE = {
    "__class_fullname__": "albumentations.augmentations.geometric.resize.Resize",
    "height": 64,
    "width": 96,
}


def compose(*steps):
    kind = "albumentations.core.composition.Compose"
    return {"transform": {"__class_fullname__": kind, "p": 1, "transforms": list(steps)}}


def small():
    """Return the least a file needs, as plain values."""
    return {
        "seed": 3,
        "num_workers": 1,
        "sync_bn": True,
        "model": {"type": "retinaface.network.RetinaFace", "name": "Resnet50", "out_channels": 64},
        "optimizer": {"type": "torch.optim.SGD", "lr": 0.001, "momentum": 0.9},
        "scheduler": {"type": "torch.optim.lr_scheduler.MultiStepLR", "milestones": [2, 4]},
        "trainer": {"gpus": 4, "max_epochs": 6, "precision": 16, "sync_batchnorm": True},
        "train_parameters": {"batch_size": 4, "rotate90": True},
        "val_parameters": {"batch_size": 2, "iou_threshold": 0.4},
        "checkpoint_callback": {"filepath": "out", "save_top_k": 3, "monitor": "val_loss"},
        "loss": {"num_classes": 2, "overlap_thresh": 0.3, "neg_pos": 5},
        "loss_weights": {"localization": 2, "classification": 1.5, "landmarks": 0.5},
        "prior_box": {"min_sizes": [[16, 32], [64, 128], [256, 512]], "steps": [8, 16, 32], "clip": False},
        "train_aug": compose(RESIZE, NORMALIZE),
        "val_aug": compose(RESIZE, NORMALIZE),
    }


@pytest.fixture
def load(tmp_path, monkeypatch):
    for name in PATH_VARIABLES:
        monkeypatch.setenv(name, f"/data/{name.lower()}")

    def read(values):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_config(path)

    return read


def test_every_part_is_translated(load):
    config = load(small())
    assert config.data.train["ann_file"] == "/data/train_label_path"
    assert config.data.val["img_prefix"] == "/data/val_image_path"
    assert config.data.train["filter_empty_gt"] is False
    assert (config.data.samples_per_gpu, config.data.val_samples_per_gpu) == (4, 2)
    assert config.train_cfg["assigner"]["pos_iou_thr"] == 0.3
    assert config.model["criterion"] == dict(type="MultiBoxCriterion", cls_weight=1.5, neg_pos_ratio=5)
    head = config.model["bbox_head"]
    assert (head["loss_bbox"]["loss_weight"], head["loss_kps"]["loss_weight"]) == (2, 0.5)
    assert (config.lr.policy, config.lr.step, config.total_epochs) == ("step", (2, 4), 6)
    assert (config.amp.level, config.sync_bn, config.seed, config.work_dir) == ("O1", True, 3, "out")
    assert (config.evaluation.metric, config.evaluation.iou_thr) == (("retinaface",), 0.4)
    assert config.evaluation.save_best == "retinaface_AP"
    types = [step["type"] for step in config.data.train["pipeline"]]
    assert (
        types[2:]
        == ["ClipLabels", "RandomRotate90", "RetinaFaceCrop", "PadToSquare", "RandomFlip"] + types[-2:]
    )
    assert config.data.train["pipeline"][-1]["mean"] == pytest.approx([127.5, 102, 76.5])
    assert set(config.unused) == {"sync_bn", "trainer.gpus", "checkpoint_callback.monitor"}


def test_without_the_variables_the_path_says_which_is_missing(load, monkeypatch):
    monkeypatch.delenv("VAL_LABEL_PATH")
    assert load(small()).data.val["ann_file"] == "$VAL_LABEL_PATH"


def test_other_colours_go_to_the_package(load):
    values = small()
    clahe = {"__class_fullname__": "albumentations.augmentations.transforms.CLAHE", "always_apply": True}
    values["train_aug"] = compose(clahe, RESIZE, NORMALIZE)
    pipeline = load(values).data.train["pipeline"]
    assert dict(type="Albumentations", steps=[dict(type="CLAHE", p=1.0)]) in pipeline


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (None, "warmup", 3, "key = 'warmup' is unknown|key 'warmup'|warmup"),
        ("loss", "focal", True, "focal"),
        ("trainer", "max_epoch", 3, "did you mean 'max_epochs'"),
        ("trainer", "accumulate_grad_batches", 4, "accumulate_grad_batches = 4 is not supported; use 1"),
        ("model", "name", "mobilenet", "model.name = 'mobilenet' is not supported; use Resnet50"),
        ("prior_box", "clip", True, "prior_box.clip = True is not supported"),
        ("scheduler", "type", "torch.optim.lr_scheduler.OneCycleLR", "scheduler.type"),
        ("loss", "num_classes", 3, "loss.num_classes = 3"),
    ],
)
def test_what_has_no_meaning_here_is_refused(load, section, key, value, message):
    values = small()
    (values if section is None else values[section])[key] = value
    with pytest.raises(ConfigError, match=message):
        load(values)


def test_a_file_without_a_size_is_refused(load):
    with pytest.raises(ConfigError, match=r"val_aug.transform has no Resize"):
        load({**small(), "val_aug": compose(NORMALIZE)})


def test_the_file_of_the_shared_cases(shared):
    path: Path = shared / "cases/retinaface/example.yaml"
    if not path.is_file():
        pytest.skip(f"no {path}")
    config = load_config(path)
    assert (config.lr.policy, config.lr.T_0, config.lr.T_mult) == ("CosineRestarts", 4, 2)
    assert config.model["neck"]["in_channels"] == [512, 1024, 2048]
    assert "experiment_name" in config.unused
